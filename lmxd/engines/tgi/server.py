"""Text Generation Inference as an ``Engine``: program, figures, command line, diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from lmxd.engines.engine import Command, Diagnosis, Plan
from lmxd.engines.metered import MeteredServer
from lmxd.engines.metrics import FigureNames
from lmxd.engines.programs import FoundProgram, program
from lmxd.engines.tgi.command import command
from lmxd.engines.tgi.log import diagnose

_HOW: Final = "from its sources, or out of its container"


class TgiServer(MeteredServer):
    """Text Generation Inference as an engine. It speaks to instances over HTTP, with their keys."""

    called: ClassVar = "TGI"
    figures: ClassVar = FigureNames(
        running="tgi_batch_current_size",
        waiting="tgi_queue_size",
        prompted="tgi_request_input_length_sum",
        generated="tgi_request_generated_tokens_sum",
    )

    def binary(self) -> FoundProgram:
        return FoundProgram(program("text-generation-launcher", self._configured, self.key, _HOW), "", self.key)

    def command(self, plan: Plan) -> Command:
        return command(self.binary().path, plan, self.shown(plan), self._env)

    def diagnose(self, plan: Plan, status: int | None, log: Sequence[str]) -> Diagnosis:
        return diagnose(status, log)
