"""The state of the core and of the launches as rows on disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final, Protocol

from pydantic import TypeAdapter

from lmxd.core.books.state import State
from lmxd.core.books.step import Touched
from lmxd.core.decisions import Decision
from lmxd.core.events import Event
from lmxd.core.holders import Lease
from lmxd.core.instances import Instance
from lmxd.core.moves import Parked
from lmxd.core.words import Ask, DeviceId, InstanceId, LeaseId, Option, YieldId
from lmxd.daemon.keeping.arrivals import Arrivals
from lmxd.daemon.keeping.means import Means
from lmxd.daemon.keeping.outbox import Outbox
from lmxd.daemon.launching.holds import AdoptedProcess
from lmxd.daemon.launching.launched import Launched, Start, as_json
from lmxd.instances.process import Process
from lmxd.store.rows import Change, CountRow, Gone, InstanceRow, LeaseRow, Saved, YieldRow

log = logging.getLogger(__name__)

ASKS: Final = TypeAdapter(Ask)
OPTIONS: Final = TypeAdapter(Option)
PARKED: Final = TypeAdapter(Parked)
INSTANCE_COUNT: Final = "instances "
"""Before the profile in the names of the core's counts of instances."""


class Processes(Protocol):
    """A source of what is known of the processes of instances."""

    def launched(self, instance: InstanceId) -> Launched | None:
        """The launch of an instance, if lmxd started it."""

    def process(self, instance: InstanceId) -> Process | AdoptedProcess | None:
        """The one it has, if it has one."""


class Records:
    """Makes rows of the daemon's state. A row is what the state says now, whatever it said before."""

    def __init__(
        self, state: State, outbox: Outbox, arrivals: Arrivals, means: Means, processes: Callable[[], Processes]
    ) -> None:
        self._state = state
        self._outbox = outbox
        self._arrivals = arrivals
        self._means = means
        self._processes = processes
        self._wanted: dict[InstanceId, tuple[Ask, Option, str, str]] = {}
        """Ask and option of each instance as JSON: they hardly ever change, and are written again and again."""
        self._started: dict[InstanceId, tuple[Start, str]] = {}
        """And how it was started."""
        self._counted: dict[str, int] = {}
        """The last written rows of the counts."""

    def changes(self, event: Event, touched: Touched, decisions: Sequence[Decision]) -> list[Change]:
        """Rows for what came of an event."""
        found = self._touched(touched) if touched else []
        return [*found, *_made("who waits", lambda: self._arrivals.changes(self._state, event, decisions))]

    def restore(self, saved: Saved) -> Mapping[str, Mapping[str, float]]:
        """Take in who waited at an earlier daemon, and return what it had learned, by name and profile."""
        self._arrivals.restore(saved.arrivals)
        return self._means.restore(saved.means)

    def give_up(self) -> None:
        """Give up the places of clients of an earlier daemon that have not come back by now."""
        self._outbox.put(self._arrivals.give_up(), ())

    def _touched(self, touched: Touched) -> list[Change]:
        found: list[Change] = []
        for instance in touched.instances:
            found += _made(instance, lambda instance=instance: self._instance(instance))  # type: ignore[misc]
        for lease in touched.leases:
            found += _made(lease, lambda lease=lease: (self._changed_lease(lease),))  # type: ignore[misc]
        if touched.yields:
            found += _made("yields", lambda: self._changed_yields(touched.yields))
        return found

    def _changed_lease(self, name: LeaseId) -> Change:
        lease = self._state.leases.get(name)
        return Gone(LeaseRow, name) if lease is None else _lease(lease)

    def _changed_yields(self, names: set[YieldId]) -> Iterator[Change]:
        kept = dict(self._yields())
        return (kept.get(id) or Gone(YieldRow, id) for id in names)

    def everything(self) -> Sequence[Change]:
        """All rows there are to be."""
        state = self._state
        found: list[Change] = [_lease(lease) for lease in state.leases.values()]
        found += [self.row(instance) for instance in state.instances.values()]
        found += [CountRow(id=name, count=n) for name, n in state.counts.items() if name.startswith(INSTANCE_COUNT)]
        found += [*(row for _, row in self._yields()), *self._arrivals.rows(), *self._means.rows()]
        return found

    def _instance(self, name: InstanceId) -> Iterator[Change]:
        instance = self._state.instances.get(name)
        if instance is None:
            self._wanted.pop(name, None)
            self._started.pop(name, None)
            yield Gone(InstanceRow, name)
            return
        yield self.row(instance)
        counted = INSTANCE_COUNT + instance.ask.profile
        count = self._state.counts[counted]
        if self._counted.get(counted) != count:
            self._counted[counted] = count
            yield CountRow(id=counted, count=count)

    def row(self, i: Instance) -> InstanceRow:
        processes = self._processes()
        launched, process = processes.launched(i.id), processes.process(i.id)
        found = self._wanted.get(i.id)
        if found is None or found[0] is not i.ask or found[1] is not i.option:
            texts = ASKS.dump_json(i.ask).decode(), OPTIONS.dump_json(i.option).decode()
            found = self._wanted[i.id] = i.ask, i.option, *texts
        _, _, ask, option = found
        return InstanceRow(
            id=i.id,
            phase=i.phase.value,
            ask=ask,
            option=option,
            start=None if launched is None else self._start(i.id, launched.start),
            pid=process.pid if process else None,
            born=process.born if process else None,
            started_at=i.started_at,
            ready_at=i.ready_at,
            active_at=i.active_at,
            work=launched.work if launched else 0.0,
            prompted=launched.prompted if launched else 0.0,
        )

    def _start(self, instance: InstanceId, start: Start) -> str:
        if instance not in self._started or self._started[instance][0] is not start:
            self._started[instance] = start, as_json(start)
        return self._started[instance][1]

    def certificate(self, instance: InstanceId) -> str:
        """The row as JSON, for the process itself to carry: found by it if the database is lost."""
        return json.dumps(asdict(self.row(self._state.instances[instance])))

    def note(self, instance: InstanceId) -> None:
        """Write down what changed about an instance without the core's doing: it has a process by now."""
        if instance in self._state.instances:
            self._outbox.put(list(self._instance(instance)), ())

    def _yields(self) -> Iterator[tuple[YieldId, YieldRow]]:
        for account in self._state.ledger.accounts.values():
            for id in account.yields:
                yield id, self._yield(account.device, id)

    def _yield(self, device: DeviceId, id: YieldId) -> YieldRow:
        kept = self._state.ledger.accounts[device].yields[id]
        return YieldRow(id=id, device=device, size=kept.size, foreign_before=kept.foreign_before, until=kept.until)


def _made(what: str, rows: Callable[[], Iterable[Change]]) -> list[Change]:
    """One that cannot be made is logged: it is no reason to let anybody wait, nor to lose the others."""
    try:
        return list(rows())
    except Exception:
        log.exception("%s: what came of it was not written down", what)
        return []


def _lease(x: Lease) -> LeaseRow:
    return LeaseRow(
        id=x.id,
        instance=x.instance,
        uid=x.owner.uid,
        pid=x.owner.pid,
        gids=json.dumps(x.owner.gids),
        user=x.owner.user,
        hold=x.hold.value,
        slots=x.slots,
        size=x.size,
        priority=x.priority,
        granted_at=x.granted_at,
        ttl=x.ttl,
        expires_at=x.expires_at,
        key=x.key,
        digest=x.digest,
        share=x.share,
        parked=None if x.parked is None else PARKED.dump_json(x.parked).decode(),
    )
