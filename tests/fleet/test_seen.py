"""Nodes as tables, the screen and the dashboard show them: figures that add up, in 80 columns."""

from __future__ import annotations

import io
from typing import Any

import msgspec
from rich.console import Console

from fleet.reported import GIB, beat, card
from lmxd.cli.fleet.rows import NODES, PLANS, USERS, node_row, plan_rows, summary, user_row
from lmxd.cli.fleet.top import bar, rendered
from lmxd.cli.tables import Table
from lmxd.errors import LmxdError
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.gateway.board import snapshot_of
from lmxd.fleet.reports import DeviceRoom, UserUse
from lmxd.fleet.seen import SeenNode, seen
from lmxd.fleet.seen_users import SeenUser, users
from lmxd.fleet.users import FleetUserConfig
from lmxd.rpc.explanations import Planned


def table_of(now: float = 10.0) -> list[SeenNode]:
    """A node that serves, one that drains and loads, one that has been silent for 8 s, one that never spoke."""
    table = NodeTable()
    for name in ("busy", "drains", "silent", "new"):
        table.hear_card(card(name, {"qwen3": 5, "llama": 8} if name != "new" else {"llama": 8}))
    table.hear(beat("busy", 1, 0.0, free=6, idle=8, vacant={"qwen3": 1}, waiting=3, eta=75), now)
    table.hear(beat("drains", 1, 0.0, free=24, loading={"llama": 4}, draining=True), now)
    table.hear(beat("silent", 1, 0.0, free=12, vacant={"qwen3": 4}), now - 8)
    return seen(table, now)


def shown(columns: int = 80, **more: int) -> list[str]:
    console = Console(file=io.StringIO(), width=columns)
    console.print(rendered("home", table_of(), [], console, **more))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_screen_shows_nodes_and_the_models_that_run() -> None:
    lines = shown()
    said = "fleet home: 1 of 4 nodes up, 1 draining, 2 silent; 30.0 GiB free of 48.0 GiB; 3 waiting"
    assert " ".join(" ".join(lines[:2]).split()) == said
    rows = {line.split()[0]: line for line in lines if line.split()}
    assert "3/4" in rows["busy"]
    assert "1 min 15 s" in rows["busy"]
    assert any(line.startswith("silent  silent 8 s") for line in shown(100))
    assert rows["llama"].split() == ["llama", "-", "-", "drains"]
    assert rows["qwen3"].split()[:3] == ["qwen3", "3/4", "busy"], "what a silent node had is not counted"
    assert max(map(len, lines)) <= 80


def draining(**of: Any) -> str:
    """The screen of a fleet in which one node drains, in one line."""
    table = NodeTable()
    for name in ("box1", "box2"):
        table.hear_card(card(name, {"qwen3": 5, "llama": 8}))
    table.hear(beat("box1", 1, 0.0, free=24), 10.0)
    table.hear(beat("box2", 1, 0.0, draining=True, **of), 10.0)
    console = Console(file=io.StringIO(), width=80)
    console.print(rendered("home", seen(table, 10.0), [], console))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    return " ".join(" ".join(lines).split())


def test_a_drain_is_read_from_its_begin_to_its_end() -> None:
    """What still runs, whether it goes on, and at the end what to do."""
    begins = draining(free=6, vacant={"qwen3": 2, "llama": 3}, loading={"llama": 4}, waiting=2, eta=9)
    assert "1 of 2 nodes up, 1 draining" in begins
    said = "box2 drains, and takes nothing new: 3 requests or leases are left (llama 1, qwen3 2)"
    assert f"{said}; llama still loading; 2 waiting" in begins
    last = draining(free=6, vacant={"qwen3": 3})
    assert "box2 drains, and takes nothing new: 1 request or lease is left (qwen3 1) NODE" in last
    assert "no request runs any more, its instances end NODE" in draining(free=6, vacant={"qwen3": 4})
    ended = draining(free=24)
    assert "box2 is drained: nothing runs there; lmxctl fleet drain box2 --end has it serve again NODE" in ended
    assert "box2 drained" in ended
    assert "1 of 2 nodes up, 1 drained; " in ended


def test_a_low_screen_shows_the_nodes_from_where_keys_moved() -> None:
    lines = shown(first=1, height=12)
    assert len(lines) <= 12
    assert any(line.startswith("… 1 more above") for line in lines)
    assert not any(line.startswith("busy") for line in lines)


def test_the_table_of_nodes_fits_a_terminal() -> None:
    lines = [line.plain for line in Table(NODES, map(node_row, table_of())).lines(80)]
    assert max(map(len, lines)) <= 80
    assert {"busy", "drains", "new", "silent"} <= {line.split()[0] for line in lines}


def test_nothing_that_a_node_says_commands_a_terminal() -> None:
    hostile = "x\x1b]0;title\x07\x1b[2J\nall is well\r\x9b31m\x7f\u2028\u202e[bold red link=http://x]"
    table = NodeTable()
    said = msgspec.structs.replace(
        card("n1", {hostile: 4}), address=hostile, version=hostile, labels={hostile: hostile}
    )
    table.hear_card(said)
    using = {hostile: UserUse(use=1.0, leases=1)}
    table.hear(beat("n1", 1, 0.0, free=6, vacant={hostile: 1}, loading={hostile: 1}, users=using), 10.0)
    nodes = seen(table, 10.0)
    console = Console(file=io.StringIO(), width=400)
    console.print(rendered("home", nodes, users(nodes, {}, {}), console))
    assert isinstance(console.file, io.StringIO)
    lines = [line.plain for line in Table(NODES, map(node_row, nodes)).lines(4000)]
    for line in (*console.file.getvalue().splitlines(), *lines):
        assert line.isprintable(), line
        assert not line.startswith("all is well")
    assert any("title" in line for line in lines)
    plans: dict[str, Planned | LmxdError] = {
        "n1": Planned(outcome="start", model=hostile, why=hostile),
        "n2": LmxdError("internal", hostile, hostile),
    }
    assert all(line.plain.isprintable() for line in Table(PLANS, plan_rows(plans)).lines(4000))


def test_a_bar_has_a_mark_for_each_part() -> None:
    assert str(bar(6 * GIB, 12 * GIB, 24 * GIB, plain=True)) == "####========...."
    assert str(bar(30 * GIB, 0, 24 * GIB, plain=True)) == "." * 16


def test_devices_of_a_pool_are_counted_once() -> None:
    (first, *_) = table_of()
    assert first.beat is not None
    shared = (
        DeviceRoom(device="pool", capacity=8 * GIB, free=4 * GIB),
        DeviceRoom(device="gpu", capacity=8 * GIB, free=4 * GIB, pool="pool"),
    )
    beat_of_it = msgspec.structs.replace(first.beat, rooms=shared)
    drawing = SeenNode(name="n", card=first.card, beat=beat_of_it, silent=0.0, alive=True)
    assert (drawing.free, drawing.capacity) == (4 * GIB, 8 * GIB)


def test_the_best_plan_is_first_and_no_answer_last() -> None:
    plans: dict[str, Planned | LmxdError] = {
        "far": LmxdError("daemon_unavailable", "node far did not answer", "look at its box"),
        "full": Planned(outcome="queue", model="m", why="waits", eta=9.0),
        "soon": Planned(outcome="queue", model="m", why="waits", eta=2.0),
        "has": Planned(outcome="share", model="m", why="a slot is vacant"),
    }
    assert [row[0] for row in plan_rows(plans)] == ["has", "soon", "full", "far"]


def test_a_fleet_of_one_is_said_as_one() -> None:
    assert summary("home", table_of()[:1]).startswith("fleet home: 1 of 1 node up; 6.00 GiB free")


def test_the_dashboard_has_every_node_and_every_model_with_its_places() -> None:
    found = snapshot_of("home", table_of(), [])
    assert [node["state"] for node in found["nodes"]] == ["up", "draining", "silent", "silent"]
    models = {model["model"]: model for model in found["models"]}
    assert models["llama"]["nodes"] == ["busy", "drains", "new", "silent"]
    assert (models["qwen3"]["used"], models["qwen3"]["slots"], models["qwen3"]["ready"]) == (3, 4, ["busy"])
    assert models["llama"]["loading"] == ["drains"]


HOUR = 3600 * GIB


def users_of(limits: dict[str, FleetUserConfig], here: dict[str, UserUse] | None = None) -> list[SeenUser]:
    """Ada at two nodes, one whose time is past, and one of whom a silent node spoke."""
    table = NodeTable()
    said = {
        "n1": {"ada": UserUse(use=2.0 * HOUR, bytes=2 * GIB, leases=1), "eve@example.org": UserUse(use=HOUR)},
        "n2": {"ada": UserUse(use=HOUR, waiting=3)},
        "silent": {"gone": UserUse(use=99.0 * HOUR, leases=9)},
    }
    for name, of in said.items():
        table.hear_card(card(name, {"m": 8}))
        table.hear(beat(name, 1, 0.0, users=of), 10.0 if name != "silent" else 2.0)
    return users(seen(table, 10.0), limits, here or {})


def test_users_are_shown_with_their_part_by_weight_and_their_limits() -> None:
    found = users_of({"ada": FleetUserConfig(weight=3, max_memory_gb=8, max_leases=4)})
    lines = [line.plain for line in Table(USERS, map(user_row, found)).lines(80)]
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines[1:]] == [
        ["ada", "3", "50%", "3.00", "2.00/8.00", "1/4", "3", "n1,", "n2"],
        ["eve@example.org", "1", "50%", "1.00", "0.00", "0", "0", "-"],
    ]
    assert found[0].as_plain() == {
        "user": "ada",
        "weight": 3,
        "part": 0.5,
        "use": 3.0 * HOUR,
        "bytes": 2 * GIB,
        "leases": 1,
        "waiting": 3,
        "max_bytes": 8 * GIB,
        "max_leases": 4,
        "max_waiting": None,
        "nodes": ["n1", "n2"],
    }


def test_a_gateway_shows_those_that_wait_there_also_if_no_node_has_heard_of_them() -> None:
    here = {"ada": UserUse(use=3.0 * HOUR, leases=2, waiting=4), "new": UserUse(waiting=1)}
    found = {user.name: user for user in users_of({}, here)}
    assert (found["ada"].use.leases, found["ada"].use.waiting, found["ada"].nodes) == (2, 4, ("n1", "n2"))
    assert (found["new"].use.waiting, found["new"].nodes) == (1, ())
    assert set(found) == {"ada", "new", "eve@example.org"}


def crowd(height: int | None, columns: int = 80) -> list[str]:
    """The screen of 20 nodes with five models each, and of 10 users who are everywhere."""
    table = NodeTable()
    for n in range(20):
        models = {f"some-longer-model-{m}-instruct-q4": 4 for m in range(5)}
        table.hear_card(card(f"box{n}", models))
        using = {f"user{u}": UserUse(use=(u + 1.0) * HOUR, bytes=GIB, leases=u, waiting=2 * u) for u in range(10)}
        table.hear(beat(f"box{n}", 1, 0.0, free=6, vacant=dict.fromkeys(models, 1), users=using), 10.0)
    nodes = seen(table, 10.0)
    console = Console(file=io.StringIO(), width=columns)
    limits = {"default": FleetUserConfig(max_memory_gb=300, max_leases=200, max_waiting=400)}
    console.print(rendered("home", nodes, users(nodes, limits, {}), console, height=height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_large_fleet_fits_a_terminal_with_each_of_its_parts() -> None:
    whole = crowd(None)
    assert max(map(len, whole)) <= 80
    assert len(whole) < 45, "a row has one line, also where it is of all nodes"
    (row,) = [line.split() for line in whole if line.startswith("user9")]
    assert row == ["user9", "1", "18%", "200.00", "20.00/300.00", "180/200", "360/400", "20", "nodes"]
    assert [line.split()[0] for line in whole if line.startswith("box")] == [f"box{n}" for n in range(20)]
    for height in (24, 40):
        lines = crowd(height)
        assert len(lines) <= height
        for part in ("box", "some-longer", "user"):
            assert sum(line.startswith(part) for line in lines) >= 2, part
    assert [line.split()[0] for line in crowd(24) if line.startswith("user")] == ["user9", "user8"]
    assert "… 8 more" in crowd(24), "of users, who used most are shown"
