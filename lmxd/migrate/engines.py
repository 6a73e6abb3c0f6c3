"""The llama-servers that ran models elsewhere, as engines. A file does not choose what is run: they are suggested."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import PurePosixPath
from typing import Any, Final, TypeVar

from lmxd.config.names import fitting
from lmxd.engines.engine import EngineKind
from lmxd.engines.llama_cpp.binary import find
from lmxd.errors import LmxdError

_USUAL: Final = frozenset("/ .. bin build release llama-server llama.cpp llama server usr local opt app".split())
"""Parts of a path that tell no engine from another."""
_HOME: Final = re.compile(r"^(?:/home/[^/]+|/root|~)/")
_BUILDS: Final = re.compile(r"(?i)(?<![a-z])(cuda|vulkan|rocm|hip|sycl|musa|cpu)(?![a-z])")


@dataclass(frozen=True, slots=True)
class Server:
    """The llama-server that ran a model: its program, empty for the one that lmxd finds, and variables for it."""

    program: str = ""
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of an engine that is the same."""
        path = {"path": self.program} if self.program else {}
        return path | ({"environment": dict(self.environment)} if self.environment else {})

    @property
    def said(self) -> dict[str, str]:
        """The same, each as one line."""
        variables = " ".join(f"{name}={value}" for name, value in self.environment)
        said = {"path": self.program, "environment": variables}
        return {key: words for key, words in said.items() if words}


def server(program: str, environment: Iterable[tuple[str, str]] = ()) -> Server:
    """The llama-server of a command line. The one that lmxd finds by itself needs no name."""
    return Server("" if program in ("llama-server", _own()) else program, tuple(sorted(environment)))


def _own() -> str | None:
    try:
        return str(find(None))
    except LmxdError:
        return None


def named(servers: Sequence[Server]) -> dict[str, Server]:
    """Names for them, by their paths."""
    return distinct((each, name_of(each.program)) for each in servers)


_Named = TypeVar("_Named")


def distinct(wanted: Iterable[tuple[_Named, str]]) -> dict[str, _Named]:
    """The same by names that no other has, and that are no kinds of engines."""
    found: dict[str, _Named] = {}
    for each, name in wanted:
        numbers = (name if number == 1 else f"{name}-{number}" for number in count(1))
        found[next(free for free in numbers if free not in found and free not in list(EngineKind))] = each
    return found


def name_of(program: str) -> str:
    """A name for the engine at a path: the kind of build that is in it, else what tells the path from others."""
    if builds := _BUILDS.findall(program):
        return str(builds[-1]).lower()
    parts = [part for part in PurePosixPath(_HOME.sub("/", program)).parts if part.lower() not in _USUAL]
    return fitting(parts[-1])[:40].rstrip("/") if parts else "engine"
