"""One instance as the daemon knows it: how it was started, its process, and where it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from lmxd.daemon.prompts import PromptCache
from lmxd.engines.engine import Address, Endpoint, Engine, Plan
from lmxd.instances.logs import Log
from lmxd.instances.process import Process


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Seconds, and bytes of log and of RAM."""

    load_timeout: float
    stop_timeout: float
    log_cap: int
    memory_max: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """How an instance was started: with what an earlier daemon's ledger says, all that it takes to adopt it.

    ``poll``: seconds between two looks at what it does. ``prompts_for``: the one uid that its prompt cache is of.
    """

    plan: Plan
    limits: Limits
    poll: float
    address: Address | None = None
    prompts_for: int | None = None


STARTS: Final = TypeAdapter(Start)


def as_json(start: Start) -> str:
    """What it was given by its environment may be secret, and is not needed any more."""
    return STARTS.dump_json(start, exclude={"plan": {"env"}}).decode()


@dataclass(kw_only=True, slots=True)
class Launched:
    start: Start
    engine: Engine
    log: Log
    locks: Sequence[asyncio.Lock] = ()
    """Of the devices that it loads on."""
    prompts: PromptCache | None = None
    process: Process | None = None
    key: str = ""
    endpoint: Endpoint | None = None
    ready_at: float | None = None
    adopted: bool = False
    """An earlier daemon started it: what it took when it was ready is not known."""
    stopping: bool = False
    work: float = 0.0
    prompted: float = 0.0

    @property
    def plan(self) -> Plan:
        return self.start.plan
