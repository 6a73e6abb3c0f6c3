"""Messages about the ledger: devices, instances, the queue, models. Bytes are ``int`` bytes, times are seconds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lmxd.rpc.holds import YieldInfo
from lmxd.rpc.messages import DeviceNames, Result
from lmxd.rpc.model_files import CAPABILITIES, ModelFileInfo
from lmxd.rpc.shortfalls import ShortfallInfo, SwapInfo, TurnInfo


class Device(Result):
    """The bytes of one device.

    headroom = min(limit, capacity - margin - foreign - yielded) - charged - reclaiming - beyond_pool. A device that has
    a pool takes its bytes of that, and so do the others that have the same: a sum over both counts them twice.
    """

    id: str
    ref: str
    kind: str
    name: str
    capacity: int
    reserved: int
    margin: int
    limit: int | None
    used: int
    lower_bound: bool = Field(False, description="at least so much is used, and foreign: not all of it can be seen")
    foreign: int
    charged: int
    reclaiming: int
    yielded: int = Field(0, description="kept free for others, on request")
    yields: list[YieldInfo] = Field([], description="the requests for that")
    headroom: int
    pool: str | None = Field(None, description="the memory that it shares with other devices")
    beyond_pool: int = Field(0, description="bytes that would be free on it, but are not in its pool")
    views: list[str] = Field([], description="of a pool: the devices that draw from it")
    unavailable: str | None = None
    remedy: str = Field("", description="what to do, if it is unavailable")


class Devices(Result):
    """The bytes of all devices, measured now."""

    devices: list[Device]


class LeaseInfo(Result):
    """One lease. Of another user's, only the bytes and the slots are shown."""

    bytes: int = Field(description="the part of the instance that its holder accounts for")
    slots: int
    lease: str | None = None
    uid: int | None = None
    pid: int | None = None
    user: str | None = Field(None, description="the key that it is for, where the gateway asks for it")
    hold: str | None = None
    age: float | None = None
    expires_in: float | None = None


class InstanceInfo(Result):
    """One instance: its size, its activity and its leases."""

    instance: str
    model: str
    name: str | None = Field(None, description="of a hold: how its client calls it")
    engine: str | None = Field(None, description="the name of its engine; null for a hold")
    phase: str
    pid: int | None = None
    endpoint: str | None = None
    socket: str | None = Field(None, description="of an endpoint on a Unix socket")
    ctx: int
    ctx_most: int | None = Field(None, description="tokens that its leases may grow to; null where ctx is fixed")
    unified: bool = Field(False, description="its slots share one cache of ctx tokens")
    slots: int
    vacant: int = Field(0, description="slots for requests more that it would take now, or once it is ready")
    busy: bool
    processing: int = Field(0, description="requests that it is at, when it was last asked")
    speed: float = Field(0.0, description="tokens a second of all of them, about")
    loaded: float | None = Field(None, description="of one that starts: the part of its bytes that it has taken")
    idle: float = Field(description="seconds since it last did something")
    idle_timeout: float | None = Field(description="null for a pinned one; 1e9 and more are never")
    age: float
    promised: dict[str, int]
    measured: dict[str, int] = Field({})
    charged: dict[str, int] = Field(description="the larger of both")
    leases: list[LeaseInfo]
    yield_in: float | None = Field(None, description="its holders were asked to yield within so many seconds")
    swap: SwapInfo | None = Field(None, description="for whom it is to make way, and when")


class MovingInfo(LeaseInfo):
    """A lease whose instance has ended for its move to another, which is not ready yet."""

    model: str
    before: str = Field(description="the instance that it had")
    ctx: int = Field(description="tokens of context that it had")
    ctx_wanted: int
    instance: str | None = Field(None, description="the one that starts for it; null while it waits for its bytes")


class Instances(Result):
    """All instances, and the leases that have none while they move."""

    instances: list[InstanceInfo]
    moving: list[MovingInfo] = Field([])
    called: DeviceNames = Field({})


class TicketInfo(Result):
    """One waiting request. Of another user's, only its place, its bytes and its times are shown."""

    ticket: str | None = None
    model: str | None = None
    name: str | None = Field(None, description="of a request for a hold: how its client calls it")
    uid: int | None = None
    pid: int | None = None
    user: str | None = Field(None, description="the key that it is for, where the gateway asks for it")
    bytes: int = Field(description="what a new instance for it would take of a device")
    slots: int = Field(1, description="of an instance, that it wants")
    position: int = Field(description="from 1 in the queue; 0 once its instance is starting")
    priority: int = 0
    waited: float
    eta: float | None = Field(None, description="seconds until the lease is expected; null where nothing can be said")
    waits_for: list[str] = Field([], description="instances that must end or have a slot, or a quota")
    instance: str | None = None
    shortfalls: list[ShortfallInfo] = Field([])
    alternatives: bool = Field(True, description="any one of the devices of the shortfalls would do; else it takes all")
    turns: list[TurnInfo] = Field([], description="the instances that it waits for and others use: how long they go on")


class QueueInfo(Result):
    """All requests that wait or start, in order, the depth of the queue, and the yields."""

    depth: int
    tickets: list[TicketInfo]
    yields: list[YieldInfo] = Field([], description="bytes that are kept free for others meanwhile")
    called: DeviceNames = Field({})


class FitInfo(Result):
    """Whether a new instance of a model would find room.

    ``now``; ``after`` the instances that ``ends`` names have ended, which are the fewest; ``blocked`` by bytes that are
    not lmxd's to give; or ``never``.
    """

    when: Literal["now", "after", "blocked", "never"]
    ends: list[str] = Field([])


class VariantInfo(Result):
    """A further name of a model, whose requests are changed after those of its model are."""

    name: str
    aliases: list[str] = Field([], description="other names that it may be asked for by")
    set: dict[str, Any] = Field({}, description="parameters of requests that have these values at the gateway")
    strip: list[str] = Field([], description="parameters that are taken out before")


class ElasticInfo(Result):
    """The contexts that a lease of an elastic model may have: it starts with one, and gets others by ``grow``."""

    steps: list[int] = Field(description="ascending: the last is the most that there is")
    unified: bool = Field(
        False, description="its slots share one cache, in which a lease grows where it is, by multiples of steps[0]"
    )
    start: int = Field(
        description="the one that a lease begins with that asks for none, if there is room for it at once, else the"
        " first; a user may have another"
    )
    learned_from: int = Field(0, description="the conversations by which start was learned; 0: it is the first step")
    growths_per_hour: int = Field(0, description="the leases that have grown within the last hour")
    not_carried: str | None = Field(
        None, description="why a conversation is processed anew as it moves; null: it is not"
    )


class StepInfo(Result):
    """One of the contexts of an elastic model."""

    ctx: int = Field(description="tokens of a slot")
    slots: int = Field(description="of an instance")
    bytes: dict[str, int] = Field({}, description="what an instance would be charged, by device that has it alone")
    problem: str | None = Field(None, description="why there can be no such instance")


class GrowthInfo(Result):
    """The steps by which a lease of an elastic model grows, and what becomes of its conversation."""

    steps: list[StepInfo]
    share: int | None = Field(None, description="tokens that each slot adds to a lease, where all share one cache")
    not_carried: str | None = Field(
        None, description="why a conversation is processed anew as it moves; null: it is not"
    )
    swa_full_bytes: int | None = Field(
        None, description="the most that an instance would take more with swa_full, which would have it carried"
    )


class ModelInfo(Result):
    """One profile of the configuration, with the bytes that a new instance of it would be charged."""

    model: str
    aliases: list[str] = Field([], description="other names that it may be asked for by")
    set: dict[str, Any] = Field({}, description="parameters of requests that have these values at the gateway")
    strip: list[str] = Field([], description="parameters that are taken out before")
    variants: list[VariantInfo] = Field([], description="further names, by which other parameters are set")
    engine: str = Field("llama.cpp", description="the name of the engine that runs it")
    upstream_name: str | None = Field(
        None, description="the name of it that its engine heeds in a request; null for llama-server, which heeds none"
    )
    ctx: int
    elastic: ElasticInfo | None = Field(None, description="its contexts, where a lease starts small and grows")
    slots: int
    path: str | None = None
    bytes: dict[str, int] = Field(description="what a new instance would be charged, by device")
    needs: dict[str, int] = Field({}, description="the same in the way that it is placed first: by all devices of that")
    load: float | None = Field(None, description="seconds until a new instance would be ready, about")
    basis: str | None = None
    fit: FitInfo | None = Field(None, description="whether a new instance would find room now")
    running: int
    problem: str | None = Field(None, description="why a request for it would be refused")
    failures: int = Field(0, description="launches that failed in a row")
    retry_in: float | None = Field(None, description="seconds before a failed launch is tried again")
    file: ModelFileInfo | None = Field(None, description="its file, if it has one that can be read")
    capabilities: list[str] = Field([], description=CAPABILITIES)
    media: list[str] | None = Field(
        None, description="what it takes beside text, of image and audio; null where only its engine knows"
    )
    settings: dict[str, Any] = Field(
        {}, description="the keys of its profile about files beside the model, placement and the kind of its answers"
    )

    @property
    def ctx_most(self) -> int:
        """Tokens that a request may have: those of the last step, where a lease grows."""
        return self.ctx if self.elastic is None else self.elastic.steps[-1]

    @property
    def adapters(self) -> list[str]:
        """The files of its adapters, by the numbers by which requests name them."""
        return [str(adapter["path"]) for adapter in self.settings.get("lora", ())]

    @property
    def traits(self) -> list[str]:
        """Its abilities and parts, in words, as far as they are not every model's."""
        said = self.settings
        moved = "n_cpu_moe" in said or "override_tensor" in said
        parts = {"lora": bool(self.adapters)} | {key: key in said for key in ("draft", "mtp", "ngram")}
        parts |= {"experts in RAM": moved, "layers in RAM": "n_cpu_ffn" in said}
        found = [x for x in self.capabilities if x in ("vision", "audio", "embedding", "rerank")]
        return [*found, *(part for part, there in parts.items() if there)]

    @property
    def names(self) -> list[str]:
        """Every name that it may be asked for by, its own first."""
        return [self.model, *self.aliases, *(name for x in self.variants for name in (x.name, *x.aliases))]


class Models(Result):
    """All profiles of the configuration."""

    models: list[ModelInfo]
    called: DeviceNames = Field({})


class UserInfo(Result):
    """A user that has or waits for leases, or did lately: a uid, or a key for which it asks."""

    uid: int
    user: str | None = Field(None, description="the key that it is for, where the gateway asks for it")
    use: float = Field(description="recent byte-seconds here: half as much after each half_life")
    bytes: int
    leases: int
    waiting: int


class Status(Result):
    """The state of the daemon at a glance."""

    version: str
    uptime: float
    engine: str = Field(description="path and version of the first of engines")
    engines: dict[str, str] = Field({}, description="name -> path and version of each engine in use; none: not found")
    admission: bool = Field(description="whether admission is enforced")
    draining: bool
    devices: list[Device]
    instances: int
    leases: int
    waiting: int
    eta: float | None = Field(None, description="seconds until all who wait are expected to be served, about")
    queue_depth: int
    users: list[UserInfo] = Field([], description="those that the caller may see, by use, the most first")
    broken_invariants: list[str] = Field([])
    warnings: list[str] = Field([])
