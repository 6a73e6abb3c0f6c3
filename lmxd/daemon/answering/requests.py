"""Requests for models: ``request``, ``plan`` and ``explain``."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from lmxd.catalog.size import Size
from lmxd.core.admission import Admission
from lmxd.core.reasons import RefusalCode
from lmxd.core.words import Elsewhere, User
from lmxd.daemon.answering import explaining
from lmxd.daemon.answering.access import Access
from lmxd.daemon.answering.asks import Asks
from lmxd.daemon.answering.beyond import ways_out
from lmxd.daemon.answering.choices import choices
from lmxd.daemon.answering.health import Health
from lmxd.daemon.answering.journal import Journal
from lmxd.daemon.answering.leasing import Leasing
from lmxd.daemon.answering.steps import growth
from lmxd.daemon.present import Present
from lmxd.daemon.rules import max_priority
from lmxd.engines.engine import shown_engine
from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.rpc import framing
from lmxd.rpc.explanations import Explained, Planned, PlanParams
from lmxd.rpc.messages import Granted, RequestParams, Wish
from lmxd.rpc.server import Connection
from lmxd.text import user_name

_OF_FLEETS: Final = {"waited": "waited {:g} s", "used_elsewhere": "used {:g} byte-seconds", "weight": "weighs {:g}"}


class Requests:
    """Answers the calls ``request``, ``plan`` and ``explain``."""

    def __init__(
        self,
        leasing: Leasing,
        asks: Asks,
        present: Present,
        access: Access,
        health: Health,
        admission: Admission,
        journal: Journal,
    ) -> None:
        self._leasing = leasing
        self._asks = asks
        self._present = present
        self._access = access
        self._health = health
        self._admission = admission
        self._journal = journal
        self._planning = asyncio.Lock()
        """Each plan copies the core, which takes milliseconds: one at a time, and others go on in between."""

    async def request(self, connection: Connection, id: framing.Id, params: RequestParams) -> Granted:
        if params.user is not None:
            self._access.require_proxy(connection.peer, f"ask for {params.user}", "user")
        elsewhere = self._elsewhere(connection, params)
        self._require_reach(connection, params.model)
        self._health.require_ledger()
        user = connection.peer.uid, params.user or ""
        if params.reuse:
            self._leasing.reuses(connection)
        size = self._size(connection, params, user)
        ask = await self._asks.prepare(params.model, size, user, params.apart)
        again = partial(self._asks.again, params.model, size, user, params.apart)
        granted = await self._leasing.wait(
            connection,
            id,
            params,
            ask,
            again,
            deadline=params.deadline,
            user=params.user,
            waited=params.waited,
            elsewhere=elsewhere,
            near=params.near,
            apart=self._asks.kept_apart(ask, params.apart),
        )
        assert isinstance(granted, Granted)
        try:
            self._require_reach(connection, params.model)  # a reload may have let it sleep
        except LmxdError:
            self._leasing.release(connection, granted.lease)
            raise
        asyncio.get_running_loop().call_soon(hit, "grant_answered")
        return granted

    def _elsewhere(self, connection: Connection, params: RequestParams) -> Elsewhere | None:
        """The user as a fleet's gateway states it; None if it does not. LmxdError ``not_permitted`` for others."""
        for key, what in _OF_FLEETS.items():
            if (value := getattr(params, key)) != RequestParams.model_fields[key].default:
                self._access.require_proxy(connection.peer, f"say that it {what.format(value)} elsewhere", key)
        if params.used_elsewhere is None and params.weight is None:
            return None
        return Elsewhere(used=params.used_elsewhere or 0.0, weight=params.weight)

    async def plan(self, connection: Connection, params: PlanParams) -> Planned:
        """The answer that a request would get now, without any effect."""
        self._require_reach(connection, params.model)
        user = connection.peer.uid, ""
        size = await self._asks.begun(params.model, self._size(connection, params, user), user)
        resolved = await self._asks.warm(params.model, size, user)
        self._asks.require_engine(resolved)
        grows = await growth(self._asks, resolved, self._present.catalog, user)
        async with self._planning:
            await asyncio.sleep(0)
            ask = self._asks.ask(resolved, self._present.catalog.private_to(params.model, size, user))
            planned = explaining.plan(self._admission, ask, connection.peer, params.deadline)
            found = choices(self._admission.state, self._present.layout, resolved, ask, planned)
            said = {"engine": shown_engine(resolved.engine.name), "choices": found, "growth": grows}
            if planned.code == RefusalCode.NEVER_FITS:
                said["remedy"] = ways_out(ask, self._admission.state, self._present).remedy
            return planned.model_copy(update=said)

    def explain(self, connection: Connection, subject: str) -> Explained:
        """The history of a request, a lease or an instance."""
        return explaining.explain(self._journal, self._access, connection.peer, subject)

    def _require_reach(self, connection: Connection, model: str) -> None:
        profile = self._present.catalog.config.models.get(model)
        if profile is not None and profile.sleep:
            self._access.require_reach(connection.peer, model)

    def _size(self, connection: Connection, wish: Wish, user: User) -> Size:
        """The size of a request. LmxdError ``not_permitted`` if its class is higher than the caller may ask for.

        An administrator may ask for any; a key has its own bound, whoever asks for it.
        """
        if wish.priority is not None:
            own = self._present.catalog.profile(wish.model).priority
            most = max(own, max_priority(self._present.catalog.config, user))
            if wish.priority > most and (user[1] or not self._access.is_admin(connection.peer)):
                raise LmxdError(
                    "not_permitted",
                    f"priority is {wish.priority}, but {user_name(*user)} may ask for {most} at most",
                    f"ask for that, or have max_priority in {'keys' if user[1] else 'users'}: raised",
                )
        return Size(
            ctx=wish.ctx,
            slots=wish.slots,
            priority=wish.priority,
            share=not wish.exclusive,
            min_gpu_layers=wish.min_gpu_layers,
            max_instances=wish.max_instances,
            bounded=isinstance(wish, RequestParams) and wish.bounded,
        )
