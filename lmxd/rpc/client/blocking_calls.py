"""Written by tests/client_source.py from lmxd/rpc/methods.py. docs/rpc.md says what each parameter means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from lmxd.rpc.administrators import Drained, Pinned, Reloaded, Stopped
from lmxd.rpc.books import Devices, Instances, Models, QueueInfo, Status
from lmxd.rpc.client.leases import BlockingLease
from lmxd.rpc.client.wire import LeaseT, OnProgress, ResultT
from lmxd.rpc.estimates import Estimated, Estimates, Forgotten
from lmxd.rpc.explanations import Explained, Planned
from lmxd.rpc.holds import Adopted, Held, YieldBegun, YieldOver
from lmxd.rpc.keeping_alive import KeptAlive
from lmxd.rpc.messages import CacheType, Cancelled, Described, Hello, KeptBy, Logs, Released, Renewed, Watching
from lmxd.rpc.model_files import Shown
from lmxd.rpc.overview import Overview
from lmxd.rpc.owners import Why
from lmxd.rpc.shelving import Shelved


class BlockingCalls(ABC):
    """Every method of the daemon, for ``Client``. Bytes are ``int`` bytes, times are seconds."""

    @abstractmethod
    def _call(self, method: str, result: type[ResultT], /, **params: Any) -> ResultT: ...

    @abstractmethod
    def _grant(self, method: str, result: type[LeaseT], on_progress: OnProgress | None, /, **params: Any) -> LeaseT: ...

    def hello(self, *, protocol: str = "1.0") -> Hello:
        """Negotiate the protocol."""
        return self._call("hello", Hello, protocol=protocol)

    def describe(self) -> Described:
        """JSON Schema of every method and notification."""
        return self._call("describe", Described)

    def request(
        self,
        model: str,
        *,
        wait: float | None = None,
        hold: KeptBy = "connection",
        ttl: float | None = None,
        idempotency_key: str | None = None,
        ctx: int | None = None,
        slots: int | None = None,
        priority: int | None = None,
        exclusive: bool = False,
        min_gpu_layers: int | None = None,
        max_instances: int | None = None,
        deadline: float | None = None,
        user: str | None = None,
        reuse: bool = False,
        waited: float = 0.0,
        used_elsewhere: float | None = None,
        weight: float | None = None,
        near: str | None = None,
        apart: list[str] | None = None,
        bounded: bool = False,
        on_progress: OnProgress | None = None,
    ) -> BlockingLease:
        """Ask for a lease; answered when it is granted or refused."""
        return self._grant(
            "request",
            BlockingLease,
            on_progress,
            model=model,
            wait=wait,
            hold=hold,
            ttl=ttl,
            idempotency_key=idempotency_key,
            ctx=ctx,
            slots=slots,
            priority=priority,
            exclusive=exclusive,
            min_gpu_layers=min_gpu_layers,
            max_instances=max_instances,
            deadline=deadline,
            user=user,
            reuse=reuse,
            waited=waited,
            used_elsewhere=used_elsewhere,
            weight=weight,
            near=near,
            apart=apart,
            bounded=bounded,
        )

    def grow(
        self,
        lease: str,
        ctx: int,
        *,
        slot: int | None = None,
        apart: list[str] | None = None,
        max_instances: int | None = None,
        carry: bool = True,
        wait: float | None = None,
        deadline: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> BlockingLease:
        """Move a lease to an instance with more context; answered as a request is, and if refused, it stays."""
        return self._grant(
            "grow",
            BlockingLease,
            on_progress,
            lease=lease,
            ctx=ctx,
            slot=slot,
            apart=apart,
            max_instances=max_instances,
            carry=carry,
            wait=wait,
            deadline=deadline,
        )

    def shelve(self, lease: str, slot: int, *, keep: bool = True, back: str | None = None) -> Shelved:
        """Put by what a slot of an elastic lease has, and read what was put by before in its place."""
        return self._call("shelve", Shelved, lease=lease, slot=slot, keep=keep, back=back)

    def release(self, lease: str) -> Released:
        """End a lease."""
        return self._call("release", Released, lease=lease)

    def renew(self, lease: str, *, ttl: float | None = None, instance: str | None = None) -> Renewed:
        """Keep a lease alive: restarts its TTL and its instance's idle clock."""
        return self._call("renew", Renewed, lease=lease, ttl=ttl, instance=instance)

    def cancel(self, *, ticket: str | None = None, request: int | str | None = None) -> Cancelled:
        """Take a waiting request out of the queue, by its ticket or by its call."""
        return self._call("cancel", Cancelled, ticket=ticket, request=request)

    def status(self) -> Status:
        """The daemon and its devices at a glance."""
        return self._call("status", Status)

    def devices(self) -> Devices:
        """Bytes by device, measured now."""
        return self._call("devices", Devices)

    def hold(
        self,
        bytes: int,
        *,
        wait: float | None = None,
        hold: KeptBy = "connection",
        ttl: float | None = None,
        idempotency_key: str | None = None,
        device: str | None = None,
        name: str = "hold",
        pid: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> Held:
        """Ask for bytes for a process of one's own; answered as a request is."""
        return self._grant(
            "hold",
            Held,
            on_progress,
            bytes=bytes,
            wait=wait,
            hold=hold,
            ttl=ttl,
            idempotency_key=idempotency_key,
            device=device,
            name=name,
            pid=pid,
        )

    def adopt(self, lease: str, pid: int) -> Adopted:
        """Name the process that uses a hold."""
        return self._call("adopt", Adopted, lease=lease, pid=pid)

    def yield_(self, bytes: int, *, device: str | None = None, lasts: float = 3600) -> YieldBegun:
        """Keep bytes of a device free for others. Only administrators may call it."""
        return self._call("yield", YieldBegun, bytes=bytes, device=device, lasts=lasts)

    def unyield(self, id: str) -> YieldOver:
        """Use the bytes of a yield again, before its time is over. Only administrators may call it."""
        return self._call("unyield", YieldOver, id=id)

    def plan(
        self,
        model: str,
        *,
        ctx: int | None = None,
        slots: int | None = None,
        priority: int | None = None,
        exclusive: bool = False,
        min_gpu_layers: int | None = None,
        max_instances: int | None = None,
        deadline: float | None = None,
    ) -> Planned:
        """The answer that a request would get now, without any effect."""
        return self._call(
            "plan",
            Planned,
            model=model,
            ctx=ctx,
            slots=slots,
            priority=priority,
            exclusive=exclusive,
            min_gpu_layers=min_gpu_layers,
            max_instances=max_instances,
            deadline=deadline,
        )

    def explain(self, id: str) -> Explained:
        """The history of a request, a lease or an instance, each step with its reason."""
        return self._call("explain", Explained, id=id)

    def overview(self) -> Overview:
        """Status, owners of bytes, instances and queue of one moment."""
        return self._call("overview", Overview)

    def why(self, device: str) -> Why:
        """The owners of the bytes of a device, measured now."""
        return self._call("why", Why, device=device)

    def instances(self) -> Instances:
        """Instances and their leases."""
        return self._call("instances", Instances)

    def queue(self) -> QueueInfo:
        """Requests that wait or start, in order."""
        return self._call("queue", QueueInfo)

    def models(self) -> Models:
        """The profiles that can be requested."""
        return self._call("models", Models)

    def keep_alive(self, model: str, *, seconds: float | None = None, user: str | None = None) -> KeptAlive:
        """Have the instances of a model end so many seconds after their last lease, once they are idle."""
        return self._call("keep_alive", KeptAlive, model=model, seconds=seconds, user=user)

    def show(self, model: str) -> Shown:
        """A model as its file describes it."""
        return self._call("show", Shown, model=model)

    def estimate(
        self,
        model: str,
        *,
        ctx: int | None = None,
        slots: int | None = None,
        cache_type_k: CacheType | None = None,
        cache_type_v: CacheType | None = None,
    ) -> Estimated:
        """Bytes that a model would take, by part."""
        return self._call(
            "estimate",
            Estimated,
            model=model,
            ctx=ctx,
            slots=slots,
            cache_type_k=cache_type_k,
            cache_type_v=cache_type_v,
        )

    def estimates(self) -> Estimates:
        """The bytes that instances took, as they were learned."""
        return self._call("estimates", Estimates)

    def forget(self, *, model: str | None = None, card: str | None = None) -> Forgotten:
        """Forget learned bytes, of a model or a card. Only administrators may call it."""
        return self._call("forget", Forgotten, model=model, card=card)

    def logs(self, instance: str, *, lines: int = 100) -> Logs:
        """The last lines of an instance's log."""
        return self._call("logs", Logs, instance=instance, lines=lines)

    def stop(self, instance: str) -> Stopped:
        """End an instance, whatever it is doing. Only administrators may call it."""
        return self._call("stop", Stopped, instance=instance)

    def pin(self, instance: str, *, pin: bool = True) -> Pinned:
        """Pin an instance, so that it is neither evicted nor reaped, or unpin it. Only administrators may call it."""
        return self._call("pin", Pinned, instance=instance, pin=pin)

    def drain(self, *, now: bool = False, end: bool = False) -> Drained:
        """Admit no requests, and end instances without leases. Only administrators may call it."""
        return self._call("drain", Drained, now=now, end=end)

    def reload(self) -> Reloaded:
        """Read the configuration again. Only administrators may call it."""
        return self._call("reload", Reloaded)

    def watch(self) -> Watching:
        """Send a notification for every decision from now on."""
        return self._call("watch", Watching)
