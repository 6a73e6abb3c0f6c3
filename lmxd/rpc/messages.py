"""The messages of the protocol. Bytes are ``int`` bytes, times are seconds. Unknown parameters are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PROTOCOL = "1.0"


class Params(BaseModel):
    """The parameters of a method. Unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Result(BaseModel):
    """The result of a method. It may get further fields in later versions: clients ignore unknown ones."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True, protected_namespaces=())


DeviceNames = Annotated[dict[str, str], Field(description="names for people, such as GPU 0, of devices by id")]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Apart = Annotated[
    list[Name],
    Field(
        max_length=64,
        description="instances of an elastic model whose slots all have conversations that go on: it gets one of them"
        " only where there is no room for another, whatever max_instances says; of those with one cache for all slots,"
        " for a larger one",
    ),
]


class Nothing(Params):
    """The parameters of a method that has none."""


class HelloParams(Params):
    """The version of the protocol that the client speaks."""

    protocol: str = Field(PROTOCOL, max_length=32, description="the version that the client speaks")


class SizeParams(Params):
    """The size of an instance. The model's profile has the values that are left out."""

    ctx: int | None = Field(None, ge=1, le=2**27, description="tokens that a slot must hold")
    slots: int | None = Field(None, ge=1, le=256, description="concurrent generations")


class Wish(SizeParams):
    """A model at a size, and the terms of its instance."""

    model: Name = Field(description="a profile of the configuration")
    priority: int | None = Field(None, ge=-100, le=100, description="class in the queue; by default the profile's")
    exclusive: bool = Field(False, description="an instance that nobody else has a lease on")
    min_gpu_layers: int | None = Field(None, ge=0, le=4096, description="the fewest layers whole on the GPU")
    max_instances: int | None = Field(
        None, ge=1, le=1024, description="start another instance only while fewer of the model run; by default always"
    )
    deadline: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)] | None = Field(
        None, description="seconds within which it must be granted; refused at once if that cannot be"
    )


KeptBy = Literal["connection", "ttl", "explicit"]


class Terms(Params):
    """The seconds to wait for a lease, and the way in which it is kept alive."""

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
    """A request for a lease on a model."""

    user: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._@+-]{1,64}$",
        description="the key that it is for, where one process asks for several (the gateway, administrators)",
    )
    reuse: bool = Field(False, description="its holder may use the lease again; lmxd.wanted says when no longer")
    waited: float = Field(
        0.0,
        ge=0,
        le=10**9,
        allow_inf_nan=False,
        description="seconds since it first asked at any node of a fleet, for its place in the queue here; only from "
        "who may ask for a user",
    )
    used_elsewhere: float | None = Field(
        None,
        ge=0,
        le=1e30,
        allow_inf_nan=False,
        description="recent byte-seconds of its user at other nodes of a fleet, which count here, too; null: as said "
        "last; only from who may ask for a user",
    )
    weight: float | None = Field(
        None, gt=0, le=1000, allow_inf_nan=False, description="of its user in the fleet, with used_elsewhere"
    )
    near: Name | None = Field(
        None, description="the instance that has most of its prompt: served there, if that has a free slot for it"
    )
    apart: Apart = Field([])
    bounded: bool = Field(
        False,
        description="its holder keeps each prompt with its answer within ctx, and asks one at a time: else a model "
        "whose slots share one cache (kv_unified) serves nobody beside it",
    )


class LeaseParams(Params):
    """The lease that a call is about."""

    lease: Name


class RenewParams(LeaseParams):
    """The lease to renew. ``ttl`` replaces its TTL, if given."""

    ttl: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)] | None = None
    instance: Name | None = Field(None, description="the one that its holder knows: the answer says where it is now")


class CancelParams(Params):
    """The request to withdraw, by its ticket or by its call."""

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
    """The instance that a call is about."""

    instance: Name


class LogsParams(InstanceParams):
    """The instance whose log is asked for, and the number of lines."""

    lines: int = Field(100, ge=1, le=10_000)


CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


class Hello(Result):
    """The version of the protocol and of the daemon, and the methods that it has."""

    protocol: str
    server: str
    capabilities: list[str]


class Granted(Result):
    """A granted lease.

    ``base_url`` and ``api_key`` are for an OpenAI client. ``socket``: connect there, for the URLs' host does not exist.
    """

    lease: str
    instance: str
    model: str
    endpoint: str
    base_url: str
    api_key: str
    socket: str | None = None
    upstream_name: str | None = Field(None, description="what its engine calls its model, if not as model says")
    ctx: int
    ctx_most: int | None = Field(None, description="tokens that it may have at most, by grow; null where ctx is fixed")
    slot: int | None = Field(None, description="of a lease that has moved: the slot that its conversation lies in now")
    carried: list[tuple[int, int]] = Field(
        [], description="of a lease that has moved: slots of the instance before, and where what they had lies now"
    )
    slots: int
    instance_slots: int = Field(1, description="slots of its instance, for leases of all users")
    alone: bool = Field(False, description="no other client has a lease of it: requests may name a slot (id_slot)")
    devices: dict[str, int] = Field(description="bytes charged, by device")
    called: DeviceNames = Field({})
    basis: str = Field(description="where the bytes come from: declared or closed-form")
    hold: str
    ttl: float | None = None
    waited: float
    wanted: bool = Field(False, description="somebody waits in the queue: it is not to be used for another request")


class Released(Result):
    """The lease that was released."""

    lease: str


class Renewed(Result):
    """The renewed lease, and the seconds that it lasts."""

    lease: str
    expires_in: float | None = None
    moved: Granted | None = Field(None, description="the lease as it is now, if it has moved from the instance named")


class Cancelled(Result):
    """The request that was withdrawn."""

    ticket: str | None = None
    request: int | str | None = None


class Logs(Result):
    """The last lines of an instance's log."""

    instance: str
    lines: list[str]


class Watching(Result):
    """The confirmation that notifications of events follow."""

    watching: bool = True


class Described(Result):
    """The protocol as JSON Schema: its version, methods and notifications."""

    protocol: str
    methods: dict[str, Any]
    notifications: dict[str, Any]
