"""Holds: bytes for processes that are not lmxd's."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from lmxd.core.books.state import State
from lmxd.core.words import HOLD, Ask
from lmxd.daemon.answering import owners
from lmxd.daemon.answering.access import Access
from lmxd.daemon.answering.health import Health
from lmxd.daemon.answering.leasing import Leasing
from lmxd.daemon.answering.transit import ask_of
from lmxd.daemon.launching.holds import Holds
from lmxd.daemon.present import Present
from lmxd.daemon.readings import device_id
from lmxd.devices.measurement import DeviceKind
from lmxd.errors import LmxdError
from lmxd.rpc import framing
from lmxd.rpc.holds import Adopted, AdoptParams, Held, HoldParams
from lmxd.rpc.peer import Peer
from lmxd.rpc.server import Connection


class Holding:
    """Answers the calls ``hold`` and ``adopt``."""

    def __init__(
        self,
        state: State,
        leasing: Leasing,
        holds: Holds,
        present: Present,
        health: Health,
        measure: Callable[[], Coroutine[Any, Any, None]],
        access: Access,
    ) -> None:
        self._state = state
        self._leasing = leasing
        self._holds = holds
        self._present = present
        self._health = health
        self._measure = measure
        self._access = access

    async def hold(self, connection: Connection, id: framing.Id, params: HoldParams) -> Held:
        self._health.require_ledger()
        if params.pid is not None:
            await self._holds.require(params.pid, await self._uid(params.pid, connection.peer))
        await self._measure()
        held = await self._leasing.wait(connection, id, params, self._ask(params), partial(self._ask, params))
        assert isinstance(held, Held)
        if params.pid is not None:
            try:
                await self.adopt(connection, AdoptParams(lease=held.lease, pid=params.pid))
            except BaseException:  # it ended, or was withdrawn, or lmxd failed: who is told so has no lease
                with suppress(LmxdError):
                    self._leasing.release(connection, held.lease)
                raise
        return held

    def _ask(self, params: HoldParams) -> Ask:
        """The ask of a hold on the devices that there are now. LmxdError if the one that it names is none of them."""
        wanted = None if params.device is None else device_id(owners.find(self._present.measured, params.device))
        layout = self._present.layout
        pools = () if wanted is not None else layout.of_kind(DeviceKind.POOL)
        devices = [device for device in layout.kinds if wanted in (None, device) and device not in pools]
        return Ask(
            profile=HOLD,
            name=params.name,
            variant="hold",
            context=0,
            slots=1,
            spread=1,
            options=tuple(layout.option({device: params.bytes}) for device in devices),
            share=False,
            external=True,
        )

    async def adopt(self, connection: Connection, params: AdoptParams) -> Adopted:
        uid = await self._uid(params.pid, connection.peer)
        found = self._leasing.lease(connection, params.lease)
        if not ask_of(self._state, found).external:
            raise LmxdError("invalid_params", f"lease {params.lease} is not a hold", "only a hold adopts a process")
        await self._holds.require(params.pid, uid, found.instance)
        found = self._leasing.lease(connection, params.lease)  # it may have ended meanwhile
        self._holds.adopt(found.instance, found.id, params.pid, uid)
        return Adopted(lease=params.lease, pid=params.pid)

    async def _uid(self, pid: int, peer: Peer) -> int:
        """The uid as which a peer may name a process: that of the process, if it is the peer's subordinate uid."""
        with suppress(OSError, LmxdError):
            uid = os.stat(f"/proc/{pid}").st_uid
            if uid not in (0, peer.uid) and peer.uid != 0 and await self._access.users.owner(uid) == peer.uid:
                return uid
        return peer.uid
