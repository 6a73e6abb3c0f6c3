"""The core's state as messages: what ps, queue, devices and status show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lmxd.config.schema import GIB
from lmxd.core.decisions import ReportProgress
from lmxd.core.ledger import Account
from lmxd.core.placement import shortfalls
from lmxd.core.state import Instance, State, Ticket
from lmxd.core.words import Refusal, Shortfall
from lmxd.daemon.catalog import Catalog, Size
from lmxd.daemon.launches import Launches
from lmxd.devices.measurement import Kind, Measurement
from lmxd.estimate import overhead
from lmxd.estimate.learned import RAM, Card, Learned
from lmxd.rpc import estimates as es
from lmxd.rpc import framing
from lmxd.rpc import messages as m


def devices(state: State, measured: Sequence[Measurement]) -> list[m.Device]:
    """The books of each device beside its last measurement."""
    return [_device(state, found) for found in measured]


def _device(state: State, found: Measurement) -> m.Device:
    account = state.ledger.accounts.get(found.id, Account(device=found.id))
    return m.Device(
        id=found.id,
        ref=found.ref,
        kind=found.kind.value,
        name=found.name,
        capacity=account.capacity,
        reserved=found.reserved,
        margin=account.margin,
        limit=account.limit,
        used=account.used,
        foreign=account.foreign,
        charged=account.charged,
        reclaiming=account.reclaiming,
        headroom=account.headroom,
        unavailable=found.unavailable,
    )


def instances(state: State, launches: Launches) -> list[m.Instance]:
    return [_instance(state, launches, i) for i in state.instances.values()]


def _instance(state: State, launches: Launches, i: Instance) -> m.Instance:
    launched = launches.get(i.id)
    return m.Instance(
        instance=i.id,
        model=i.ask.profile,
        phase=i.phase.value,
        pid=launched.process.pid if launched and launched.process else None,
        endpoint=launched.endpoint.url if launched and launched.endpoint else None,
        ctx=i.ask.context,
        slots=i.ask.spread,
        busy=i.busy,
        idle=state.now - i.active_at,
        idle_timeout=None if i.ask.pin else i.ask.idle_timeout,
        age=state.now - i.started_at,
        promised=dict(i.demand),
        measured=state.ledger.measured(i.id),
        charged=state.ledger.charge(i.id),
        leases=[
            m.LeaseInfo(
                lease=x.id,
                uid=x.owner.uid,
                pid=x.owner.pid,
                hold=x.hold.value,
                slots=x.slots,
                age=state.now - x.granted_at,
                expires_in=None if x.expires_at is None else x.expires_at - state.now,
            )
            for x in i.leases.values()
        ],
    )


def queue(state: State) -> list[m.Ticket]:
    """Those that start first, then those that wait, in order."""
    starting = [_ticket(state, t, 0, i.id) for i in state.instances.values() for t in i.tickets.values()]
    waiting = [_ticket(state, t, position, None) for position, t in enumerate(state.queue.values(), start=1)]
    return starting + waiting


def _ticket(state: State, t: Ticket, position: int, instance: str | None) -> m.Ticket:
    return m.Ticket(
        ticket=t.id,
        model=t.ask.profile,
        uid=t.owner.uid,
        pid=t.owner.pid,
        position=position,
        waited=state.now - t.asked_at,
        instance=instance,
        shortfalls=_shortfalls(shortfalls(state, t.ask.options)) if position else [],
    )


def progress(decision: ReportProgress, request: framing.Id) -> m.Progress:
    return m.Progress(
        request=request,
        ticket=decision.ticket,
        position=decision.position,
        state="queued" if decision.position else "starting",
        instance=decision.instance,
        shortfalls=_shortfalls(decision.shortfalls),
    )


def refusal(refusal: Refusal) -> dict[str, object]:
    """The figures of a "no", for ``data`` of the error."""
    data: dict[str, object] = {}
    if refusal.shortfalls:
        data["shortfalls"] = [s.model_dump(mode="json") for s in _shortfalls(refusal.shortfalls)]
    if refusal.failure is not None:
        data["failure"] = {
            "code": refusal.failure.code,
            "message": refusal.failure.message,
            "log": list(refusal.failure.log),
        }
    return data


def _shortfalls(found: Iterable[Shortfall]) -> list[m.Shortfall]:
    return [
        m.Shortfall(
            device=s.device,
            need=s.need,
            have=s.have,
            ceiling=s.ceiling,
            capacity=s.capacity,
            holders=[m.Holder(name=h.name, bytes=h.bytes, phase=h.phase, leases=h.leases) for h in s.holders],
            unavailable=s.unavailable,
        )
        for s in found
    ]


def sentence(found: Mapping[str, int]) -> str:
    return ", ".join(f"{size / GIB:.2f} GiB on {device}" for device, size in found.items())


def explain(catalog: Catalog, name: str, size: Size, devices: Mapping[str, Kind]) -> es.Estimated:
    """What a model would take, by part, beside what was declared for it."""
    launch, declared = catalog.launch(name, size), catalog.profile(name).estimated_memory_gb
    gpus = [device for device, kind in devices.items() if kind is Kind.GPU and catalog.goes_to_gpu(launch, devices)]
    found = [catalog.formula(name, launch, catalog.card(gpu)) for gpu in gpus]
    first = found[0] if found else catalog.formula(name, launch, None)
    return es.Estimated(
        model=name,
        ctx=launch.context,
        slots=launch.slots,
        basis=first.basis,
        error=max(e.error for e in (first, *found)),
        devices=[{"device": gpu, **e.parts.device.as_dict()} for gpu, e in zip(gpus, found, strict=True)],
        host=first.parts.host.as_dict(),
        declared=None if declared is None else int(declared * GIB),
        inputs=catalog.inputs(name, launch),
        notes=list(first.notes),
    )


def estimates(learned: Learned, catalog: Catalog) -> es.Estimates:
    """Contexts of the cards here and of those seen, and every observation."""
    here = set(catalog.cards.values())
    seen = {o.card for o in learned.observations if o.card.name != RAM}
    return es.Estimates(
        contexts=[_context(learned, card) for card in sorted(here | seen, key=str)],
        observed=[
            es.Observed(
                model=o.model,
                card=o.card.name,
                driver=o.card.driver,
                build=o.card.build,
                buffers=o.buffers,
                predicted=o.predicted,
                loaded=o.loaded,
                prompted=o.prompted,
                count=o.count,
            )
            for o in learned.observations
        ],
    )


def _context(learned: Learned, card: Card) -> es.Context:
    size, error = overhead.context(card, learned)
    count = sum(o.count for o in learned.observations if o.card == card)
    return es.Context(card=card.name, driver=card.driver, build=card.build, bytes=size, error=error, count=count)
