"""Messages of ``plan`` and ``explain``: the answer that a request would get, and the history of an id."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lmxd.rpc.books import FitInfo, GrowthInfo
from lmxd.rpc.messages import DeviceNames, Name, Params, Result, Wish
from lmxd.rpc.shortfalls import ShortfallInfo, TurnInfo


class PlanParams(Wish):
    """The request to try, as for ``request``. It has no effect."""


class ChoiceInfo(Result):
    """One way to divide a model between a GPU and RAM."""

    devices: dict[str, int] = Field(description="bytes of each GPU")
    ram: int = Field(description="bytes in RAM, with those of the process itself")
    gpu_layers: int = Field(description="layers on the GPU, with the output")
    experts_in_ram: int = Field(0, description="of these, how many have experts in RAM")
    whole: int = Field(description="layers that are on the GPU with all they have")
    speed: float = Field(description="tokens per second, roughly, as a part of those with all of it on the GPU")
    fit: FitInfo
    chosen: bool = Field(False, description="it is the one that would be started")


class Planned(Result):
    """The answer that a request would get now.

    ``share``: a running instance serves it at once. ``start``: there is room for a new instance. ``evict``: there will
    be room, once idle instances have ended or sleep. ``queue``: it would wait. ``refuse``: it would be refused.
    """

    outcome: Literal["share", "start", "evict", "queue", "refuse"]
    model: str
    engine: str = Field("llama.cpp", description="the name of the engine that runs it")
    why: str
    instance: str | None = None
    devices: dict[str, int] = Field({}, description="bytes that a new instance would be charged")
    called: DeviceNames = Field({})
    split: list[int] = Field([], description="layers on each device, if it would be divided")
    gpu_layers: int | None = Field(None, description="if not all: the others would run in RAM")
    evicts: list[str] = Field([])
    sleeps: list[str] = Field([], description="idle instances that would be put to sleep for it")
    position: int | None = None
    eta: float | None = Field(None, description="seconds until the lease is expected")
    waits_for: list[str] = Field([])
    code: str | None = None
    remedy: str | None = None
    shortfalls: list[ShortfallInfo] = Field([])
    turns: list[TurnInfo] = Field([], description="of what it would wait for, what others use")
    choices: list[ChoiceInfo] = Field([], description="with fit: auto, how it could be divided, the fastest first")
    growth: GrowthInfo | None = Field(None, description="of an elastic model: how its lease grows")


class ExplainParams(Params):
    """The id whose history is asked for."""

    id: Name = Field(description="of a request, a lease or an instance")


class HistoryStep(Result):
    """One step of a history: an event, its time, and a sentence."""

    at: float = Field(description="seconds since the epoch")
    event: str
    text: str


class Explained(Result):
    """The history of a request, a lease or an instance, oldest step first. ``related``: other ids with a history."""

    id: str
    steps: list[HistoryStep]
    related: list[str] = Field([])
