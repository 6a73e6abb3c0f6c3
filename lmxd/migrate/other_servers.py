"""Command lines of vLLM, SGLang and Text Generation Inference, by whichever name they are started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lmxd.engines.engine import EngineKind
from lmxd.migrate import programs

_PYTHON: Final = re.compile(r"python[0-9.]*")
_MODULES: Final = {
    "vllm.entrypoints.openai.api_server": EngineKind.VLLM,
    "sglang.launch_server": EngineKind.SGLANG,
}
"""Modules that Python runs as a server."""
_SERVE: Final = {"vllm": EngineKind.VLLM, "sglang": EngineKind.SGLANG}
"""Programs that serve, told to with their first word."""
_LAUNCHER: Final = "text-generation-launcher"
_IMAGES: Final = (
    (re.compile("(?i)vllm-openai"), EngineKind.VLLM),
    (re.compile("(?i)text-generation-inference"), EngineKind.TGI),
)
"""Images whose entry point is the server: what follows are its words."""


@dataclass(frozen=True, slots=True)
class OtherServer:
    """One of these servers, and the words that follow its name. ``program``: as it was called."""

    kind: EngineKind
    words: tuple[str, ...]
    program: str = ""


def other_server(argv: Sequence[str]) -> OtherServer | None:
    """The server that a command line starts; None if it is none of these."""
    if not argv:
        return None
    name = programs.name_of(argv[0])
    if _PYTHON.fullmatch(name) and "-m" in argv[1:5]:
        at = list(argv).index("-m")
        kind = _MODULES.get(argv[at + 1]) if at + 1 < len(argv) else None
        return None if kind is None else OtherServer(kind, tuple(argv[at + 2 :]))
    if name in _SERVE and argv[1:2] == ["serve"]:
        return OtherServer(_SERVE[name], tuple(argv[2:]), argv[0])
    return OtherServer(EngineKind.TGI, tuple(argv[1:]), argv[0]) if name == _LAUNCHER else None


def in_container(image: str, words: Sequence[str]) -> OtherServer | None:
    """The same of a container, whose image may be the server itself."""
    if (found := other_server(words)) is not None:
        return OtherServer(found.kind, found.words)
    kind = next((kind for pattern, kind in _IMAGES if pattern.search(image)), None)
    return None if kind is None else OtherServer(kind, tuple(words))
