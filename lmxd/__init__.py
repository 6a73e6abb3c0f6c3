"""lmxd: admission control for GPU memory."""

__version__ = "0.5.0"
