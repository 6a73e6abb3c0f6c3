"""Commands that explain: why, plan, explain."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from lmxd.cli import output
from lmxd.cli.common import answers, completes, connect
from lmxd.cli.devices import notes
from lmxd.cli.output import size
from lmxd.cli.wishes import wish_options
from lmxd.errors import EX_OK, EX_TEMPFAIL
from lmxd.rpc.explanations import Planned
from lmxd.rpc.owners import OwnerInfo, Why
from lmxd.terminal import say
from lmxd.text import short_id


@click.command()
@click.argument("device", shell_complete=completes("device"))
@answers
def why(device: str, json_wanted: bool) -> None:
    """Bytes of DEVICE by owner: instances, foreign processes, what is kept back, what is free."""
    with connect() as client:
        found = client.why(device)
    if json_wanted:
        output.as_json(found)
    else:
        output.table(("OWNER", ">BYTES", "WHY"), _rows(found), "")
        for note in notes([found.device]):
            say(note)
        if found.device.pool is not None:
            say(f"its bytes are bytes of {found.device.pool}: lmxctl why {found.device.pool} says who has those")


def _rows(found: Why) -> list[tuple[str, ...]]:
    d = found.device
    if d.unavailable is not None:
        return [(d.id, "-", f"unavailable: {d.unavailable}"), *([("", "", f"remedy: {d.remedy}")] if d.remedy else [])]
    rows: list[tuple[str, ...]] = [(x.instance, size(x.bytes), owner_label(x)) for x in found.instances]
    rows.append(("foreign", output.seen(d, d.foreign), "in use, and not by what lmxd started"))
    rows += [(f"  {x.name} ({x.pid})", size(x.bytes), "") for x in found.processes]
    if d.yielded:
        rows.append(("yielded", size(d.yielded), "kept free for others, on request"))
    rows.append(("margin", size(d.margin), "promised to nobody"))
    if found.withheld:
        rows.append(("limit", size(found.withheld), "beyond max_memory_gb"))
    if d.beyond_pool:
        rows.append(("shared", size(d.beyond_pool), f"in use by others of {d.pool}, or kept free there"))
    rows.append(("free" if d.headroom >= 0 else "overdrawn", size(abs(d.headroom)), "headroom"))
    rows.append((d.name, size(d.capacity), "capacity"))
    return rows


def owner_label(x: OwnerInfo) -> str:
    figures = f"promised {size(x.promised)}, measured {size(x.measured) if x.measured else '-'}"
    if x.exited:
        return f"{figures}; exited, not shown free yet"
    return figures if x.swap is None else f"{figures}; {output.swap(x.swap)} (a swap: {x.swap.price:.1f} s of loading)"


@click.command()
@click.argument("model", shell_complete=completes("model"))
@wish_options
@answers
def plan(model: str, json_wanted: bool, **wish: Any) -> None:
    """Show what a request for MODEL would come to now, without making it.

    Exit status: 0 if it would be granted, at once or after a start or an eviction; 75 if it would wait or be refused.
    """
    with connect() as client:
        found = client.plan(model, **wish)
    if json_wanted:
        output.as_json(found)
    else:
        for line in _planned(found):
            say(line)
    sys.exit(EX_TEMPFAIL if found.outcome in ("queue", "refuse") else EX_OK)


def _planned(p: Planned) -> Iterator[str]:
    eta = "" if p.eta is None else f", expected in {output.seconds(p.eta)}"
    match p.outcome:
        case "share":
            yield f"{p.model} would be served by {p.instance}{eta}: {p.why}"
        case "start":
            yield f"{p.model} would be started, with {output.sizes(p.devices)}{eta}: {p.why}"
            if p.engine != "llama.cpp":
                yield f"  by the engine {p.engine}"
            if p.split:
                yield f"  layers divided {':'.join(map(str, p.split))}"
            if p.gpu_layers is not None:
                yield f"  {p.gpu_layers} layers on the GPU, the others in RAM"
        case "evict":
            yield f"{p.model} would be started after {', '.join(p.evicts)} has ended{eta}"
        case "queue":
            yield f"{p.model} would be number {p.position} in the queue{eta}: {p.why}"
            if p.waits_for:
                yield f"  waiting for {', '.join(p.waits_for)}"
        case "refuse":
            yield f"{p.model} would be refused ({p.code}): {p.why}"
            if p.remedy:
                yield f"  remedy: {p.remedy}"
    for s in p.shortfalls:
        if s.unavailable:
            yield f"  {output.blocked(s)}"
            continue
        yield f"  {short_id(s.device)}: needs {size(s.need)}, free {size(max(0, s.have))}"
        for h in s.holders:
            had = "has" if h.since is None else f"has had for {output.seconds(h.since)}"
            yield f"    {h.name} {had} {size(h.bytes)}"


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


COMMANDS = (why, plan, explain)
