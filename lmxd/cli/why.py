"""lmxctl why: to whom the bytes of a device belong."""

from __future__ import annotations

import click

from lmxd.cli import output
from lmxd.cli.common import answers, completes, connect
from lmxd.cli.output import size
from lmxd.rpc import owners as o


@click.command()
@click.argument("device", shell_complete=completes("device"))
@answers
def why(device: str, json_wanted: bool) -> None:
    """Bytes of DEVICE by owner: instances, foreign processes, what is kept back, what is free."""
    with connect() as client:
        found = client.call("why", o.Why, device=device)
    if json_wanted:
        output.as_json(found)
    else:
        output.table(("OWNER", ">BYTES", "WHY"), _rows(found), "")


def _rows(found: o.Why) -> list[tuple[str, ...]]:
    d = found.device
    if d.unavailable is not None:
        return [(d.id, "-", f"unavailable: {d.unavailable}")]
    rows: list[tuple[str, ...]] = [(x.instance, size(x.bytes), _reason(x)) for x in found.instances]
    rows.append(("foreign", size(d.foreign), "in use, and not by what lmxd started"))
    rows += [(f"  {x.name} ({x.pid})", size(x.bytes), "") for x in found.processes]
    rows.append(("margin", size(d.margin), "promised to nobody"))
    if found.withheld:
        rows.append(("limit", size(found.withheld), "beyond max_memory_gb"))
    rows.append(("free" if d.headroom >= 0 else "overdrawn", size(abs(d.headroom)), "headroom"))
    rows.append((d.name, size(d.capacity), "capacity"))
    return rows


def _reason(x: o.Owner) -> str:
    figures = f"promised {size(x.promised)}, measured {size(x.measured) if x.measured else '-'}"
    return f"{figures}; exited, not shown free yet" if x.exited else figures


COMMANDS = (why,)
