"""lmxctl fleet: nodes, ps, queue, users, plan, drain, top, copy. NATS is imported by a command alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from lmxd.cli import output, views
from lmxd.cli.common import answers
from lmxd.cli.live import repeat
from lmxd.cli.wishes import wish_options
from lmxd.errors import EX_OK, EX_TEMPFAIL, LmxdError
from lmxd.rpc.administrators import Drained, DrainParams
from lmxd.rpc.books import Instances, QueueInfo
from lmxd.rpc.explanations import Planned, PlanParams
from lmxd.rpc.messages import Nothing, Result
from lmxd.terminal import Commands, say

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from lmxd.cli.fleet.looking import FleetView

_LOOK: Final = 0.5
"""Seconds between two looks at what a node that drains has left."""
AnswerT = TypeVar("AnswerT", bound=Result)


@click.group(cls=Commands)
@click.option("--home", "directory", type=click.Path(path_type=Path), help="The directory of this box's fleet.")
def fleet(directory: Path | None) -> None:
    """All boxes of a fleet: nodes, instances and queues of each, drains, copies of models."""


def _view() -> FleetView:
    """The fleet that --home or convention names: one's own, if there is one, else the system's."""
    try:
        from lmxd.cli.fleet.looking import FleetView
        from lmxd.fleet.home import FleetHome
        from lmxd.fleet.meant_home import directory_of
    except ImportError as error:
        remedy = f"{Path(sys.executable).with_name('pip')} install 'lmxd[fleet]'"
        raise LmxdError("config", f"{error.name} is not installed, which a fleet needs", remedy) from error
    return FleetView(FleetHome.of_this_box(directory_of(click.get_current_context())))


@fleet.command()
@answers
def nodes(json_wanted: bool) -> None:
    """The nodes: whether they are up, bytes, slots and queue of each."""
    with _view() as view:
        from lmxd.cli.fleet.rows import NODES, node_row

        found = view.settled()
    if json_wanted:
        output.as_json({"nodes": [node.as_plain() for node in found]})
    else:
        output.table(NODES, map(node_row, found), "no nodes")


@fleet.command()
@answers
def ps(json_wanted: bool) -> None:
    """Instances and their leases, of all nodes that answer."""
    with _view() as view:
        from lmxd.fleet.calls import CallName

        found = view.ask_all(_up(view), CallName.PS, Nothing(), Instances)
    if json_wanted:
        output.as_json(_plain(found))
        return
    rows = [
        (node, *row)
        for node, each in _answered(found)
        for row in (
            *(views.instance_row(i, each.called) for i in each.instances),
            *(views.moving_row(x) for x in each.moving),
        )
    ]
    output.table(("NODE", *views.PS), rows, "no instances")
    _say_errors(found)


@fleet.command()
@answers
def queue(json_wanted: bool) -> None:
    """Requests that start or wait, of all nodes that answer, and what they wait for."""
    with _view() as view:
        from lmxd.fleet.calls import CallName

        found = view.ask_all(_up(view), CallName.QUEUE, Nothing(), QueueInfo)
    if json_wanted:
        output.as_json(_plain(found))
        return
    rows = [(node, *views.ticket_row(t)) for node, each in _answered(found) for t in each.tickets]
    output.table(("NODE", *views.QUEUE), rows, "nobody waits")
    _say_errors(found)


@fleet.command()
@answers
def users(json_wanted: bool) -> None:
    """Users over all nodes: what each has of its limits, and used lately.

    Weights and limits are those of this box's fleet.yaml. A gateway goes by its own.
    """
    with _view() as view:
        from lmxd.cli.fleet.rows import USERS, user_row

        view.settled()
        found = view.users()
    if json_wanted:
        output.as_json({"users": [user.as_plain() for user in found]})
    else:
        output.table(USERS, map(user_row, found), "no users")


@fleet.command()
@click.argument("model")
@wish_options
@answers
def plan(model: str, json_wanted: bool, **wish: Any) -> None:
    """Show what a request for MODEL would come to now at each node that has it, the best first.

    Exit status: 0 if one would grant it, at once or after a start or an eviction; 75 if it would wait or be refused.
    """
    with _view() as view:
        from lmxd.cli.fleet.rows import GRANTED, PLANS, plan_rows
        from lmxd.fleet.calls import CallName
        from lmxd.fleet.seen import models_of

        having = [
            x.name for x in view.settled() if x.alive and any(model in (m.names or (m.model,)) for m in x.card.models)
        ]
        if not having:
            raise LmxdError("unknown_model", f"no node that is up has a model {model}", models_of(view.nodes()))
        params = PlanParams(model=model, **{key: value for key, value in wish.items() if value is not None})
        found = view.ask_all(having, CallName.PLAN, params, Planned)
    if json_wanted:
        output.as_json(_plain(found))
    else:
        output.table(PLANS, plan_rows(found), "")
    granted = any(each.outcome in GRANTED for _, each in _answered(found))
    sys.exit(EX_OK if granted else EX_TEMPFAIL)


@fleet.command()
@click.argument("node")
@click.option("--now", is_flag=True, help="End everything at once, with its leases and whatever it is doing.")
@click.option("--no-wait", is_flag=True, help="Do not wait until everything has ended.")
@click.option("--end", is_flag=True, help="Instead: have it admit requests again.")
@answers
def drain(node: str, now: bool, no_wait: bool, end: bool, json_wanted: bool) -> None:
    """Have NODE admit nothing new, and wait until all it has has ended. Requests go to other nodes meanwhile."""
    if end and (now or no_wait):
        raise LmxdError("invalid_params", "--end goes with none of the others", f"lmxctl fleet drain {node} --end")
    with _view() as view:
        from lmxd.fleet.calls import CallName

        done = view.ask(node, CallName.DRAIN, DrainParams(now=now, end=end), Drained)
        if done.instances and not (no_wait or end or json_wanted):
            say(f"{node} drains: waiting for {_left(done)}", err=True)
        while done.instances and not (no_wait or end):
            time.sleep(_LOOK)
            there = view.ask(node, CallName.PS, Nothing(), Instances)
            leases = len(there.moving) + sum(len(i.leases) for i in there.instances)
            done = Drained(draining=True, instances=len(there.instances), leases=leases)
    if json_wanted:
        output.as_json({"node": node, **done.model_dump(mode="json")})
    else:
        say(f"{node} admits requests again" if end else f"{node} drains: {_left(done)} are left")


def _left(found: Drained) -> str:
    return f"{output.counted(found.instances, 'instance')} and {output.counted(found.leases, 'lease')}"


@fleet.command()
@click.option("--interval", "-n", type=click.FloatRange(0.1), default=1.0, show_default=True, metavar="SECONDS")
@click.option("--count", "-c", type=click.IntRange(1), help="Look so many times, then end; once, in a pipe.")
@answers
def top(interval: float, count: int | None, json_wanted: bool) -> None:
    """The nodes, the models that run on them, and the users, live. Arrows, j and k move; q or Ctrl-C ends it."""
    with _view() as view:
        from lmxd.cli.fleet.top import rendered

        view.settled()
        if json_wanted:
            said = {"nodes": [node.as_plain() for node in view.nodes()]}
            output.as_json(said | {"users": [user.as_plain() for user in view.users()]})
            return
        name = view.home.settings.fleet

        def draw(console: Console, first: int | None) -> RenderableType:
            height = None if first is None else console.height
            return rendered(name, view.nodes(), view.users(), console, first or 0, height)

        repeat(draw, interval, count if count or sys.stdout.isatty() else 1, screen=True)


@fleet.command()
@click.argument("model")
@click.argument("node")
@click.option(
    "--from", "peer", metavar="NODE", help="The node that it is copied from; by default the first that has it."
)
@answers
def copy(model: str, node: str, peer: str | None, json_wanted: bool) -> None:
    """Have NODE fetch the files of MODEL from another node, and serve it.

    Their headers are read first: a model that does not fit NODE is not fetched. What was broken off is gone on
    with, and each is compared with its SHA-256.
    """
    with _view() as view:
        from lmxd.cli.fleet.copying import copied, instead, profile, source

        done = copied(view, model, node, source(view.settled(), model, node, peer), quiet=json_wanted)
    if json_wanted:
        output.as_json(done)
    else:
        say(f"{done.node} has {done.model}, from {done.peer}: {output.size(done.total)}")
        if done.left_out:
            say(f"Left out, as code is not copied: {', '.join(done.left_out)}")
        if done.by_hand:
            say(f"{instead(done)}, add")
            say("to models: of lmxd's configuration there, and have lmxd read it by lmxctl reload:")
            for line in profile(done):
                say(line, whole=True)


def _up(view: FleetView) -> list[str]:
    return [node.name for node in view.settled() if node.alive]


def _answered(found: Mapping[str, AnswerT | LmxdError]) -> Iterator[tuple[str, AnswerT]]:
    for node, each in found.items():
        if not isinstance(each, LmxdError):
            yield node, each


def _plain(found: Mapping[str, AnswerT | LmxdError]) -> dict[str, Any]:
    """Answers as JSON has them, by node; an error as all errors are."""
    return {
        "nodes": {
            node: {"error": {"code": each.code, "message": each.message, "remedy": each.remedy}}
            if isinstance(each, LmxdError)
            else output.plain(each)
            for node, each in found.items()
        }
    }


def _say_errors(found: Mapping[str, Result | LmxdError]) -> None:
    errors: Iterable[tuple[str, LmxdError]] = ((n, e) for n, e in found.items() if isinstance(e, LmxdError))
    for node, error in errors:
        say(f"{node}: {error}", err=True)
