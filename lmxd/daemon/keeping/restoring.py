"""Takes over from an earlier daemon: the part of its ledger that stands is adopted, the rest ended and given back."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from lmxd.core.events import Event, InstanceExited, LedgerRestored
from lmxd.core.instances import Instance, Lease
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
from lmxd.daemon.keeping.outbox import Outbox
from lmxd.daemon.keeping.records import ASKS, INSTANCE_COUNT, OPTIONS, Records
from lmxd.daemon.launching.launched import STARTS, Launched, Start, as_json, forget
from lmxd.daemon.launching.launches import CERTIFICATE
from lmxd.daemon.launching.performer import Performer
from lmxd.daemon.launching.prompts import PromptCache
from lmxd.daemon.places import Places
from lmxd.engines.engine import Endpoint
from lmxd.failpoints import hit
from lmxd.failures import FailureCode
from lmxd.instances import proc
from lmxd.instances.orphans import end_orphans, orphans
from lmxd.instances.ports import listening_port
from lmxd.instances.process import Process
from lmxd.store.database import Damaged, Database, set_aside
from lmxd.store.rows import CountRow, InstanceRow, LeaseRow, Saved
from lmxd.store.writer import Writer

log = logging.getLogger(__name__)

GRACE: Final = 30.0
"""Seconds that clients have to come back to a lease that their connection held, or that its TTL would have ended."""
_HEALTH: Final = 3.0
"""Seconds within which an instance must answer to be adopted."""
_LOST: Final = Failure(code=FailureCode.LOST, message="it was gone when lmxd was started again")
_HALF: Final = Failure(code=FailureCode.LOST, message="it was half started, or half ended, when lmxd was started again")
_MUTE: Final = Failure(code=FailureCode.LOST, message="it did not answer when lmxd was started again")


@dataclass(kw_only=True, slots=True)
class Restored:
    """The rows found on disk, and the warnings that the owner of the machine should read."""

    saved: Saved
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
        self._measure = measure
        self._report = report

    async def restore(self) -> Restored:
        """Make the ledger the one that was on disk when the last daemon ended.

        Raises LmxdError if the database cannot be used, though it is not damaged.
        """
        hit("restore_begin")
        begun = time.monotonic()
        database, found = await asyncio.to_thread(_open, self._where)
        running = [(row, x) for row in found.saved.instances if (x := _running(self._performer, row)) is not None]
        wrong = await asyncio.gather(*(_wrong(row, launched) for row, launched in running))
        self._report(_event(found.saved, self._records.restore(found.saved)))
        if found.saved.arrivals:  # who waited has as long to come back as who has a lease
            asyncio.get_running_loop().call_later(GRACE, self._records.give_up)
        self._outbox.writer = Writer(database, self._records.everything)
        for (_, launched), failure in zip(running, wrong, strict=True):
            self._performer.launches.adopt(launched, failure)
            hit("restore_adopting")
        _restore_holds(self._performer, found.saved)
        hit("restored")
        await self._measure()  # who lives is seen now, before the dead are given back
        await self._sweep(found, {row.id for row, _ in running})
        self._outbox.put(self._records.everything(), ())
        if found.saved.instances:
            log.info(
                "restored in %.2f s: %d of %d instances adopted",
                time.monotonic() - begun,
                wrong.count(None),
                sum(1 for row in found.saved.instances if row.start is not None),
            )
        return found

    async def _sweep(self, found: Restored, known: set[str]) -> None:
        """End every process of ours that nobody looks after by now, and then give back the bytes of what is gone."""
        hit("restore_sweeping")
        for pid in await asyncio.to_thread(end_orphans, self._where.home, known):
            log.warning("pid %d was left behind by an earlier lmxd: ended", pid)
        await asyncio.to_thread(self._performer.launches.groups.sweep, known)
        await asyncio.to_thread(self._performer.prompt_caches().sweep)
        for row in found.saved.instances:
            is_hold = row.phase == Phase.READY and ASKS.validate_json(row.ask).external
            if row.id in known or is_hold:
                continue
            if row.start is not None and (address := STARTS.validate_json(row.start).address) is not None:
                forget(address)
            self._report(InstanceExited(at=time.monotonic(), instance=InstanceId(row.id), failure=_LOST))


def _open(where: Places) -> tuple[Database, Restored]:
    """The database and what it holds. A damaged one is set aside, and what there is, is looked for."""
    path, boot = where.state / "ledger.db", proc.boot()
    try:
        database = Database(path, boot)
        saved = database.load()
    except Damaged as damage:
        aside = set_aside(path)
        database = Database(path, boot)
        saved = database.load()
        return database, _rebuilt(where, saved, f"the ledger was damaged ({damage}) and is now {aside}")
    if database.fresh and any(CERTIFICATE in env for env in orphans(where.home).values()):
        return database, _rebuilt(where, saved, f"the ledger {path} was gone")
    return database, Restored(saved=saved)


def _rebuilt(where: Places, saved: Saved, what: str) -> Restored:
    """Rows made from the processes themselves: each carries its own. Their leases are lost."""
    found: dict[str, InstanceRow] = {}
    for pid, env in orphans(where.home).items():
        try:
            row = InstanceRow(**json.loads(env[CERTIFICATE]))
            start = STARTS.validate_json(row.start or "")
            port = listening_port(proc.tree(pid)) if start.address and start.address.socket is None else None
        except (KeyError, TypeError, ValueError):  # a child of an engine, or not ours to understand
            continue
        if start.address is not None and port is not None and start.address.port is None:
            start = replace(start, address=replace(start.address, port=port))
        lives = replace(
            row, pid=pid, born=proc.born(pid), phase=Phase.READY, ready_at=row.started_at, start=as_json(start)
        )
        found.setdefault(row.id, lives)
    saved.instances = list(found.values())
    saved.counts = list(_counts(saved.instances))
    message = f"{what}: {len(saved.instances)} running instances were found, their leases are lost"
    log.critical("%s", message)
    return Restored(saved=saved, warnings=[message])


def _counts(rows: Iterable[InstanceRow]) -> Iterable[CountRow]:
    for row in sorted(rows, key=lambda row: int(row.id.rpartition("#")[2])):  # the last of a profile counts
        profile, _, number = row.id.rpartition("#")
        yield CountRow(id=INSTANCE_COUNT + profile, count=int(number))


def _running(performer: Performer, row: InstanceRow) -> Launched | None:
    """The process of an instance, if it is still the one that was started."""
    if row.start is None or row.pid is None or row.born is None:
        return None
    start, key = STARTS.validate_json(row.start), ""
    process = Process.adopt(row.pid, row.born, performer.launches.groups.find(row.id, start.limits.memory_max))
    if process is None:
        return None
    if start.address is not None:
        with suppress(OSError):  # without its key it will not answer
            key = start.address.key_file.read_text().strip()
    endpoint = None if start.address is None else Endpoint.at(start.address, key)
    return _launched(performer, row, start, key, endpoint, process)


async def _wrong(row: InstanceRow, launched: Launched) -> Failure | None:
    """The reason why an instance cannot be taken over; None if it was ready, and answers."""
    if row.phase != Phase.READY:
        return _HALF
    return None if await _serves(launched) else _MUTE


def _launched(
    performer: Performer, row: InstanceRow, start: Start, key: str, endpoint: Endpoint | None, process: Process
) -> Launched:
    return Launched(
        start=start,
        engine=performer.engine(start.plan),
        log=performer.launches.log_of(start),
        prompts=_prompts(performer, start),
        process=process,
        key=key,
        endpoint=endpoint,
        ready_at=row.ready_at,
        adopted=True,
        work=row.work,
        prompted=row.prompted,
    )


def _prompts(performer: Performer, start: Start) -> PromptCache | None:
    """The prompt cache of an instance. The directory that an earlier lmxd left open to it is removed."""
    if start.plan.prompts is None:
        return None
    if start.kept is None:
        shutil.rmtree(start.plan.prompts, ignore_errors=True)
        return None
    return performer.prompt_caches().reopen(start.kept, start.plan.prompts)


async def _serves(launched: Launched) -> bool:
    deadline = time.monotonic() + _HEALTH
    assert launched.process is not None
    while launched.endpoint is not None and time.monotonic() < deadline:
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEALTH):
                if await launched.engine.ready(launched.endpoint):
                    return True
        if await launched.process.exits_within(0.1):
            return False
    return False


def _event(saved: Saved, means: Mapping[str, Mapping[str, float]]) -> LedgerRestored:
    known = {row.id for row in saved.instances}
    return LedgerRestored(
        at=time.monotonic(),
        instances=tuple(_instance(row) for row in saved.instances),
        leases=tuple(_lease(row) for row in saved.leases if row.instance in known),
        yields=tuple(
            (DeviceId(y.device), YieldId(y.id), Yielded(size=y.size, foreign_before=y.foreign_before, until=y.until))
            for y in saved.yields
        ),
        counts={row.id: row.count for row in saved.counts},
        grace=GRACE,
        means=means,
    )


def _instance(row: InstanceRow) -> Instance:
    """The instance of a row. One that was not ready is on its way out: its clients ask again."""
    ask = ASKS.validate_json(row.ask)
    if ask.external and ask.profile != HOLD:  # an earlier lmxd had the name of a hold there
        ask = replace(ask, profile=HOLD, name=ask.profile)
    return Instance(
        id=InstanceId(row.id),
        ask=ask,
        option=OPTIONS.validate_json(row.option),
        phase=Phase.READY if row.phase == Phase.READY else Phase.STOPPING,
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
    )


def _restore_holds(performer: Performer, saved: Saved) -> None:
    leases = {row.instance: LeaseId(row.id) for row in saved.leases}
    for row in saved.instances:
        if row.start is None and row.pid is not None and row.born is not None and row.id in leases:
            performer.holds.restore(InstanceId(row.id), leases[row.id], row.pid, row.born)
