"""Messages of the estimator: the bytes that a model would take, and the observations that were learned."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from lmxd.rpc.books import GrowthInfo
from lmxd.rpc.messages import CacheType, DeviceNames, Name, Params, Result, SizeParams


class EstimateParams(SizeParams):
    """A model at a size, to be estimated."""

    model: Name
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None


class FileUse(Result):
    """A file beside a model, by the key of a profile that names it."""

    use: str = Field(description="mmproj, lora or draft")
    path: str
    size: int = Field(description="bytes of the file")


class Estimated(Result):
    """The estimated bytes of each device and of the host, by part. ``error``: plus or minus so many bytes.

    ``contexts``: of a device the part of its overhead that any process takes there, its error and its source; none of
    a device whose figures were observed or declared.
    """

    model: str
    ctx: int
    slots: int
    unified: bool = Field(False, description="the slots share one cache of ctx tokens")
    basis: str
    error: int
    devices: list[dict[str, Any]]
    called: DeviceNames = Field({})
    host: dict[str, int]
    contexts: list[dict[str, Any]] = Field([])
    declared: int | None = None
    files: list[FileUse] = Field([], description="the files beside the model, whose bytes are in the parts")
    inputs: dict[str, Any] = Field({})
    notes: list[str] = Field([])
    fits: dict[str, Any] = Field({})
    growth: GrowthInfo | None = Field(None, description="of an elastic model: how its leases grow")


class Observed(Result):
    """The bytes that instances of one launch took.

    ``loaded``: when they were ready. ``prompted``: the most since then; 0: no long prompt yet. ``predicted``: the
    estimate without the process's context.
    """

    model: str
    card: str
    driver: str
    build: str
    buffers: int
    predicted: int
    loaded: int
    prompted: int
    count: int


class Context(Result):
    """The bytes that a process takes on a card besides its buffers, such as CUDA's context.

    Learned from ``count`` launches, or a prior; ``source`` says it in words. ``backend``: the engine's on that card.
    """

    card: str
    driver: str
    build: str
    bytes: int
    error: int
    count: int
    backend: str = "CUDA"
    source: str = ""


class LearnedRest(Result):
    """The bytes that launches of one sort took beside weights and cache, where these are known to the byte (vLLM)."""

    model: str
    card: str
    bytes: int


class LearnedPeak(Result):
    """The most bytes that an engine took that says its own command: more than its profile declares.

    ``model``: null where no profile is like the one that it was started for.
    """

    model: str | None
    bytes: int


class Estimates(Result):
    """All that was learned: contexts of cards, observations of launches, and of engines other than llama.cpp."""

    contexts: list[Context]
    observed: list[Observed]
    rests: list[LearnedRest] = Field([])
    peaks: list[LearnedPeak] = Field([])


class ForgetParams(Params):
    """The observations to forget; all of them by default."""

    model: Name | None = Field(None, description="only what was learned from this model")
    card: Name | None = Field(None, description="only what was learned on GPUs of this name, or in RAM")


class Forgotten(Result):
    """The number of observations that were forgotten."""

    count: int
