"""Runs llama-server's own code in this process beside pretended GPUs: what it would allocate there it prints.

``python -m lmxd.engines.llama_cpp.pretend LIBRARIES CARDS FILES SCRATCH ARGUMENTS…``: the child of
lmxd/engines/llama_cpp/dry_run.py. FILES is a JSON list of the model's files, SCRATCH a directory for a socket.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Final

from lmxd.confinement.confined import confine
from lmxd.confinement.landlock import READ, RUN, Right
from lmxd.engines.llama_cpp.pretend.cards import BUFFER_TYPE, Cards
from lmxd.engines.llama_cpp.pretend.rules import i32

_SPACE: Final = 96 * 2**30
"""Bytes of address space beside the model file: libraries with GPU kernels reserve a lot, and use little."""

_SECONDS: Final = 60
"""Seconds of processor time, in case that nobody is left to end it."""
_UNAVAILABLE: Final = 69
"""EX_UNAVAILABLE of sysexits(3)."""
_P = ctypes.c_void_p


def main(libraries: str, cards: str, files: str, scratch: str, *arguments: str) -> int:
    """See the module. Returns what llama-server returns, or EX_UNAVAILABLE if this build cannot be asked."""
    here, model = Path(libraries), [Path(name) for name in json.loads(files)]
    places = [here, *(Path(name) for name in os.environ.get("LD_LIBRARY_PATH", "").split(":") if name)]
    confine(
        dict.fromkeys(places, RUN) | dict.fromkeys(model, READ) | {Path(scratch): Right.MAKE_SOCK},
        memory=sum(file.stat().st_size for file in model) + _SPACE,
        seconds=_SECONDS,
    )
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
