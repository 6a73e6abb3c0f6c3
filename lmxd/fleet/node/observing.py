"""Cards and heartbeats, made of what lmxd says of itself. Bytes are ``int`` bytes, times are seconds."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lmxd.fleet.reports import DeviceRoom, Heartbeat, Offered, Running, UserUse
from lmxd.rpc.books import Device, InstanceInfo, ModelInfo, Status, UserInfo

_MEANT = ("ctx", "slots", "engine", "set", "strip", "settings")
"""Fields of a model, beside its file, by which two of the same name would answer differently."""
_COMING = ("starting", "waking")
_MOST_USERS: Final = 256
"""Users in a heartbeat, which is sent each second."""


def offered(models: Iterable[ModelInfo]) -> tuple[Offered, ...]:
    """The models that a request may have. One with a problem is none of them: its requests would be refused."""
    return tuple(_offered(model) for model in models if model.problem is None)


def _offered(model: ModelInfo) -> Offered:
    return Offered(
        model=model.model,
        digest=_digest(model),
        names=tuple(model.names),
        capabilities=tuple(model.capabilities),
        ctx=model.ctx,
        ctx_most=model.ctx_most,
        slots=model.slots,
        needs=model.needs,
        load=model.load or 0.0,
    )


def _digest(model: ModelInfo) -> str:
    """16 hexadecimal digits that two boxes have in common for the same file, by its header, and the same settings.

    Files beside a model lie in different places: a setting counts by the name of its file.
    """
    file = None if model.file is None else model.file.model_dump(exclude={"modified", "digest"})
    meant = {key: getattr(model, key) for key in _MEANT}
    said = json.dumps([file, _without_places(meant)], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _without_places(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_places(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_places(each) for each in value]
    text = str(value)
    return text.rpartition("/")[2] if text.startswith("/") else value


def rooms(devices: Iterable[Device], instances: Iterable[InstanceInfo]) -> tuple[DeviceRoom, ...]:
    """The devices that can be used, with the bytes of instances that nobody uses and that may end."""
    idle: Counter[str] = Counter()
    for instance in instances:
        if _may_end(instance):
            idle.update(instance.charged)
    return tuple(
        DeviceRoom(
            device=device.id,
            capacity=device.capacity,
            free=max(0, device.headroom),
            idle=idle[device.id],
            pool=device.pool or "",
        )
        for device in devices
        if device.unavailable is None
    )


def _may_end(instance: InstanceInfo) -> bool:
    unused = not instance.leases and not instance.busy and instance.vacant == instance.slots
    return unused and instance.phase == "ready" and instance.idle_timeout is not None


def running(instances: Iterable[InstanceInfo]) -> tuple[Running, ...]:
    """The instances that serve requests, or are about to: by model, those that load apart from those that are ready."""
    found: dict[tuple[str, bool], list[InstanceInfo]] = {}
    for instance in instances:
        coming = instance.phase in _COMING
        if instance.engine is not None and (coming or instance.phase == "ready"):
            found.setdefault((instance.model, coming), []).append(instance)
    return tuple(
        Running(model=model, slots=sum(x.slots for x in each), vacant=sum(x.vacant for x in each), loading=coming)
        for (model, coming), each in found.items()
    )


def users(found: Iterable[UserInfo], uid: int) -> dict[str, UserUse]:
    """The users of the fleet by name: those for whom the node's own uid asks. Those who have something come first."""
    mine = [user for user in found if user.uid == uid and user.user is not None]
    mine.sort(key=lambda user: (user.leases + user.waiting == 0, -user.use))
    return {
        user.user or "": UserUse(use=user.use, bytes=user.bytes, leases=user.leases, waiting=user.waiting)
        for user in mine[:_MOST_USERS]
    }


@dataclass(frozen=True)
class NodeLook:
    """The state of lmxd at one moment, about, as it says itself."""

    status: Status
    instances: tuple[InstanceInfo, ...]


def heartbeat(look: NodeLook, uid: int, *, node: str, started: str, number: int, now: float) -> Heartbeat:
    """The heartbeat of a node. ``uid``: its process's. ``now``: by a clock of its own that never steps."""
    return Heartbeat(
        node=node,
        started=started,
        number=number,
        sent=now,
        rooms=rooms(look.status.devices, look.instances),
        running=running(look.instances),
        waiting=look.status.waiting,
        eta=look.status.eta or 0.0,
        draining=look.status.draining,
        users=users(look.status.users, uid),
    )
