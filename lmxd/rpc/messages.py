"""Every message of the protocol. Bytes are ``int`` bytes, times are seconds. Unknown parameters are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PROTOCOL = "1.0"


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Result(BaseModel):
    """Results may grow: a client ignores what it does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


Name = Annotated[str, Field(min_length=1, max_length=256)]


class Nothing(Params):
    """A method without parameters."""


class HelloParams(Params):
    protocol: str = Field(PROTOCOL, max_length=32, description="the version that the client speaks")


class SizeParams(Params):
    """How large; what is left out is taken from the model's profile."""

    ctx: int | None = Field(None, ge=1, le=2**27, description="tokens that a slot must hold")
    slots: int | None = Field(None, ge=1, le=256, description="concurrent generations")


class Wish(SizeParams):
    model: Name = Field(description="a profile of the configuration")
    priority: int | None = Field(None, ge=-100, le=100, description="class in the queue; by default the profile's")
    exclusive: bool = Field(False, description="an instance that nobody else has a lease on")
    cpu_spill: bool | None = Field(None, description="layers may run in RAM; by default as the profile says")
    deadline: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)] | None = Field(
        None, description="seconds within which it must be granted; refused at once if that cannot be"
    )


KeptBy = Literal["connection", "ttl", "explicit"]


class Terms(Params):
    """How long to wait for a lease, and what keeps it."""

    wait: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] | None = Field(
        None, description="seconds to wait in the queue; 0 for not at all; null for as long as it takes"
    )
    hold: KeptBy = Field("connection", description="what keeps the lease alive")
    ttl: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)] | None = Field(
        None, description="seconds that a lease held by ttl lives without renew; 60 by default"
    )
    idempotency_key: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="a repeated request of the same user and key gets the lease that the first was granted, "
        "or the place in the queue that it has, or had at an lmxd that was started again meanwhile",
    )


class RequestParams(Wish, Terms):
    max_instances: int | None = Field(
        None, ge=1, le=1024, description="start another instance only while fewer of the model run; by default always"
    )
    user: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._@+-]{1,64}$",
        description="whom it is for, where one process asks for several users (the gateway, administrators)",
    )


class LeaseParams(Params):
    lease: Name


class RenewParams(LeaseParams):
    ttl: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)] | None = None


class CancelParams(Params):
    """Either."""

    ticket: Name | None = Field(None, description="the request's, as lmxd.progress says it")
    request: int | str | None = Field(
        None, description="the id of its call on this connection, whatever has become of it by now"
    )

    @model_validator(mode="after")
    def _either(self) -> CancelParams:
        if (self.ticket is None) == (self.request is None):
            raise ValueError("give either ticket or request")
        return self


class InstanceParams(Params):
    instance: Name


class PinParams(InstanceParams):
    pin: bool = Field(True, description="false: as others again")


class DrainParams(Params):
    now: bool = Field(False, description="end everything at once, with its leases and whatever it is doing")
    end: bool = Field(False, description="instead: admit requests again")


class LogsParams(InstanceParams):
    lines: int = Field(100, ge=1, le=10_000)


CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


class Hello(Result):
    protocol: str
    server: str
    capabilities: list[str]


class Granted(Result):
    """A lease. ``base_url`` and ``api_key`` are what an OpenAI client wants; ``socket`` is set for a Unix endpoint."""

    lease: str
    instance: str
    model: str
    endpoint: str
    base_url: str
    api_key: str
    socket: str | None = None
    ctx: int
    slots: int
    instance_slots: int = Field(1, description="slots of its instance, for leases of all users")
    devices: dict[str, int] = Field(description="bytes charged, by device")
    basis: str = Field(description="where the bytes come from: declared or closed-form")
    hold: str
    ttl: float | None = None
    waited: float


class Released(Result):
    lease: str


class Renewed(Result):
    lease: str
    expires_in: float | None = None


class Cancelled(Result):
    ticket: str | None = None
    request: int | str | None = None


class HolderInfo(Result):
    name: str
    bytes: int
    phase: str
    leases: int = 0
    since: float | None = Field(None, description="for so many seconds")


class ShortfallInfo(Result):
    """Why not, on one device: ``need`` bytes against ``have``; ``ceiling`` is the most there could ever be."""

    device: str
    need: int
    have: int
    ceiling: int
    capacity: int
    holders: list[HolderInfo] = []
    unavailable: str | None = None


class TurnInfo(Result):
    """An instance that a request waits for goes on serving those who want it: for how long, and what a swap costs."""

    instance: str
    closes_in: float = Field(description="seconds for which it takes new requests; 0: it finishes what it does")
    price: float = Field(description="seconds that loading both models takes")
    unused: bool = Field(
        False, description="nobody uses the leases on it, of which the last ends in closes_in seconds at the latest"
    )
    fair: bool = Field(False, description="its turn is longer, because its users had less than those who wait")


class SwapInfo(Result):
    """An instance is to make way for ``model``, which waits for its bytes."""

    model: str
    closes_in: float = Field(description="seconds for which it takes new requests; 0: it finishes what it does")
    price: float = Field(description="seconds that loading both models takes")
    unused: bool = Field(False, description="as of a turn")


class Logs(Result):
    instance: str
    lines: list[str]


class Stopped(Result):
    instance: str


class Pinned(Result):
    instance: str
    pin: bool


class Drained(Result):
    draining: bool
    instances: int = Field(description="what still runs")
    leases: int


class Reloaded(Result):
    path: str
    warnings: list[str] = []


class Watching(Result):
    watching: bool = True


class Described(Result):
    protocol: str
    methods: dict[str, Any]
    notifications: dict[str, Any]
