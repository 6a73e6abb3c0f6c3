"""Stories of the order in which nodes are asked, of conversations, and of requests that move."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection

from msgspec.structs import replace

from fleet.reported import beat, card
from lmxd.fleet.choosing.moving import Waiter, Waiters
from lmxd.fleet.choosing.prospects import Sought, Standing
from lmxd.fleet.choosing.ranking import LOOKED, MOST, ranking
from lmxd.fleet.choosing.sessions import Sessions, session_of
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.choosing.view import JOINED
from lmxd.fleet.reports import DeviceRoom, Heartbeat, NodeCard, Offered, Running

GIB = 2**30
A = Sought(model="a")


def first(_: int) -> int:
    return 0


def fleet(*beats: Heartbeat, gib: float = 8) -> NodeTable:
    table = NodeTable()
    for each in beats:
        table.hear_card(card(each.node, {"a": gib}))
        table.hear(each, 0.0)
    return table


def order(
    table: NodeTable, sought: Sought = A, home: str | None = None, besides: Collection[str] = ()
) -> list[tuple[str, Standing]]:
    return [(p.node, p.standing) for p in ranking(table, sought, 0.0, first, home, besides)]


def test_ready_then_what_comes_up_or_fits_then_what_makes_way_then_a_queue() -> None:
    table = fleet(
        beat("queue", 1, 0, waiting=3, eta=20),
        beat("idle", 1, 0, free=2, idle=12),
        beat("loads", 1, 0, loading={"a": 1}),
        beat("fits", 1, 0, free=20),
        beat("packs", 1, 0, free=9),
        beat("ready", 1, 0, vacant={"a": 1}),
    )
    asked: list[str] = []
    while found := order(table, besides=asked):
        asked.append(found[0][0])
    assert asked == ["ready", "loads", "packs", "fits", "idle", "queue"]


def test_bytes_beside_a_queue_are_asked_for_when_nobody_else_has_room() -> None:
    """They are the queue's first, and nothing is ended for others."""
    table = fleet(
        beat("queue", 1, 0, free=8, waiting=1, eta=3),
        beat("idle", 1, 0, free=2, idle=12),
        beat("both", 1, 0, free=2, idle=12, waiting=1, eta=3),
    )
    assert order(table) == [("idle", Standing.MAKES_WAY)]
    assert order(table, besides={"idle"}) == [("queue", Standing.BESIDE)]
    assert order(table, besides={"idle", "queue"}) == [("both", Standing.WAITS)]


def test_a_request_joins_the_shortest_queue_rather_than_begin_another() -> None:
    """Whoever is first in a queue keeps bytes from all others: many queues keep many."""
    table = fleet(
        beat("long", 1, 0, waiting=3, eta=60),
        beat("short", 1, 0, waiting=3, eta=20),
        beat("none", 1, 0),
        beat("new", 1, 0),
    )
    assert order(table) == [("short", Standing.WAITS), ("long", Standing.WAITS)]
    assert order(table, besides={"short", "long", "new"}) == [("none", Standing.BEGINS)]


def test_a_queue_is_joined_until_it_is_long() -> None:
    table = fleet(*(beat(f"n{n}", 1, 0) for n in range(20)))
    chance = random.Random(3)
    waiting: Counter[str] = Counter()
    for _ in range(5 * JOINED):
        chosen = ranking(table, A, 0.0, chance.randrange)[0]
        table.asked(A, chosen, 0.0)
        waiting[chosen.node] += 1
    assert set(waiting.values()) == {JOINED}


def test_requests_wait_for_slots_where_these_are() -> None:
    """A slot that comes free is had at once by who waits there, and meanwhile keeps no bytes from others."""
    four = beat("four", 1, 0, vacant={"a": 0})
    one = replace(four, node="one", running=(Running(model="a", slots=1, vacant=0),))
    assert order(fleet(one, four)) == [("four", Standing.WAITS), ("one", Standing.BEGINS)]


def test_a_queue_of_which_nobody_knows_the_end_is_the_last() -> None:
    table = fleet(beat("stuck", 1, 0, waiting=2), beat("queue", 1, 0, waiting=2 * JOINED, eta=300), beat("none", 1, 0))
    assert [node for node, _ in order(table)] == ["none", "queue", "stuck"]


def test_what_is_better_is_found_among_many() -> None:
    """Of those that could be as good as each other only some are looked at."""
    many = [beat(f"n{n}", 1, 0, free=7.5) for n in range(3 * LOOKED)]
    alone = fleet(*many, beat("fits", 1, 0, free=8), *(beat(f"q{n}", 1, 0, waiting=1, eta=1) for n in range(9)))
    chance = random.Random(4)
    for _ in range(20):
        assert [p.node for p in ranking(alone, A, 0.0, chance.randrange)] == ["fits"]
    away = fleet(*(beat(f"n{n}", 1, 0, free=9, draining=True) for n in range(3 * LOOKED)), beat("open", 1, 0, free=9))
    for _ in range(20):
        assert [p.node for p in ranking(away, A, 0.0, chance.randrange)] == ["open"]


def test_nobody_is_asked_who_is_left_out() -> None:
    table = fleet(*(beat(f"n{n}", 1, 0, vacant={"a": 1}) for n in range(3)), beat("fits", 1, 0, free=8))
    assert {node for node, _ in order(table, besides={"n0"})} == {"n1", "n2"}
    assert order(table, besides={"n0", "n1", "n2"}) == [("fits", Standing.FITS)]
    assert order(table, besides={"n0", "n1", "n2", "fits"}) == []


def test_the_node_of_a_conversation_is_first_if_it_is_ready() -> None:
    busy = fleet(beat("n1", 1, 0, vacant={"a": 4}), beat("home", 1, 0, vacant={"a": 1}))
    assert order(busy, home="home")[0] == ("home", Standing.READY)
    full = fleet(beat("n1", 1, 0, vacant={"a": 4}), beat("home", 1, 0, free=20))
    assert order(full, home="home")[0] == ("n1", Standing.READY), "its cache is gone"


def test_one_of_the_best_three_of_the_same_standing_is_first() -> None:
    table = fleet(*(beat(f"n{n}", 1, 0, vacant={"a": n}) for n in range(1, 9)), beat("fits", 1, 0, free=8))
    chance = random.Random(1)
    chosen = Counter(ranking(table, A, 0.0, chance.randrange)[0].node for _ in range(300))
    assert set(chosen) == {"n8", "n7", "n6"}
    assert min(chosen.values()) > 70
    two = fleet(beat("ready", 1, 0, vacant={"a": 1}), beat("fits", 1, 0, free=8))
    assert {ranking(two, A, 0.0, chance.randrange)[0].node for _ in range(50)} == {"ready"}


def test_a_fleet_of_many_ranks_only_the_best() -> None:
    table = fleet(*(beat(f"n{n}", 1, 0, free=8 + n % 16) for n in range(100)))
    found = ranking(table, A, 0.0, first)
    assert len(found) == MOST
    assert [p.cost for p in found] == sorted(p.cost for p in found)
    chance = random.Random(2)
    same = fleet(*(beat(f"n{n}", 1, 0) for n in range(100)))
    assert len({ranking(same, A, 0.0, chance.randrange)[0].node for _ in range(300)}) > 50, "all are as good"


def test_a_node_that_drains_is_not_asked() -> None:
    table = fleet(beat("n1", 1, 0, vacant={"a": 1}), beat("n2", 1, 0, vacant={"a": 1}, draining=True))
    assert order(table) == [("n1", Standing.READY)]
    assert order(table, Sought(model="b")) == []


def test_more_context_than_is_usual_takes_an_instance_of_its_own() -> None:
    """How much it may be, says the node: cards tell what is usual."""
    table = fleet(beat("n1", 1, 0, vacant={"a": 1}, free=9), beat("n2", 1, 0, vacant={"a": 1}, free=0, idle=0))
    assert order(table, Sought(model="a", ctx=9000)) == [("n1", Standing.FITS), ("n2", Standing.WAITS)]


def test_what_grows_is_not_ready_for_more_than_it_begins_with() -> None:
    table = NodeTable()
    offered = Offered(model="a", ctx=4096, ctx_most=65536, needs={"gpu": 8 * GIB})
    table.hear_card(NodeCard(node="n1", address="n1:1", version="1", started="s", models=(offered,)))
    table.hear(beat("n1", 1, 0, vacant={"a": 1}, free=9), 0.0)
    assert order(table, Sought(model="a", ctx=60000)) == [("n1", Standing.FITS)]


def test_a_size_that_nobody_knows_counts_as_a_whole_device() -> None:
    table = fleet(beat("some", 1, 0, free=20), beat("empty", 1, 0, free=24), gib=0)
    assert order(table) == [("empty", Standing.FITS), ("some", Standing.BEGINS)]


def test_a_model_fits_on_any_card_but_what_is_split_needs_its_devices() -> None:
    rooms = tuple(
        DeviceRoom(device=d, capacity=24 * GIB, free=f * GIB) for d, f in (("gpu", 2), ("gpu2", 12), ("host", 60))
    )
    two = {"gpu": 8 * GIB, "gpu2": 8 * GIB}
    table = NodeTable()
    models = (Offered(model="a", needs={"gpu": 8 * GIB}), Offered(model="b", needs=two))
    table.hear_card(NodeCard(node="n1", address="n1:1", version="1", started="s", models=models))
    table.hear(Heartbeat(node="n1", started="s", number=1, sent=0.0, rooms=rooms), 0.0)
    (found,) = ranking(table, A, 0.0, first)
    assert (found.standing, found.device) == (Standing.FITS, "gpu2"), "and RAM is no place for it"
    assert order(table, Sought(model="b")) == [("n1", Standing.BEGINS)]


def test_a_conversation_is_known_by_its_first_message() -> None:
    one = session_of("anna", "a", b"hello")
    assert one == session_of("anna", "a", b"hello")
    assert len({one, session_of("ben", "a", b"hello"), session_of("anna", "b", b"hello")}) == 3
    assert session_of("ann", "aa", b"") != session_of("anna", "a", b"")
    known = Sessions(most=2)
    for session in ("s1", "s2"):
        known.served(session, "n1")
    known.served("s1", "n2")
    known.served("s3", "n3")
    known.served("", "n3")
    assert [known.home(s) for s in ("s1", "s2", "s3", "")] == ["n2", None, "n3", None]


def waiter(id: str, node: str, since: float, due: float) -> Waiter:
    return Waiter(id=id, sought=A, node=node, since=since, due=due)


def test_who_waited_longest_moves_first_and_no_more_than_there_is_room_for() -> None:
    table = fleet(beat("full", 1, 0, waiting=4, eta=60), beat("other", 1, 0))
    waiters = Waiters()
    for id, since in (("young", -1.0), ("old", -9.0), ("middle", -5.0)):
        waiters.add(waiter(id, "full", since, 60.0))
    assert waiters.moves(table, "other", 0.0) == []
    table.hear(beat("other", 2, 1.0, vacant={"a": 2}), 1.0)
    assert [w.id for w, _ in waiters.moves(table, "other", 1.0)] == ["old", "middle"]
    assert waiters.moves(table, "other", 1.0) == [], "the table is lowered"


def test_a_waiter_moves_to_where_idle_instances_make_way_or_bytes_are_free_beside_a_queue() -> None:
    """Else whoever comes later would have them."""
    table = fleet(beat("idle", 1, 0, idle=9), beat("queue", 1, 0, free=9, waiting=1, eta=70))
    waiters = Waiters()
    waiting = waiter("w", "full", -9.0, 60.0)
    waiters.add(waiting)
    for node, standing in (("idle", Standing.MAKES_WAY), ("queue", Standing.BESIDE)):
        ((found, prospect),) = waiters.moves(table, node, 0.0)
        assert (found, prospect.standing) == (waiting, standing)


def test_a_move_must_be_sooner_unless_the_node_has_broken_its_word() -> None:
    table = fleet(beat("other", 1, 0, free=9))
    waiters = Waiters()
    soon = waiter("w", "full", -9.0, 4.0)
    waiters.add(soon)
    assert waiters.moves(table, "other", 0.0) == [], "a load takes 5 s"
    table.hear(beat("other", 2, 4.5, free=9), 4.5)
    assert [w for w, _ in waiters.moves(table, "other", 4.5)] == [soon], "its node has not served it in time"
    waiters.remove(soon)
    assert len(waiters) == 0


def test_nobody_moves_to_where_it_waits_or_to_a_node_that_drains() -> None:
    table = fleet(beat("full", 1, 0, vacant={"a": 1}), beat("drains", 1, 0, vacant={"a": 1}, draining=True))
    waiters = Waiters()
    waiters.add(waiter("w", "full", -9.0, 60.0))
    assert waiters.moves(table, "full", 0.0) == waiters.moves(table, "drains", 0.0) == []
    assert waiters.moves(table, "unknown", 0.0) == []
