"""The acts of administrators: stop, pin, yield, drain, reload, forget."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

from lmxd.core.books.state import State
from lmxd.core.events import Event
from lmxd.core.instances import Instance
from lmxd.core.orders import DrainEnded, DrainRequested, PinChanged, StopRequested, YieldEnded, YieldRequested
from lmxd.core.words import DeviceId, InstanceId, YieldId
from lmxd.daemon.answering import owners
from lmxd.daemon.present import Present
from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.rpc.administrators import Drained, DrainParams, Pinned, PinParams, Reloaded, Stopped
from lmxd.rpc.estimates import ForgetParams, Forgotten
from lmxd.rpc.holds import YieldBegun, YieldOver, YieldParams


class Administration:
    """Answers the calls of administrators. The service has checked that the caller is one, by the table of methods.

    ``reload`` reads the configuration again. ``forget`` returns the number of observations that it removed.
    """

    def __init__(
        self,
        state: State,
        present: Present,
        report: Callable[[Event], None],
        measure: Callable[[], Coroutine[Any, Any, None]],
        reload: Callable[[], Coroutine[Any, Any, Reloaded]],
        forget: Callable[[ForgetParams], int],
    ) -> None:
        self._state = state
        self._present = present
        self._report = report
        self._measure = measure
        self._reloaded = reload
        self._forgotten = forget

    def stop(self, instance: str) -> Stopped:
        found = self._instance(instance)
        self._report(StopRequested(at=time.monotonic(), instance=found.id))
        return Stopped(instance=instance)

    def pin(self, params: PinParams) -> Pinned:
        found = self._instance(params.instance)
        if found.ask.external:
            raise LmxdError("invalid_params", f"{found.id} is a hold", "it lasts as long as its lease")
        self._report(PinChanged(at=time.monotonic(), instance=found.id, pin=params.pin))
        return Pinned(instance=found.id, pin=params.pin)

    def _instance(self, name: str) -> Instance:
        found = self._state.instances.get(InstanceId(name))
        if found is None:
            raise LmxdError("unknown_instance", f"there is no instance {name}", "lmxctl ps lists them")
        return found

    def drain(self, params: DrainParams) -> Drained:
        hit("draining")
        at = time.monotonic()
        self._report(DrainEnded(at=at) if params.end else DrainRequested(at=at, now=params.now))
        state = self._state
        return Drained(draining=state.draining, instances=len(state.instances), leases=len(state.leases))

    async def yield_(self, params: YieldParams) -> YieldBegun:
        await self._measure()
        measured = self._present.measured
        memories = {m.pool or m.id for m in measured}
        if params.device is None and len(memories) != 1:
            message = f"device is missing, and there are {len(memories)}"
            raise LmxdError("invalid_params", message, f"name one of {owners.names(measured)}")
        found = owners.find(measured, params.device or memories.pop())
        device = DeviceId(found.pool or found.id)  # the bytes of a view are those of its pool
        id = YieldId(f"y-{secrets.token_hex(4)}")
        self._report(YieldRequested(at=time.monotonic(), id=id, device=device, size=params.bytes, lasts=params.lasts))
        account = self._state.ledger.accounts[device]
        free = account.yielded + min(0, account.headroom)
        begun = YieldBegun(id=id, device=device, bytes=params.bytes, lasts=params.lasts, free=max(0, free))
        return begun.model_copy(update={"called": {device: account.name}})

    def unyield(self, id: str) -> YieldOver:
        if not any(id in a.yields for a in self._state.ledger.accounts.values()):
            raise LmxdError("unknown_id", f"there is no yield {id}", "it may be over already")
        self._report(YieldEnded(at=time.monotonic(), id=YieldId(id)))
        return YieldOver(id=id)

    async def reload(self) -> Reloaded:
        return await self._reloaded()

    def forget(self, params: ForgetParams) -> Forgotten:
        return Forgotten(count=self._forgotten(params))
