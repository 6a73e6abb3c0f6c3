"""The kinds of engine: the one place where each finds its own module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from lmxd.accounts import SystemUser
from lmxd.engines.engine import EngineKind, InstalledServer
from lmxd.engines.llama_cpp.server import LlamaServer
from lmxd.engines.sglang.server import SglangServer
from lmxd.engines.tgi.server import TgiServer
from lmxd.engines.vllm.server import VllmServer

_Maker: TypeAlias = Callable[[Path | None, Mapping[str, str], SystemUser | None, str], InstalledServer]
_SERVERS: Final[Mapping[EngineKind, _Maker]] = {
    EngineKind.LLAMA_CPP: LlamaServer,
    EngineKind.VLLM: VllmServer,
    EngineKind.SGLANG: SglangServer,
    EngineKind.TGI: TgiServer,
}


def server(
    kind: EngineKind, path: Path | None, env: Mapping[str, str], account: SystemUser | None, key: str
) -> InstalledServer:
    """The engine of a kind that has a program. ``path``: as configured; ``env``: variables for its instances.

    ``account``: the user that they run as; None for ours. ``key``: the key of the configuration that names it.
    """
    return _SERVERS[kind](path, env, account, key)
