"""vLLM as an ``Engine``: command line, readiness, activity, diagnosis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import ClassVar

from lmxd.engines.engine import Command, Diagnosis, Endpoint, Plan
from lmxd.engines.http import get, post
from lmxd.engines.metered import MeteredServer
from lmxd.engines.metrics import FigureNames
from lmxd.engines.programs import FoundProgram
from lmxd.engines.vllm.command import command
from lmxd.engines.vllm.installation import find, installation
from lmxd.engines.vllm.log import diagnose


class VllmServer(MeteredServer):
    """vLLM as an engine. It speaks to instances over HTTP, by their Unix sockets."""

    called: ClassVar = "vLLM"
    figures: ClassVar = FigureNames(
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        prompted="vllm:prompt_tokens_total",
        generated="vllm:generation_tokens_total",
    )

    def binary(self) -> FoundProgram:
        return installation(find(self._configured, self.key), self.key)

    def command(self, plan: Plan) -> Command:
        return command(self.binary().path, plan, self.shown(plan), self._env)

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

    def diagnose(self, plan: Plan, status: int | None, log: Sequence[str]) -> Diagnosis:
        return diagnose(status, log)
