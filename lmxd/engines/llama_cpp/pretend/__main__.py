"""Runs llama-server's own code in this process beside pretended GPUs: what it would allocate there it prints.

``python -m lmxd.engines.llama_cpp.pretend LIBRARIES CARDS BYTES ARGUMENTS…``: the child of
lmxd/engines/llama_cpp/dry_run.py. BYTES is the size of the model file.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import Final

from lmxd.engines.llama_cpp.pretend.cards import BUFFER_TYPE, Cards
from lmxd.engines.llama_cpp.pretend.rules import i32

_SPACE: Final = 96 * 2**30
"""Bytes of address space beside the model file: libraries with GPU kernels reserve a lot, and use little."""

_SECONDS: Final = 60
"""Seconds of processor time, in case that nobody is left to end it."""
_NO_NEW_PRIVILEGES, _NEW_USER, _NEW_NETWORK = 38, 0x10000000, 0x40000000
"""PR_SET_NO_NEW_PRIVS of prctl(2); CLONE_NEWUSER and CLONE_NEWNET of unshare(2)."""
_UNAVAILABLE: Final = 69
"""EX_UNAVAILABLE of sysexits(3)."""
_P = ctypes.c_void_p


def confine(model_bytes: int) -> None:
    """No core dumps, no files written, an end to memory and time, no new privileges, and no network if possible."""
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_AS, model_bytes + _SPACE),
    ):
        resource.setrlimit(limit, (value, value))
    libc = ctypes.CDLL(None)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.unshare(_NEW_NETWORK) != 0:  # without privileges it takes a user namespace, where they are allowed
        libc.unshare(_NEW_USER | _NEW_NETWORK)


def main(libraries: str, cards: str, model_bytes: str, *arguments: str) -> int:
    """See the module. Returns what llama-server returns, or EX_UNAVAILABLE if this build cannot be asked."""
    confine(int(model_bytes))
    here = Path(libraries)
    base, ggml = (ctypes.CDLL(str(here / name), mode=ctypes.RTLD_GLOBAL) for name in ("libggml-base.so", "libggml.so"))
    ggml.ggml_backend_reg_by_name.restype = _P
    cpu = ggml.ggml_backend_reg_by_name(b"CPU")
    api = i32(cpu) if cpu else 0
    if api not in BUFFER_TYPE:
        sys.stderr.write(f"pretend: unknown backend interface {api}\n")
        return _UNAVAILABLE
    if int(cards):
        pretended = Cards(base, api, int(cards))
        ggml.ggml_backend_register(_P(ctypes.addressof(pretended.reg)))
    server = ctypes.CDLL(str(here / "libllama-server-impl.so"), mode=ctypes.RTLD_GLOBAL)
    argv = (ctypes.c_char_p * (len(arguments) + 2))(b"llama-server", *(os.fsencode(a) for a in arguments), None)
    status: int = server._Z12llama_serveriPPc(len(arguments) + 1, argv)
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
