"""SGLang as an ``Engine``: program, figures, command line, diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from lmxd.engines.distribution import required
from lmxd.engines.engine import Command, Diagnosis, Plan
from lmxd.engines.metered import MeteredServer
from lmxd.engines.metrics import FigureNames
from lmxd.engines.programs import FoundProgram, program
from lmxd.engines.sglang.command import command
from lmxd.engines.sglang.log import diagnose

_HOW: Final = "pip install sglang, in an environment of its own"


class SglangServer(MeteredServer):
    """SGLang as an engine. It speaks to instances over HTTP, with their keys."""

    called: ClassVar = "SGLang"
    figures: ClassVar = FigureNames(
        running="sglang:num_running_reqs",
        waiting="sglang:num_queue_reqs",
        prompted="sglang:prompt_tokens_total",
        generated="sglang:generation_tokens_total",
    )

    def binary(self) -> FoundProgram:
        path = program("sglang", self._configured, self.key, _HOW)
        return FoundProgram(path, required(path, self.called, self.key, "sglang").version, self.key)

    def command(self, plan: Plan) -> Command:
        return command(self.binary().path, plan, self.shown(plan), self._env)

    def diagnose(self, plan: Plan, status: int | None, log: Sequence[str]) -> Diagnosis:
        return diagnose(status, log)
