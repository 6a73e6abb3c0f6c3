"""A foreign CUDA process: takes the given GiB of GPU 0 and holds them until it is ended."""

from __future__ import annotations

import ctypes
import sys
import time


def main() -> None:
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context, address = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    for name, *arguments in (
        ("cuInit", 0),
        ("cuDeviceGet", ctypes.byref(device), 0),
        ("cuDevicePrimaryCtxRetain", ctypes.byref(context), device),
        ("cuCtxSetCurrent", context),
        ("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(int(float(sys.argv[1]) * 2**30))),
    ):
        status = getattr(cuda, name)(*arguments)
        if status:
            sys.exit(f"{name}: {status}")
    print("held", flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    main()
