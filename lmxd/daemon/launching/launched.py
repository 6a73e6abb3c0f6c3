"""One instance as the daemon knows it: how it was started, its process, and where it answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, TypeAdapter

from lmxd.core.moves import Carry
from lmxd.core.words import Failure, InstanceId
from lmxd.daemon.launching.doorway import Doorway
from lmxd.daemon.launching.prompts import PromptCache
from lmxd.engines.engine import Activity, Address, Endpoint, Engine, Plan, of_older
from lmxd.instances.logs import Log
from lmxd.instances.process import Process


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits of one start: seconds, and bytes of log and of RAM."""

    load_timeout: float
    stop_timeout: float
    log_cap: int
    memory_max: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """The settings that an instance was started with: all that it takes, beside the ledger, to adopt it.

    ``poll``: seconds between two looks at what it does. ``kept``: where its prompt cache is kept when it has ended.
    ``uid``: the user that its engine was started as; None for lmxd's own, and in what an earlier lmxd wrote.
    """

    plan: Annotated[Plan, BeforeValidator(of_older)]
    limits: Limits
    poll: float
    address: Address | None = None
    kept: Path | None = None
    uid: int | None = None

    @property
    def instance(self) -> InstanceId:
        """The id of the instance in the core's terms."""
        return InstanceId(self.plan.instance)


_LIVE: Final = 1.0
"""Seconds for which a look is as good as a new one."""
STARTS: Final = TypeAdapter(Start)


def as_json(start: Start) -> str:
    """A start as JSON, without its environment: that may be secret, and is not needed any more."""
    return STARTS.dump_json(start, exclude={"plan": {"env"}}).decode()


@dataclass(slots=True)
class Pace:
    """The work of an engine between two looks at it: requests at once, and tokens a second."""

    at: float = 0.0
    processing: int = 0
    speed: float = 0.0
    decoded: float = 0.0
    generated: float = 0.0
    asked_at: float = 0.0

    def stale(self, now: float) -> bool:
        """Returns whether to look again for somebody who watches; if so, the look is taken to be done."""
        if now - max(self.at, self.asked_at) < _LIVE:
            return False
        self.asked_at = now
        return True

    def see(self, now: float, seen: Activity) -> None:
        """A step of decoding gives each request in it one token, and the whole of a prompt is a step or a few.

        An engine says its steps, or the tokens of all requests together.
        """
        grown = (seen.decoded - self.decoded) * max(1, seen.processing) + seen.generated - self.generated
        if self.at:
            self.speed = max(0.0, grown) / max(now - self.at, 1e-3)
        self.at, self.processing = now, seen.processing
        self.decoded, self.generated = seen.decoded, seen.generated


@dataclass(kw_only=True, slots=True)
class Launched:
    """One instance that has, or is about to have, a process: its start, its engine, its log and its endpoint."""

    start: Start
    engine: Engine
    log: Log
    may_load: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it may load, or need not wait for that any more."""
    begun_at: float | None = None
    """The time at which it began to load."""
    prompts: PromptCache | None = None
    doorway: Doorway | None = None
    """The doorway through which conversations are carried, if they are."""
    inherits: tuple[Carry, ...] = ()
    """The kept conversations of an instance that has ended for it, which it reads before it is ready."""
    process: Process | None = None
    key: str = ""
    endpoint: Endpoint | None = None
    admitted: frozenset[int] | None = None
    """The uids to which its socket is open; None if that is to be seen to in any case."""
    ready_at: float | None = None
    rests: bool = False
    """It was told to sleep, and is not awake again."""
    buffers: float = 0.0
    """MiB of them, as its log said when it was ready. Later its log has words of clients, too."""
    adopted: bool = False
    """An earlier daemon started it: what it took when it was ready is not known."""
    stopping: bool = False
    intruder: Failure | None = None
    """Somebody else listens where it is to, which is the end of it."""
    work: float = 0.0
    looked_at: float | None = None
    """The figure of ``work`` when its slots were looked at."""
    prompted: float = 0.0
    pace: Pace = field(default_factory=Pace)

    @property
    def plan(self) -> Plan:
        return self.start.plan

    @property
    def instance(self) -> InstanceId:
        return self.start.instance
