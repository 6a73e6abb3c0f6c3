"""Takes over from an earlier daemon: the part of its ledger that stands is adopted, the rest ended and given back."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from lmxd.core.events import Event, InstanceExited, LedgerRestored
from lmxd.core.holders import Lease
from lmxd.core.instances import Instance
from lmxd.core.words import (
    HOLD,
    NO_CONNECTION,
    DeviceId,
    Failure,
    Hold,
    InstanceId,
    LeaseId,
    Owner,
    Phase,
    Yielded,
    YieldId,
)
from lmxd.daemon.keeping import certificates
from lmxd.daemon.keeping.adoption import ADOPTED, running, wrong
from lmxd.daemon.keeping.outbox import Outbox
from lmxd.daemon.keeping.records import ASKS, INSTANCE_COUNT, OPTIONS, PARKED, Records
from lmxd.daemon.launching import belongings
from lmxd.daemon.launching.launched import Launched
from lmxd.daemon.launching.performer import Performer
from lmxd.daemon.places import Places
from lmxd.failpoints import hit
from lmxd.failures import FailureCode
from lmxd.instances import proc
from lmxd.instances.orphans import end_orphans, left_behind
from lmxd.store.database import Damaged, Database, set_aside
from lmxd.store.rows import CountRow, InstanceRow, LeaseRow, Saved
from lmxd.store.writer import Writer

log = logging.getLogger(__name__)
R = TypeVar("R", InstanceRow, LeaseRow)
T = TypeVar("T")

GRACE: Final = 30.0
"""Seconds that clients have to come back to a lease that their connection held, or that its TTL would have ended."""
_ROUNDS: Final = 3
"""Looks for what is left behind: while one is ended, it may begin another."""
_LOST: Final = Failure(code=FailureCode.LOST, message="it was gone when lmxd was started again")


@dataclass(kw_only=True, slots=True)
class Restored:
    """The rows found on disk, and the warnings that the owner of the machine should read."""

    saved: Saved
    users: frozenset[int] = frozenset()
    """The users that running instances were started as, beside our own."""
    warnings: list[str] = field(default_factory=list)


class Restoring:
    """Takes over what an earlier daemon left: its ledger, and the instances that still run."""

    def __init__(
        self,
        records: Records,
        outbox: Outbox,
        performer: Performer,
        where: Places,
        measure: Callable[[], Coroutine[Any, Any, None]],
        report: Callable[[Event], None],
    ) -> None:
        self._records = records
        self._outbox = outbox
        self._performer = performer
        self._where = where
        account = performer.startup.account
        self._engines = frozenset[int]() if account is None else frozenset({account.uid})
        """The users that processes of ours may run as, beside our own: those of the ledger's rows are added."""
        self._measure = measure
        self._report = report

    async def restore(self) -> Restored:
        """Make the ledger the one that was on disk when the last daemon ended.

        Raises LmxdError if the database cannot be used, though it is not damaged.
        """
        hit("restore_begin")
        begun = time.monotonic()
        database, found = await asyncio.to_thread(_open, self._where, self._engines)
        found.saved.instances = [row for row in found.saved.instances if _made(row, _instance)]
        found.saved.leases = [row for row in found.saved.leases if _made(row, _lease)]
        self._engines |= certificates.users(found.saved.instances, self._where)
        adopted = [(row, x) for row in found.saved.instances if (x := _made(row, self._adopted)) is not None]
        failures = await asyncio.gather(*(_wrong(row, launched) for row, launched in adopted))
        event = _event(found.saved, self._records.restore(found.saved))
        self._performer.kept.sweep({carry.file for x in event.leases if x.parked for carry in x.parked.carries})
        self._outbox.hold()  # what starts for a parked lease is not to be swept with what was left behind
        self._report(event)
        if found.saved.arrivals:  # who waited has as long to come back as who has a lease
            asyncio.get_running_loop().call_later(GRACE, self._records.give_up)
        self._outbox.writer = Writer(database, self._records.everything)
        for (_, launched), failure in zip(adopted, failures, strict=True):
            self._performer.launches.adopt(launched, failure)
            hit("restore_adopting")
        _restore_holds(self._performer, found.saved)
        hit("restored")
        await self._measure()  # who lives is seen now, before the dead are given back
        await self._sweep(found, {row.id for row, _ in adopted})
        self._outbox.let_go()
        for _, launched in adopted:  # also those who have a lease no longer: where the ledger was lost, that is all
            self._performer.admit_holders(launched.instance)
        found.users = certificates.users((row for row, _ in adopted), self._where)
        self._outbox.put(self._records.everything(), ())
        if found.saved.instances:
            log.info(
                "restored in %.2f s: %d of %d instances adopted",
                time.monotonic() - begun,
                failures.count(None),
                sum(1 for row in found.saved.instances if row.start is not None),
            )
        return found

    def _adopted(self, row: InstanceRow) -> Launched | None:
        return running(self._performer, row, self._where, self._engines)

    async def _sweep(self, found: Restored, known: set[str]) -> None:
        """End every process of ours that nobody looks after by now, and then give back the bytes of what is gone."""
        hit("restore_sweeping")
        leaders = {row.id: (row.pid, row.born) for row in found.saved.instances if row.start and row.pid and row.born}
        where = self._where
        for _ in range(_ROUNDS):
            left = await asyncio.to_thread(left_behind, where.home, where.logs, leaders, known, self._engines)
            for pid in await asyncio.to_thread(end_orphans, left):
                log.warning("pid %d was left behind by an earlier lmxd: ended", pid)
            if not left:
                break
        await asyncio.to_thread(self._performer.launches.groups.sweep, known)
        await asyncio.to_thread(self._performer.prompt_caches().sweep)
        await asyncio.to_thread(belongings.sweep, where.home, known)
        for row in found.saved.instances:
            is_hold = row.phase == Phase.READY and ASKS.validate_json(row.ask).external
            if row.id in known or is_hold:
                continue
            self._report(InstanceExited(at=time.monotonic(), instance=InstanceId(row.id), failure=_LOST))


def _made(row: R, make: Callable[[R], T]) -> T | None:
    """The thing that is made of a row; None if that fails: no one row keeps the others from a start."""
    try:
        return make(row)
    except Exception:
        log.exception("the row of %a is not taken", row.id)
        return None


async def _wrong(row: InstanceRow, launched: Launched) -> Failure | None:
    """The reason why an instance cannot be taken over, which may be that to find it failed."""
    try:
        return await wrong(row, launched)
    except Exception as error:
        log.exception("%s could not be asked whether it can be taken over", row.id)
        return Failure(code=FailureCode.LOST, message=f"lmxd failed to take it over: {error!r}")


def _open(where: Places, engines: Set[int]) -> tuple[Database, Restored]:
    """The database and what it holds. A damaged one is set aside, and what there is, is looked for."""
    path, boot = where.state / "ledger.db", proc.boot()
    try:
        database = Database(path, boot)
        saved = database.load()
    except Damaged as damage:
        aside = set_aside(path)
        database = Database(path, boot)
        saved = database.load()
        what = f"the ledger was damaged ({damage}) and is now {aside}"
        return database, _rebuilt(saved, certificates.found(where, engines), what)
    if database.fresh and (found := certificates.found(where, engines)):
        return database, _rebuilt(saved, found, f"the ledger {path} was gone")
    return database, Restored(saved=saved)


def _rebuilt(saved: Saved, found: list[InstanceRow], what: str) -> Restored:
    """Rows made from the processes themselves: each carries its own. Their leases are lost."""
    saved.instances = found
    saved.counts = list(_counts(found))
    message = f"{what}: {len(found)} running instances were found, their leases are lost"
    log.critical("%s", message)
    return Restored(saved=saved, warnings=[message])


def _counts(rows: Iterable[InstanceRow]) -> Iterable[CountRow]:
    for row in sorted(rows, key=lambda row: int(row.id.rpartition("#")[2])):  # the last of a profile counts
        profile, _, number = row.id.rpartition("#")
        yield CountRow(id=INSTANCE_COUNT + profile, count=int(number))


def _event(saved: Saved, means: Mapping[str, Mapping[str, float]]) -> LedgerRestored:
    known = {row.id for row in saved.instances}
    return LedgerRestored(
        at=time.monotonic(),
        instances=tuple(_instance(row) for row in saved.instances),
        leases=tuple(_lease(row) for row in saved.leases if row.instance in known or row.parked is not None),
        yields=tuple(
            (DeviceId(y.device), YieldId(y.id), Yielded(size=y.size, foreign_before=y.foreign_before, until=y.until))
            for y in saved.yields
        ),
        counts={row.id: row.count for row in saved.counts},
        grace=GRACE,
        means=means,
    )


def _instance(row: InstanceRow) -> Instance:
    """The instance of a row. One that was neither ready nor asleep is on its way out: its clients ask again."""
    ask = ASKS.validate_json(row.ask)
    if ask.external and ask.profile != HOLD:  # an earlier lmxd had the name of a hold there
        ask = replace(ask, profile=HOLD, name=ask.profile)
    return Instance(
        id=InstanceId(row.id),
        ask=ask,
        option=OPTIONS.validate_json(row.option),
        phase=Phase(row.phase) if row.phase in ADOPTED else Phase.STOPPING,
        started_at=row.started_at,
        ready_at=row.ready_at,
        active_at=row.active_at,
    )


def _lease(row: LeaseRow) -> Lease:
    return Lease(
        id=LeaseId(row.id),
        instance=InstanceId(row.instance),
        owner=Owner(
            uid=row.uid, pid=row.pid, connection=NO_CONNECTION, gids=tuple(json.loads(row.gids)), user=row.user
        ),
        hold=Hold(row.hold),
        slots=row.slots,
        size=row.size,
        priority=row.priority,
        granted_at=row.granted_at,
        ttl=row.ttl,
        expires_at=row.expires_at,
        key=row.key,
        digest=row.digest,
        share=bool(row.share),
        parked=None if row.parked is None else PARKED.validate_json(row.parked),
    )


def _restore_holds(performer: Performer, saved: Saved) -> None:
    leases = {row.instance: LeaseId(row.id) for row in saved.leases}
    for row in saved.instances:
        if row.start is None and row.pid is not None and row.born is not None and row.id in leases:
            performer.holds.restore(InstanceId(row.id), leases[row.id], row.pid, row.born)
