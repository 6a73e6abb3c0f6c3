"""Every view with content as long as it may be: in 80 columns, narrower and wider, and in a pipe."""

from __future__ import annotations

import io
from typing import Any

import pytest
from cli.card import GIB, card
from cli.test_screen import instance, status
from cli.test_tables import HUB, WIDE, broken, lines
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from lmxd.cli import explanations, views
from lmxd.cli.devices import table as devices_table
from lmxd.cli.devices import yielding
from lmxd.cli.output import GIB as _GIB
from lmxd.cli.output import blocked
from lmxd.cli.screen import Samples, rendered
from lmxd.cli.tables import Table
from lmxd.folding import width
from lmxd.rpc.books import InstanceInfo, LeaseInfo, ModelInfo, TicketInfo, VariantInfo
from lmxd.rpc.holds import YieldInfo
from lmxd.rpc.overview import Overview
from lmxd.rpc.owners import OwnerInfo, ProcessInfo, Why
from lmxd.rpc.shortfalls import HolderInfo, ShortfallInfo, SwapInfo, TurnInfo

UUID = "GPU-01a4c5e8-1111-2222-3333-444455556666"
MIG = "MIG-01c5e7d2-aaaa-bbbb-cccc-0123456789ab"
CALLED = {UUID: "GPU 0", MIG: "MIG-01c5e7d2"}
assert GIB == _GIB

names = st.one_of(st.sampled_from([HUB, WIDE, "llama-3.1-8b"]), st.text("abcz模型-:/.09", min_size=1, max_size=128))
users = st.one_of(st.none(), st.text("abcdefé模型.-@", min_size=1, max_size=64))
sizes = st.integers(0, 2**50)
times = st.floats(0, 10**9)
ids = st.from_regex(r"[lt]-[0-9a-f]{8}", fullmatch=True)


@st.composite
def instances(draw: st.DrawFn) -> InstanceInfo:
    model, size = draw(names), draw(sizes)
    leases = st.builds(LeaseInfo, bytes=sizes, slots=st.just(1), lease=ids, uid=st.just(60000), user=users)
    return instance(
        instance=f"{model}#{draw(st.integers(1, 9999))}",
        model=model,
        ctx=draw(st.integers(0, 2**27)),
        slots=draw(st.integers(1, 256)),
        busy=draw(st.booleans()),
        idle=draw(times),
        promised={draw(st.sampled_from([UUID, MIG])): size},
        measured={UUID: draw(sizes)},
        charged={UUID: size},
        endpoint=draw(st.sampled_from([None, "http://127.0.0.1:40000"])),
        leases=draw(st.lists(leases, max_size=4)),
        swap=SwapInfo(model=model, closes_in=draw(times), price=9.0) if draw(st.booleans()) else None,
    )


@st.composite
def tickets(draw: st.DrawFn) -> TicketInfo:
    waited = [f"{draw(names)}#{n}" for n in range(draw(st.integers(0, 15)))]
    held = [HolderInfo(name=name, bytes=draw(sizes), phase="ready", leases=1, since=4) for name in waited]
    short = ShortfallInfo(
        device=UUID, need=2**40, have=-5, ceiling=2**40, capacity=2**41, holders=held, called={UUID: "GPU 0"}
    )
    return TicketInfo(
        ticket=draw(ids),
        model=draw(names),
        uid=60000,
        user=draw(users),
        bytes=draw(sizes),
        position=draw(st.integers(1, 512)),
        priority=draw(st.integers(-100, 100)),
        waited=draw(times),
        eta=draw(st.one_of(st.none(), times)),
        waits_for=waited,
        shortfalls=[short] if held else [],
        turns=[TurnInfo(instance=waited[0], closes_in=3, price=2.5)] if held else [],
    )


@pytest.mark.parametrize("most", [60, 80, 200])
@given(st.lists(instances(), min_size=1, max_size=6))
@settings(max_examples=examples(10), deadline=None)
def test_ps_fits_and_names_instances_devices_and_leases_whole(most: int, found: list[InstanceInfo]) -> None:
    rows = [views.instance_row(i, CALLED) for i in found]
    shown = lines(Table(views.PS, rows), most)
    assert max(map(width, shown)) <= most
    assert broken(shown, *(cell for row in rows for cell in row), *(h.lstrip(">") for h in views.PS)) == []
    text = " ".join(shown)
    for i in found:
        assert width(i.instance) > most or i.instance in text.split()
        assert all(x.lease in text for x in i.leases if x.lease)
    assert UUID not in text
    assert "GPU 0" in text or all(MIG in i.promised for i in found)


@pytest.mark.parametrize("most", [60, 80, 200])
@given(st.lists(tickets(), min_size=1, max_size=6))
@settings(max_examples=examples(10), deadline=None)
def test_the_queue_fits_and_names_tickets_whole(most: int, found: list[TicketInfo]) -> None:
    rows = [views.ticket_row(t) for t in found]
    shown = lines(Table(views.QUEUE, rows), most)
    assert max(map(width, shown)) <= most
    assert broken(shown, *(cell for row in rows for cell in row), *(h.lstrip(">") for h in views.QUEUE)) == []
    assert all(t.ticket in " ".join(shown).split() for t in found)


@given(st.lists(st.tuples(names, sizes, names), min_size=1, max_size=5))
@settings(max_examples=examples(10), deadline=None)
def test_models_and_owners_fit(found: list[tuple[str, int, str]]) -> None:
    models = [
        ModelInfo(
            model=m,
            ctx=2**27,
            slots=256,
            bytes={UUID: n, MIG: n // 2},
            basis="b",
            running=1,
            problem=p,
            variants=[VariantInfo(name=f"{m}:thinking", set=dict.fromkeys(p.split(), 1), strip=["min_p"])],
        )
        for m, n, p in found
    ]
    rows = [row for x in models for row in views.model_rows(x, CALLED)]
    shown = lines(Table(views.MODELS, rows), 80)
    assert max(map(width, shown)) <= 80
    assert broken(shown, *(cell for row in rows for cell in row), *(h.lstrip(">") for h in views.MODELS)) == []
    owners = [
        OwnerInfo(instance=f"{m}#1", bytes=n, promised=n, measured=n // 3, exited=n % 2 == 0) for m, n, _ in found
    ]
    why = Why(device=card(), instances=owners, processes=[ProcessInfo(pid=2**22, name="模" * 15, bytes=1)], withheld=1)
    shown = lines(Table(("OWNER", ">GiB", "WHY"), explanations.owner_rows(why)), 80)
    assert max(map(width, shown)) <= 80


@pytest.mark.parametrize(("most", "height"), [(60, 24), (80, 24), (200, 50)])
@given(st.lists(instances(), max_size=6), st.lists(tickets(), max_size=6), st.integers(1, 8))
@settings(max_examples=examples(6), deadline=None)
def test_top_fits_the_screen_with_the_queue_in_sight(
    most: int, height: int, found: list[InstanceInfo], waiting: list[TicketInfo], cards: int
) -> None:
    figures = {"bytes": GIB, "promised": GIB, "measured": GIB, "exited": False}
    owned = [OwnerInfo(instance=i.instance, **figures) for i in found]
    owners = [
        Why(device=card(id=f"GPU-{n}", ref=str(n)), instances=owned, processes=[], withheld=0) for n in range(cards)
    ]
    seen = Overview(status=status(), owners=owners, instances=found, queue=waiting)
    console = Console(file=io.StringIO(), width=most, force_terminal=False)
    shown = [
        "".join(s.text for s in line).rstrip()
        for line in console.render_lines(rendered(seen, Samples(), console, 0, height), pad=False)
    ]
    assert max(map(width, shown)) <= most
    if not found and not waiting:
        assert "nobody waits" in shown
    if waiting and all(width(i.instance) < most // 2 for i in found):
        (at,) = [n for n, line in enumerate(shown) if "PLACE" in line.split()]
        assert at < height


def test_a_reason_names_few_holders_and_counts_many() -> None:
    def short(count: int) -> ShortfallInfo:
        held = [
            HolderInfo(name=f"{HUB}#{n}", bytes=int(1.4 * GIB), phase="ready", leases=1, since=4) for n in range(count)
        ]
        others = [HolderInfo(name="foreign", bytes=GIB, phase="foreign")]
        figures: dict[str, Any] = {"device": UUID, "need": 21 * GIB, "have": GIB, "ceiling": 1, "capacity": 1}
        return ShortfallInfo(**figures, holders=held + others, called={UUID: "GPU 0"})

    said = "21.0 GiB on GPU 0, of which 1.00 GiB free; held by"
    assert blocked(short(15)) == f"{said} 15 instances, 21.0 GiB; foreign 1.00 GiB"
    assert blocked(short(1)) == f"{said} {HUB}#0 1.40 GiB; foreign 1.00 GiB"


def test_a_yield_says_its_id_and_its_end() -> None:
    kept = YieldInfo(id="y-0123abcd", device=UUID, bytes=12 * GIB, ends_in=5400)
    assert yielding(kept, "GPU 0") == "y-0123abcd keeps 12.0 GiB of GPU 0 free for others, 1 h 30 min more"
    columns, _ = devices_table([card(yields=[kept], yielded=12 * GIB)])
    assert ">YIELDED" in columns
    seen = Overview(status=status(), owners=[Why(device=card(yields=[kept]), instances=[], processes=[], withheld=0)],
                instances=[], queue=[])  # fmt: skip
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(rendered(seen, Samples(), console))
    assert "y-0123abcd keeps 12.0 GiB" in console.export_text()
