"""Messages of the estimator: what a model would take, and what was learned from those that ran."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from lmxd.rpc.messages import CacheType, Name, Params, Result, SizeParams


class EstimateParams(SizeParams):
    model: Name
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None


class Estimated(Result):
    """Bytes by part, of each device and of the host. ``error``: plus or minus so many bytes."""

    model: str
    ctx: int
    slots: int
    basis: str
    error: int
    devices: list[dict[str, Any]]
    host: dict[str, int]
    declared: int | None = None
    inputs: dict[str, Any] = Field({})
    notes: list[str] = Field([])
    fits: dict[str, Any] = Field({})


class Observed(Result):
    """What instances of one launch took: ``loaded`` when ready, ``prompted`` the most since (0: no long prompt yet).

    ``predicted`` is what the estimator had without the process's context.
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
    """What a process's own context takes on a card, learned from ``count`` launches or from ``prior``."""

    card: str
    driver: str
    build: str
    bytes: int
    error: int
    count: int


class Estimates(Result):
    contexts: list[Context]
    observed: list[Observed]


class ForgetParams(Params):
    model: Name | None = Field(None, description="only what was learned from this model")
    card: Name | None = Field(None, description="only what was learned on GPUs of this name, or in RAM")


class Forgotten(Result):
    count: int
