"""The steps of an elastic model as tables show them."""

from __future__ import annotations

from collections.abc import Mapping

from lmxd.cli import output
from lmxd.cli.output import MIB
from lmxd.rpc.books import GrowthInfo, StepInfo
from lmxd.terminal import say


def show(growth: GrowthInfo, called: Mapping[str, str]) -> None:
    """Its steps, each with its bytes, and what becomes of a conversation that grows. ``called``: devices' names."""
    rows = [(f"{step.ctx}", f"{step.slots}", step.problem or _sizes(step, called)) for step in growth.steps]
    first = ">GROWS TO CTX" if growth.share is None else ">ONE CACHE OF"
    output.table((first, ">SLOTS", "AN INSTANCE TAKES"), rows, "")
    if growth.share is not None:
        say(f"a conversation has one slot for every {growth.share} tokens that it needs")
    elif growth.not_carried is None:
        say("a conversation that grows is carried along")
    else:
        more = growth.swa_full_bytes
        takes = "" if more is None else f"; swa_full takes {more / MIB:,.0f} MiB more for an instance at most"
        say(f"a conversation that grows is processed anew: {growth.not_carried}{takes}")


def _sizes(step: StepInfo, called: Mapping[str, str]) -> str:
    return output.sizes(step.bytes, called) if step.bytes else "what it takes where it is divided"
