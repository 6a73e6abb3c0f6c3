"""lmxd: admission control for GPU memory."""

__version__ = "0.4.0"
