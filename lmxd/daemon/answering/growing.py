"""The call ``grow``: a lease moves to an instance with more context, as an admission like any other."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from lmxd.core.books.state import State
from lmxd.core.events import Event, GrowthRequested, TicketCancelled
from lmxd.core.holders import Lease
from lmxd.core.instances import Instance
from lmxd.core.moves import Carry
from lmxd.core.words import Ask, ConnectionId, InstanceId, TicketId
from lmxd.daemon.answering.answers import Answers, Waiting, is_alone
from lmxd.daemon.answering.asks import Asks
from lmxd.daemon.answering.health import Health
from lmxd.daemon.answering.leasing import Leasing
from lmxd.daemon.launching.performer import Performer
from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.rpc import framing
from lmxd.rpc.growing import GrowParams
from lmxd.rpc.messages import Granted
from lmxd.rpc.server import Connection


class Moving:
    """Answers the call ``grow``. A lease that cannot grow stays where it is."""

    def __init__(
        self,
        leasing: Leasing,
        asks: Asks,
        answers: Answers,
        performer: Performer,
        health: Health,
        state: State,
        report: Callable[[Event], None],
    ) -> None:
        self._leasing = leasing
        self._asks = asks
        self._answers = answers
        self._performer = performer
        self._health = health
        self._state = state
        self._report = report

    async def grow(self, connection: Connection, id: framing.Id, params: GrowParams) -> Granted:
        """Wait until the lease has so much context. LmxdError if it cannot have it, or its instance is of one size."""
        self._health.require_ledger()
        lease = self._leasing.lease(connection, params.lease)
        if lease.owner.uid != connection.peer.uid:
            raise LmxdError("not_permitted", f"lease {lease.id} belongs to another user", "its owner may have it grow")
        await self._answers.transit.over(lease, params.wait)
        instance = self._state.instances[lease.instance]
        if not instance.ask.elastic:
            what = f"lease {lease.id} is on {instance.id}, whose context is fixed"
            remedy = "request another with ctx, or have context: elastic in the profile of the model"
            raise LmxdError("invalid_params", what, remedy)
        larger = instance.ask.unified and instance.id in params.apart
        if params.ctx <= instance.ask.tokens(lease.slots) and not larger:
            granted = self._answers.granted(lease, waited=0.0)
            assert isinstance(granted, Granted)
            return granted
        ask = await self._asks.grown(lease, params)
        await self._answers.transit.over(lease, params.wait)  # it may have been shrunk meanwhile, or have ended
        again = partial(self._asks.grown_again, lease, params)
        asked = GrowthRequested(
            at=time.monotonic(),
            ticket=TicketId(f"t-{secrets.token_hex(4)}"),
            lease=lease.id,
            owner=replace(lease.owner, connection=ConnectionId(connection.id)),
            ask=ask,
            carry=self._carry(lease, self._state.instances[lease.instance], params),
            apart=frozenset(map(InstanceId, self._asks.kept_apart(ask, params.apart))),
            wait=params.wait,
            deadline=params.deadline,
        )
        return await self._answer(connection, id, again, asked)

    def _carry(self, lease: Lease, instance: Instance, params: GrowParams) -> Carry | None:
        """The conversation that goes along: only one that is known to be the caller's. None: it is processed anew."""
        launched, slots = self._performer.launched(instance.id), instance.ask.spread
        if params.slot is not None:
            require_slot(instance, params.slot)
        slot = params.slot if params.slot is not None or slots > 1 else 0
        if not params.carry or slot is None or launched is None or not launched.plan.carried:
            return None
        return Carry(instance=instance.id, slot=slot) if is_alone(lease, instance) else None

    async def _answer(
        self, connection: Connection, id: framing.Id, again: Callable[[], Ask], asked: GrowthRequested
    ) -> Granted:
        """Wait for the answer to one growth. Withdrawn, or without one, the lease stays where it is."""
        answer = asyncio.get_running_loop().create_future()
        self._answers.waiting[asked.ticket] = Waiting(
            connection=connection, request=id, ask=asked.ask, again=again, answer=answer, grows=True
        )
        self._report(asked)
        hit("growth_asked")
        try:
            with connection.queued():
                granted = await answer
        except asyncio.CancelledError:
            if connection.open:  # the client cancelled; if it left, ``ClientLeft`` ends all
                self._report(TicketCancelled(at=time.monotonic(), ticket=asked.ticket))
            raise
        assert isinstance(granted, Granted)
        return granted


def require_slot(instance: Instance, slot: int) -> None:
    """LmxdError for a slot that an instance does not have."""
    if slot >= instance.ask.spread:
        what = f"slot is {slot}, but {instance.id} has the slots 0 to {instance.ask.spread - 1}"
        raise LmxdError("invalid_params", what, "name one of them, or leave it out")
