"""Requests become asks for the core. An ask that a ready instance serves needs no reading, for it takes no bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.options import NO_ROOM, Room
from lmxd.catalog.resolved import Resolved
from lmxd.catalog.size import Size
from lmxd.core.books.state import State
from lmxd.core.events import AskChanged, Event
from lmxd.core.holders import Lease, Ticket
from lmxd.core.instances import Instance
from lmxd.core.policy.fit import FitWhen, fit
from lmxd.core.reasons import EndReason
from lmxd.core.words import Ask, Phase, TicketId, User
from lmxd.daemon.answering.answers import Waiting
from lmxd.daemon.answering.reading import FileReading
from lmxd.daemon.answering.together import Together
from lmxd.daemon.answering.transit import ask_of
from lmxd.daemon.present import Present
from lmxd.errors import LmxdError
from lmxd.rpc.growing import GrowParams

FRESH: Final = 0.05
"""Seconds for which a reading is used for decisions: 40 requests at once need one reading, not 40."""
_MOST: Final = 1024
"""The most asks that are remembered: more sizes of models than any configuration has clients for."""


class Asks:
    """Makes asks, and keeps them while the configuration is the same. One that needs bytes is made each time."""

    def __init__(
        self,
        state: State,
        present: Present,
        waiting: Mapping[TicketId, Waiting],
        measure: Callable[[], Coroutine[Any, Any, None]],
        report: Callable[[Event], None],
    ) -> None:
        self._state = state
        self._present = present
        self._waiting = waiting
        self._measure = measure
        self._report = report
        self._catalog: Catalog | None = None
        self._made: dict[tuple[str, Size, User | None], Ask] = {}
        """Asks by model, size and the user of a private instance, as ``_catalog`` has them."""
        self._divided_for = NO_ROOM
        self._together = Together()
        self._reading = FileReading()

    async def prepare(self, model: str, size: Size, user: User, apart: Sequence[str] = ()) -> Ask:
        """The ask of a user's request, on a fresh reading if it needs bytes. LmxdError if the request is not valid.

        ``apart``: instances in which it had rather not be.
        """
        size = await self.begun(model, size, user)
        catalog = self._present.catalog
        if self._catalog is not catalog or len(self._made) >= _MOST:
            self._made.clear()
            self._catalog = catalog
        mine = catalog.private_to(model, size, user)
        ask = self._made.get((model, size, mine))
        if ask is None or apart or not self._is_served(ask):
            ways = self._ways(model, size, apart=apart)
            for way in ways:
                self.require_engine(await self.warm(model, way, user))  # before bytes are reserved
            ask = self._made[model, size, mine] = self._first_possible(model, ways, mine)
        return ask

    def _ways(self, model: str, size: Size, lease: Lease | None = None, apart: Sequence[str] = ()) -> tuple[Size, ...]:
        """The sizes of an instance for a request, the best first. It is only asked where slots share one cache.

        One that needs more than there is, or is to be ``apart``, has the slots of others in it, too: they are to go on
        there. Any other waits for slots: a larger cache for all takes more for longer. None is smaller than those that
        there are, for it would soon be superseded. ``lease``: the one that grows, which gives back what it has.
        """
        if not size.bounded:
            return (size,)
        shared = (i for i in self._state.instances.values() if i.ask.unified and i.ask.profile == model and i.accepts)
        mine = [i for i in shared if i.ask.tokens(1) in self._present.catalog.steps(model)[:1]]
        if not mine:
            return (size,)
        own = {} if lease is None else {lease.instance: lease.slots}
        taken = max(i.ask.spread - i.free_slots - own.get(i.id, 0) for i in mine)
        crowded = max((i.ask.spread for i in mine if i.id in apart), default=0)
        plain = replace(size, like=max(i.ask.spread for i in mine))
        if not crowded and self._present.catalog.resolve(model, plain).launch.slots == plain.like:
            return (plain,)
        return replace(plain, beside=max(taken, crowded)), plain

    def kept_apart(self, ask: Ask, apart: Sequence[str]) -> Sequence[str]:
        """The instances of ``apart`` in which a request is not, if there is room: of one cache for all, the smaller."""
        if not ask.elastic:
            return ()
        return [i.id for i in self._state.among(apart) if not ask.unified or i.ask.spread < ask.spread]

    def _first_possible(self, model: str, ways: Sequence[Size], user: User | None) -> Ask:
        """The ask of the first size for which the devices would ever have room; of the last if none is so small."""
        *better, last = ways
        for way in better:
            ask = self.ask(self._present.catalog.resolve(model, way), user)
            if any(self._state.ledger.could_ever_fit(o.demand) for o in ask.options):
                return ask
        return self.ask(self._present.catalog.resolve(model, last), user)

    async def begun(self, model: str, size: Size, user: User) -> Size:
        """The size with which a lease starts that was asked for with ``size``. LmxdError ``unknown_model``.

        Where no context is said, it is the one that the user's conversations were seen to need, if there is room for
        it at once. Nobody waits for a guess: else it is the first step.
        """
        if (likely := self._likely(model, size, user)) is not None:
            with suppress(LmxdError):
                await self.warm(model, likely, user)
        return self._begun(model, size, user)

    def _begun(self, model: str, size: Size, user: User) -> Size:
        """The same for the configuration and the devices that there are now."""
        if (likely := self._likely(model, size, user)) is None:
            return size
        try:
            mine = self._present.catalog.private_to(model, likely, user)
            ask = self.ask(self._present.catalog.resolve(model, likely), mine)
        except LmxdError:
            return size  # the context is more than the model or the machine can have
        served = any(i.serves(ask) for i in self._state.with_free_slots.get(ask.kind, {}).values())
        return likely if served or fit(self._state, ask).when is FitWhen.NOW else size

    def _likely(self, model: str, size: Size, user: User) -> Size | None:
        """A size with the context that conversations were seen to need; None if that is said, or the first step."""
        start = self._present.catalog.start(model, user) if size.ctx is None else None
        return None if start is None or start == self._present.catalog.steps(model)[0] else replace(size, ctx=start)

    def require_engine(self, resolved: Resolved) -> None:
        """LmxdError ``engine_missing`` if the engine of a model is not there."""
        self._present.engine(resolved.engine.name, resolved.engine.kind).require()

    async def warm(self, model: str, size: Size = Size(), user: User | None = None) -> Resolved:
        """A model at a size, with a fresh reading and its file read, so that a decision on it takes microseconds.

        ``user``: for whom it is; None for the daemon. LmxdError ``unknown_model``, ``too_many``.
        """
        await self.measured(FRESH)
        return await self.read(model, size, user)

    async def measured(self, within: float) -> None:
        """Have a reading that began within so many seconds. Callers at the same time share one."""
        if time.monotonic() - self._present.begun > within:
            await self._together.do("measure", self._measure)

    async def read(self, model: str, size: Size = Size(), user: User | None = None) -> Resolved:
        """The same on the reading that there is. A file is read if it has not been."""
        resolved = self._present.catalog.resolve(model, size)
        if resolved.is_warm():
            return resolved
        await self._reading.do(user, (model, size), resolved.read)
        return self._present.catalog.resolve(model, size)  # a reload may have replaced the catalog

    def ask(self, resolved: Resolved, private_to: User | None = None) -> Ask:
        """The ask of a resolved model on the devices as they are. LmxdError if the model cannot be run so."""
        return resolved.ask(self._present.layout, self._room(), private_to)

    def _room(self) -> Room:
        accounts = self._state.ledger.accounts
        return Room(
            free={device: a.free for device, a in accounts.items()},
            ceiling={device: a.ceiling for device, a in accounts.items()},
        )

    def again(self, model: str, size: Size, user: User, apart: Sequence[str] = ()) -> Ask:
        """The ask of a request that waits, for the configuration and the devices that there are now. LmxdError."""
        catalog, size = self._present.catalog, self._begun(model, size, user)
        ways = self._ways(model, size, apart=apart)
        return self._first_possible(model, ways, catalog.private_to(model, size, user))

    async def grown(self, lease: Lease, params: GrowParams) -> Ask:
        """The ask of a lease that needs so many tokens, on a fresh reading: of its instance's kind, on a larger step.

        LmxdError ``invalid_params`` if there is no such step, ``unknown_model`` if the configuration has the model no
        more, ``lease_ended`` if its instance is gone.
        """
        model, ways, _ = self._growth(lease, params)
        for way in ways:
            self.require_engine(await self.warm(model, way, lease.owner.who))
        return self.grown_again(lease, params)

    def grown_again(self, lease: Lease, params: GrowParams) -> Ask:
        """The same for the configuration and the devices that there are now. LmxdError likewise."""
        return self._first_possible(*self._growth(lease, params))

    def _growth(self, lease: Lease, params: GrowParams) -> tuple[str, tuple[Size, ...], User | None]:
        """The model and sizes that a lease grows to, the best first, and the user for whom its instance is."""
        if self._state.leases.get(lease.id) is not lease:
            why = {"reason": EndReason.INSTANCE_EXITED}
            raise LmxdError("lease_ended", f"lease {lease.id} has ended with its instance", "make a new request", why)
        ask = ask_of(self._state, lease)
        had = Size(
            slots=None if ask.unified else lease.slots,
            priority=lease.priority,
            share=lease.share,
            max_instances=params.max_instances,
            bounded=ask.unified,
        )
        size = self._present.catalog.grown(ask.profile, had, params.ctx)
        return ask.profile, self._ways(ask.profile, size, lease, params.apart), ask.private_to

    async def shrunk(self, instance: Instance, used: Sequence[int]) -> Ask | None:
        """The ask of a smaller instance in the place of one whose slots have so many tokens; None if there is none.

        It takes fewer bytes there, and has as many slots, if these do not share one cache. LmxdError ``unknown_model``,
        or if it cannot be run so.
        """
        ask, user = instance.ask, _user_of(instance)
        if not ask.elastic:
            return None
        now = Size(ctx=ask.context, slots=ask.spread, priority=ask.priority, share=ask.share, like=instance.taken_slots)
        if (size := self._present.catalog.smaller(ask.profile, now, used, user)) is None:
            return None
        resolved = await self.read(ask.profile, size, user)
        found, had = replace(self.ask(resolved, ask.private_to), slots=1), instance.demand
        takes = [o.demand for o in found.options if o.demand.keys() == had.keys()]
        return found if any(sum(need.values()) < sum(had.values()) for need in takes) else None

    def _is_served(self, ask: Ask) -> bool:
        """Whether a ready instance has a slot for it. It gets that slot whatever else waits."""
        return any(
            i.phase is Phase.READY and i.serves(ask) for i in self._state.with_free_slots.get(ask.kind, {}).values()
        )

    def divide(self, most: int) -> None:
        """Make the asks of so many requests in front again, if the room has changed for which they were divided."""
        room = self._room()
        if room != self._divided_for:
            self._divided_for = room
            self.renew(most)

    def renew(self, most: int | None = None) -> None:
        """Make the asks of waiting requests again, because devices, profiles or possible splits have changed.

        ``most``: only for so many in front.
        """
        queue = self._state.queue
        for ticket in queue.some(0, len(queue) if most is None else most):
            try:
                ask = self._renewed(ticket)
            except LmxdError:
                continue  # its start will fail with this error
            self._report(AskChanged(at=time.monotonic(), ticket=ticket.id, ask=ask))

    def _renewed(self, ticket: Ticket) -> Ask:
        """The ask of a ticket, made again; nobody asked for that of a parked lease. LmxdError."""
        if ticket.moves is not None and ticket.is_nobodys:
            return self._placed(ticket.ask)
        return self._waiting[ticket.id].again()

    def _placed(self, ask: Ask) -> Ask:
        """The ask of a parked lease, for the same context and slots. LmxdError."""
        size = replace(Size.of(ask), priority=ask.priority, share=ask.share)
        return replace(self.ask(self._present.catalog.resolve(ask.profile, size), ask.private_to), slots=ask.slots)


def _user_of(instance: Instance) -> User | None:
    """The one user who has leases on an instance, or had the last one; None if there are several."""
    leases = [*instance.leases.values()] or [x for x in (instance.last_use,) if x is not None]
    users = {lease.owner.who for lease in leases}
    return users.pop() if len(users) == 1 else None
