"""A CUDA process with nothing but a context on GPU 0, with so many bytes of stack for each thread; 0: the default."""

from __future__ import annotations

import ctypes
import signal
import sys

_STACK_SIZE = 0
"""CU_LIMIT_STACK_SIZE of cuda.h."""


def main() -> None:
    cuda, stack = ctypes.CDLL("libcuda.so.1"), int(sys.argv[1])
    device, context = ctypes.c_int(), ctypes.c_void_p()
    calls: list[tuple[object, ...]] = [
        ("cuInit", 0),
        ("cuDeviceGet", ctypes.byref(device), 0),
        ("cuDevicePrimaryCtxRetain", ctypes.byref(context), device),
        ("cuCtxSetCurrent", context),
    ]
    if stack:
        calls.append(("cuCtxSetLimit", _STACK_SIZE, ctypes.c_size_t(stack)))
    for name, *arguments in calls:
        if status := getattr(cuda, str(name))(*arguments):
            sys.exit(f"{name}: {status}")
    print("held", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
