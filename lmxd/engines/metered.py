"""A server whose own figures say what it does: the parts that vLLM, SGLang and TGI have in common."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from lmxd.accounts import SystemUser
from lmxd.engines.engine import Activity, Endpoint, Plan
from lmxd.engines.http import get
from lmxd.engines.metrics import EngineFigures, FigureNames
from lmxd.engines.programs import FoundProgram
from lmxd.engines.visibility import HIDDEN, Gpu, natively
from lmxd.errors import LmxdError
from lmxd.estimate.backends import Backend

log = logging.getLogger(__name__)

OFFLINE: Final = {"HF_HUB_OFFLINE": "1"}
"""The model is on disk: a path that is not there is no name of one to fetch."""


class MeteredServer(ABC):
    """One of these servers as an engine, but for its command line and its last words."""

    called: ClassVar[str]
    figures: ClassVar[FigureNames]

    def __init__(
        self, configured: Path | None, env: Mapping[str, str] | None, account: SystemUser | None, key: str
    ) -> None:
        """``env``: variables that its instances get. ``key``: the key of the configuration that names it.

        ``account``: the user that they run as, of no account here: the program is asked nothing.
        """
        self.key = key
        self._configured = configured
        self._env = env
        self._metrics = EngineFigures(self.figures.believed, log)

    @abstractmethod
    def binary(self) -> FoundProgram:
        """LmxdError ``engine_missing`` if there is none."""

    def stamp(self) -> object:
        try:
            return self.binary().stamp()
        except LmxdError:
            return None

    def require(self) -> None:
        self.binary()

    def backends(self, cards: frozenset[str], *, asleep: bool = False) -> frozenset[Backend] | None:
        return self.binary().backends

    @property
    def needs_gpu(self) -> bool:
        """A build for GPUs has no kernels for the processor."""
        try:
            return bool(self.binary().backends)
        except LmxdError:
            return False

    def unreached(self, gpus: Iterable[Gpu], *, asleep: bool = False) -> Iterator[str]:
        yield from ()

    async def ready(self, endpoint: Endpoint) -> bool:
        status, _ = await get(endpoint, endpoint.health)
        return status == 200

    async def activity(self, endpoint: Endpoint) -> Activity | None:
        return self.figures.activity(await self._metrics.ask(endpoint))

    async def save(self, endpoint: Endpoint, slots: int) -> bool:
        return False

    async def restore(self, endpoint: Endpoint, slots: int) -> bool:
        return False

    def misplaced(self, plan: Plan, log: Sequence[str]) -> str | None:
        return None

    def buffers(self, plan: Plan, log: Sequence[str]) -> float:
        return 0.0

    def shown(self, plan: Plan) -> dict[str, str]:
        """The variables that show it its GPUs, and no other. LmxdError if it lacks some, or has none for these."""
        if not plan.gpus:
            if not self.needs_gpu:
                return dict(HIDDEN)
            problem = f"{self.called} runs on GPUs alone, and {plan.profile} was to run in RAM"
            raise LmxdError("engine_missing", problem, "choose a machine with a GPU, or engine: llama.cpp")
        if (found := natively(plan.gpus)) is None:
            names = ", ".join(plan.gpu_ids)
            problem = f"{self.called} cannot be told to use {names} alone"
            raise LmxdError("engine_missing", problem, "choose another device")
        return found
