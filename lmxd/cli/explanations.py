"""Commands that explain: why, plan, explain."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import click

from lmxd.cli import output, steps
from lmxd.cli.common import answers, completes, connect
from lmxd.cli.devices import notes
from lmxd.cli.hints import more_slots
from lmxd.cli.output import gib, size
from lmxd.cli.wishes import wish_options
from lmxd.devices.diagnostics import called
from lmxd.errors import EX_OK, EX_TEMPFAIL
from lmxd.rpc.explanations import ChoiceInfo, Planned
from lmxd.rpc.owners import OwnerInfo, Why
from lmxd.terminal import say


@click.command()
@click.argument("device", required=False, shell_complete=completes("device"))
@answers
def why(device: str | None, json_wanted: bool) -> None:
    """Bytes of DEVICE by owner: instances, foreign processes, what is kept back, what is free.

    Without DEVICE: of all there are.
    """
    with connect() as client:
        wanted = [d.id for d in client.devices().devices] if device is None else [device]
        found = [client.why(each) for each in wanted]
    if json_wanted:
        output.as_json(found[0] if len(found) == 1 else {"owners": output.plain(found)})
        return
    if not found:
        say("no devices")
    for n, each in enumerate(found):
        if n:
            say()
        _show_owners(each)


def _show_owners(found: Why) -> None:
    d = found.device
    output.table((f"OWNER ({called(d)})", ">GiB", "WHY"), owner_rows(found), "")
    for note in notes([d], found.called):
        say(note)
    if d.pool is not None:
        say(f"its bytes are bytes of {d.pool}: lmxctl why {d.pool} says who has those")


def owner_rows(found: Why) -> list[tuple[str, ...]]:
    d = found.device
    if d.unavailable is not None:
        return [
            (d.name, "-", f"unavailable: {d.unavailable}"),
            *([("", "", f"remedy: {d.remedy}")] if d.remedy else []),
        ]
    rows: list[tuple[str, ...]] = [(x.instance, gib(x.bytes), owner_label(x)) for x in found.instances]
    rows.append(("foreign", output.seen(d, d.foreign, gib), "in use, and not by what lmxd started"))
    rows += [(f"  {x.name} ({x.pid})", gib(x.bytes), "") for x in found.processes]
    if d.yielded:
        rows.append(("yielded", gib(d.yielded), "kept free for others, on request"))
    rows.append(("margin", gib(d.margin), "promised to nobody"))
    if found.withheld:
        rows.append(("limit", gib(found.withheld), "beyond max_memory_gb"))
    if d.beyond_pool:
        rows.append(("shared", gib(d.beyond_pool), f"in use by others of {d.pool}, or kept free there"))
    rows.append(("free" if d.headroom >= 0 else "overdrawn", gib(abs(d.headroom)), "headroom"))
    rows.append((d.name, gib(d.capacity), "capacity"))
    return rows


def owner_label(x: OwnerInfo) -> str:
    """Why an instance has its bytes: as promised or measured, and for whom it is to make way."""
    if x.measured == x.bytes == x.promised:
        figures = "promised, and measured"
    elif x.bytes == x.measured:
        figures = f"measured; {gib(x.promised)} promised"
    else:
        figures = f"promised; {gib(x.measured)} measured" if x.measured else "promised, not measured"
    if x.exited:
        return f"{figures}; exited, not shown free yet"
    return figures if x.swap is None else f"{figures}; {output.swap(x.swap)} (a swap: {x.swap.price:.1f} s of loading)"


@click.command()
@click.argument("model", shell_complete=completes("model or variant"))
@wish_options
@answers
def plan(model: str, json_wanted: bool, **wish: Any) -> None:
    """Show what a request for MODEL would come to now, without making it.

    Exit status: 0 if it would be granted, at once or after a start or an eviction; 75 if it would wait or be refused.
    """
    with connect() as client:
        found = client.plan(model, **wish)
        running = client.instances().instances if found.outcome != "share" and not json_wanted else []
    if json_wanted:
        output.as_json(found)
    else:
        for line in planned(found):
            say(line)
        if found.choices:
            output.table(_CHOICES, map(_choice, found.choices), "")
        if found.growth is not None:
            steps.show(found.growth, found.called)
        if not wish["exclusive"] and (hint := more_slots(running, found.model, wish["slots"] or 1, ctx=wish["ctx"])):
            say(f"  hint: {hint}")
    sys.exit(EX_TEMPFAIL if found.outcome in ("queue", "refuse") else EX_OK)


def planned(p: Planned) -> Iterator[str]:
    """The answer that a request would get: each device and each holder in a line."""
    eta = "" if p.eta is None else f", expected in {output.seconds(p.eta)}"
    match p.outcome:
        case "share":
            yield f"{p.model} would be served by {p.instance}{eta}"
        case "start":
            yield f"{p.model} would be started, with {output.sizes(p.devices, p.called)}{eta}: {p.why}"
            if p.engine != "llama.cpp":
                yield f"  by the engine {p.engine}"
            if p.split:
                yield f"  layers divided {':'.join(map(str, p.split))}"
            if p.gpu_layers is not None:
                yield f"  {p.gpu_layers} layers on the GPU, the rest in RAM"
        case "evict":
            ways = [f"{output.listed(names)} {_verb(names)} {what}" for names, what in _makes_way(p) if names]
            yield f"{p.model} would be started after {output.listed(ways)}{eta}"
        case "queue":
            yield f"{p.model} would be number {p.position} in the queue{eta}: {p.why}"
        case "refuse":
            yield f"{p.model} would be refused ({p.code}): {p.why}"
    yield from _lacking(p)
    if p.outcome == "refuse" and p.remedy:
        yield f"  remedy: {p.remedy}"


def _makes_way(p: Planned) -> tuple[tuple[list[str], str], ...]:
    return (p.evicts, "ended"), (p.sleeps, "put to sleep")


_CHOICES: Final = ("", ">ON GPU", ">EXPERTS IN RAM", ">GPU GiB", ">RAM GiB", ">SPEED", "ROOM")
_ROOM: Final = {"now": "now", "blocked": "in use by others", "never": "never"}


def _choice(c: ChoiceInfo) -> tuple[str, ...]:
    room = _ROOM.get(c.fit.when) or f"without {output.listed(c.fit.ends)}"
    experts = f"of {c.experts_in_ram}" if c.experts_in_ram else "-"
    layers = f"{c.gpu_layers} layers"
    return ("*" * c.chosen, layers, experts, gib(sum(c.devices.values())), gib(c.ram), f"{c.speed:.2f}", room)


def _verb(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _lacking(p: Planned) -> Iterator[str]:
    """The devices that lack bytes, and those who have them, and for how long yet."""
    turns = {t.instance: f"; {output.goes_on(t)}" for t in p.turns}
    for s in p.shortfalls:
        if s.unavailable:
            yield f"  {output.blocked(s)}"
            continue
        ever = p.code == "never_fits"
        free = f"never more than {size(s.ceiling)}" if ever else f"free {size(max(0, s.have))}"
        yield f"  {output.name_of(s)}: needs {size(s.need)}, {free}"
        for h in () if ever else s.holders:
            had = "has" if h.since is None else f"has had for {output.seconds(h.since)}"
            yield f"    {h.name} {had} {size(h.bytes)}{turns.pop(h.name, '')}"
    for instance, goes_on in turns.items():
        yield f"  {instance}{goes_on}"
    said = {*p.evicts, *(t.instance for t in p.turns), *(h.name for s in p.shortfalls for h in s.holders)}
    if others := [name for name in p.waits_for if name not in said and name not in p.why]:
        yield f"  {output.awaited(others)}"


@click.command()
@click.argument("id")
@answers
def explain(id: str, json_wanted: bool) -> None:
    """Show what happened to a request, a lease or an instance, and why: ID is as ps, queue and request show it."""
    with connect() as client:
        found = client.explain(id)
    if json_wanted:
        output.as_json(found)
        return
    rows = [(datetime.fromtimestamp(s.at).strftime("%H:%M:%S.%f")[:-3], s.text) for s in found.steps]
    output.table(("TIME", "WHAT HAPPENED"), rows, "nothing yet")
    if found.related:
        say(f"see also: {' '.join(found.related)}")
