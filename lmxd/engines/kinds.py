"""The kinds of engine: the one place where each finds its own module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from lmxd.accounts import SystemUser
from lmxd.engines.engine import EngineKind, Server
from lmxd.engines.llama_cpp.server import LlamaServer
from lmxd.engines.vllm.server import VllmServer

_SERVERS: Final[Mapping[EngineKind, Callable[[Path | None, Mapping[str, str], SystemUser | None, str], Server]]] = {
    EngineKind.LLAMA_CPP: LlamaServer,
    EngineKind.VLLM: VllmServer,
}


def server(kind: EngineKind, path: Path | None, env: Mapping[str, str], account: SystemUser | None, key: str) -> Server:
    """The engine of a kind that has a program. ``path``: as configured; ``env``: variables for its instances.

    ``account``: the user that they run as; None for ours. ``key``: the key of the configuration that names it.
    """
    return _SERVERS[kind](path, env, account, key)
