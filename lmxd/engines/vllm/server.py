"""vLLM as an ``Engine``: command line, readiness, activity, diagnosis."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from lmxd.accounts import SystemUser
from lmxd.engines.engine import Activity, Command, Diagnosis, Endpoint, Plan
from lmxd.engines.http import get, post
from lmxd.engines.metrics import EngineFigures, FigureNames
from lmxd.engines.visibility import Gpu
from lmxd.engines.vllm.command import command
from lmxd.engines.vllm.installation import Installation, find, installation, stamp
from lmxd.engines.vllm.log import diagnose
from lmxd.errors import LmxdError
from lmxd.estimate.backends import Backend

log = logging.getLogger(__name__)

_FIGURES: Final = FigureNames(
    running="vllm:num_requests_running",
    waiting="vllm:num_requests_waiting",
    prompted="vllm:prompt_tokens_total",
    generated="vllm:generation_tokens_total",
)


class VllmServer:
    """vLLM as an engine. It speaks to instances over HTTP, by their Unix sockets."""

    called: Final = "vLLM"

    def __init__(
        self,
        configured: Path | None,
        env: Mapping[str, str] | None = None,
        account: SystemUser | None = None,
        key: str = "engines.vllm.path",
    ) -> None:
        """``env``: variables that its instances get. ``key``: the key of the configuration that names it.

        ``account``: the user that they run as, of no account here: the program is asked nothing.
        """
        self.key = key
        self._configured = configured
        self._env = env
        self._metrics = EngineFigures(_FIGURES.believed, log)

    def binary(self) -> Installation:
        """LmxdError ``engine_missing`` if there is none."""
        return installation(find(self._configured, self.key), self.key)

    def stamp(self) -> object:
        try:
            return stamp(find(self._configured, self.key))
        except LmxdError:
            return None

    def require(self) -> None:
        self.binary()

    def backends(self, cards: frozenset[str], *, asleep: bool = False) -> frozenset[Backend] | None:
        return self.binary().backends

    def unreached(self, gpus: Iterable[Gpu], *, asleep: bool = False) -> Iterator[str]:
        yield from ()

    @property
    def needs_gpu(self) -> bool:
        """A build for GPUs has no kernels for the processor."""
        try:
            return bool(self.binary().backends)
        except LmxdError:
            return False

    def command(self, plan: Plan) -> Command:
        return command(self.binary(), plan, self._env)

    async def ready(self, endpoint: Endpoint) -> bool:
        status, _ = await get(endpoint, endpoint.health)
        return status == 200

    async def activity(self, endpoint: Endpoint) -> Activity | None:
        return _FIGURES.activity(await self._metrics.ask(endpoint))

    async def save(self, endpoint: Endpoint, slots: int) -> bool:
        return False

    async def restore(self, endpoint: Endpoint, slots: int) -> bool:
        return False

    async def put_to_sleep(self, endpoint: Endpoint, seconds: float) -> bool:
        """Level 1: the weights move to RAM. It is idle, so that there is no request to be aborted."""
        status, _ = await post(endpoint, "/sleep?level=1", {}, seconds)
        return status == 200 and await self.asleep(endpoint) is True

    async def wake(self, endpoint: Endpoint, seconds: float) -> bool:
        status, _ = await post(endpoint, "/wake_up", {}, seconds)
        return status == 200 and await self.asleep(endpoint) is False and await self.ready(endpoint)

    async def asleep(self, endpoint: Endpoint) -> bool | None:
        status, text = await get(endpoint, "/is_sleeping")
        try:
            said = json.loads(text).get("is_sleeping") if status == 200 else None
        except (ValueError, AttributeError, RecursionError):
            return None
        return said if isinstance(said, bool) else None

    def misplaced(self, plan: Plan, log: Sequence[str]) -> str | None:
        return None

    def buffers(self, plan: Plan, log: Sequence[str]) -> float:
        return 0.0

    def diagnose(self, plan: Plan, status: int | None, log: Sequence[str]) -> Diagnosis:
        return diagnose(status, log)
