"""The way in which llama-server reads a model file: one flag of newer builds says it, several of older ones.

Source: common/arg.cpp of build 11434 (``--load-mode``) and of 10068 (``--mlock``, ``--no-mmap``, ``--direct-io``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, get_args

from lmxd.engines.llama_cpp.flags import Given, given

LoadMode = Literal["auto", "mmap", "mlock", "mmap+mlock", "none", "dio"]
"""As newer builds call them. mlock alone reads the file into memory that stays."""
MODES: Final[tuple[str, ...]] = get_args(LoadMode)

_FLAGS: Final = ("--load-mode", "-lm")
_AFTER: Final = {
    "--mlock": {"auto": "mmap+mlock", "mmap": "mmap+mlock", "none": "mlock"},
    "--no-mmap": {"auto": "none", "mmap": "none", "mmap+mlock": "mlock"},
    "--mmap": {"none": "auto", "mlock": "mmap+mlock"},
    "--direct-io": dict.fromkeys(MODES, "dio"),
    "-dio": dict.fromkeys(MODES, "dio"),
    "--no-direct-io": {"dio": "auto"},
    "-ndio": {"dio": "auto"},
}
"""Switch of older builds -> the mode after it, by the mode before; others stay."""
_OLDER: Final = {
    "mmap": ("--mmap",),
    "mlock": ("--no-mmap", "--mlock"),
    "mmap+mlock": ("--mmap", "--mlock"),
    "none": ("--no-mmap",),
    "dio": ("--direct-io",),
}


def says_mode(item: Given) -> bool:
    """Whether a flag is about it."""
    return item.name in _FLAGS or item.name in _AFTER


def mode_of(items: Sequence[Given]) -> str:
    """The mode that flags say together; it may be none of MODES. The last word counts."""
    mode = "auto"
    for item in items:
        mode = item.value if item.name in _FLAGS else _AFTER.get(item.name, {}).get(mode, mode)
    return mode


def is_mapped(words: Sequence[str]) -> bool:
    """Whether the file is mapped, so that the page cache has its weights."""
    return mode_of(list(given(words))) in ("auto", "mmap", "mmap+mlock")


def spelled(knows: Callable[[str], bool], words: Sequence[str]) -> Iterator[str]:
    """The same flags as a build spells them, which ``knows`` some."""
    items = list(given(words))
    for item in items:
        if not says_mode(item):
            yield from (item.name, *item.values)
    mode = mode_of(items)
    if mode != "auto" and knows("--load-mode"):
        yield from ("--load-mode", mode)
    elif mode != "auto":
        yield from _OLDER[mode]
