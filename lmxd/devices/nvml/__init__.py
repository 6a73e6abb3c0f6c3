"""NVIDIA GPUs through NVML. Each fault is of one card; only one that all cards share closes NVML."""

from lmxd.devices.nvml.probe import NvmlProbe

__all__ = ["NvmlProbe"]
