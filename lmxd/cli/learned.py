"""lmxctl estimates and forget: what the daemon learned from instances that ran."""

from __future__ import annotations

import click

from lmxd.cli import output
from lmxd.cli.common import answers, completes, connect
from lmxd.cli.output import MIB
from lmxd.errors import LmxdError
from lmxd.terminal import say


@click.command()
@answers
def estimates(json_wanted: bool) -> None:
    """Show what was learned: the context of each card, and what each launch took."""
    with connect() as client:
        found = client.estimates()
    if json_wanted:
        output.as_json(found)
        return
    output.table(
        ("CARD", "DRIVER", "BUILD", "BACKEND", ">CONTEXT MiB", ">± MiB", "SOURCE"),
        [
            (c.card, c.driver, c.build, c.backend, _mib(c.bytes), _mib(c.error), c.source or str(c.count))
            for c in found.contexts
        ],
        "no GPU here, and none was seen",
    )
    output.table(
        ("MODEL", "CARD", ">PREDICTED MiB", ">LOADED MiB", ">PROMPTED MiB", ">COUNT"),
        [
            (o.model, o.card, _mib(o.predicted), _mib(o.loaded), _mib(o.prompted) if o.prompted else "-", str(o.count))
            for o in found.observed
        ],
        "nothing was observed yet",
    )
    if found.rests:
        output.table(
            ("MODEL", "CARD", ">BESIDE WEIGHTS AND CACHE MiB"),
            [(rest.model, rest.card, _mib(rest.bytes)) for rest in found.rests],
            "",
        )
    if found.peaks:
        output.table(
            ("MODEL", ">MOST TAKEN MiB"),
            [(peak.model or "(none any more)", _mib(peak.bytes)) for peak in found.peaks],
            "",
        )


@click.command()
@click.argument("model", required=False, shell_complete=completes("model"))
@click.option("--card", metavar="NAME", help="Only what was learned on GPUs of this name, or in RAM.")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@answers
def forget(model: str | None, card: str | None, everything: bool, json_wanted: bool) -> None:
    """Drop what was learned, of MODEL or of a card; the stated priors count again."""
    if everything == bool(model or card):
        raise LmxdError("invalid_params", "say what to forget", "name a model or --card, or give --all")
    with connect() as client:
        done = client.forget(model=model, card=card)
    if json_wanted:
        output.as_json(done)
    else:
        say(f"forgot {done.count} observation{'s' if done.count != 1 else ''}")


def _mib(n: int) -> str:
    return f"{n / MIB:,.0f}"
