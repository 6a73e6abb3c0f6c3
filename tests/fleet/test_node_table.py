"""Stories of the table of nodes: who is alive, whose report is old, and what was asked since."""

from __future__ import annotations

from fleet.reported import beat, card
from lmxd.fleet.choosing.prospects import Prospect, Sought, Standing
from lmxd.fleet.choosing.ranking import ranking
from lmxd.fleet.choosing.table import REMEMBERED, SILENT, NodeTable

A = Sought(model="a")


def first(_: int) -> int:
    return 0


def names(table: NodeTable, now: float) -> list[str]:
    return [node.name for node in table.alive(now)]


def table(*nodes: str, **state: object) -> NodeTable:
    made = NodeTable()
    for node in nodes:
        made.hear_card(card(node, {"a": 8, "b": 16}))
        made.hear(beat(node, 1, 0.0, **state), 0.0)  # type: ignore[arg-type]
    return made


def test_a_node_is_alive_as_long_as_it_speaks() -> None:
    heard = table("n1", "n2")
    heard.hear(beat("n2", 2, 2.0), 2.0)
    assert names(heard, SILENT) == ["n1", "n2"]
    assert names(heard, SILENT + 0.1) == ["n2"]
    heard.hear(beat("n1", 2, 4.0), 4.0)
    assert names(heard, 4.5) == ["n1", "n2"]


def test_a_node_without_a_card_is_asked_nothing() -> None:
    heard = NodeTable()
    heard.hear(beat("n1", 1, 0.0, vacant={"a": 1}), 0.0)
    assert names(heard, 0.0) == []
    heard.hear_card(card("n1", {"a": 8}))
    assert [p.node for p in ranking(heard, A, 0.0, first)] == ["n1"]
    heard.forget_card("n1")
    assert ranking(heard, A, 0.0, first) == []
    assert not heard.offers("a")


def test_a_card_replaces_the_one_before() -> None:
    heard = table("n1")
    heard.hear_card(card("n1", {"c": 8}))
    assert (heard.offers("a"), heard.offers("c")) == (False, True)


def test_clocks_of_boxes_need_not_agree() -> None:
    heard = table("n1", "n2")
    for number in (1, 2):
        heard.hear(beat("n1", number, 1e6 + number, started="t"), number)
        heard.hear(beat("n2", number, -1e6 + number, started="t"), number)
    assert [node.spoke_at for node in heard.nodes.values()] == [2.0, 2.0]


def test_a_heartbeat_that_lies_behind_is_old_though_it_was_just_heard() -> None:
    heard = table("n1", "n2")
    for second in range(1, 20):
        heard.hear(beat("n2", 1 + second, second), second)
        if second < 10:
            heard.hear(beat("n1", 1 + second, second), second)
    heard.hear(beat("n1", 11, 10.0, vacant={"a": 1}), 20.0)
    assert heard.nodes["n1"].spoke_at == 10.0
    assert names(heard, 20.0) == ["n2"]
    heard.hear(beat("n1", 12, 20.5), 20.5)
    assert names(heard, 20.5) == ["n1", "n2"]


def test_a_heartbeat_that_lies_behind_is_old_whenever_it_comes() -> None:
    for late in (55, 60, 61, 70):
        heard = table("n1")
        for second in range(1, late - 9):
            heard.hear(beat("n1", 1 + second, second), second)
        heard.hear(beat("n1", late, late - 10), late)
        assert heard.nodes["n1"].spoke_at == late - 10


def test_a_clock_that_stood_still_is_believed_again_after_two_minutes() -> None:
    """A paused machine does not know that time has passed."""
    heard = table("n1", "n2")
    for second in range(1, 200):
        now = second + (10 if second > 20 else 0)
        heard.hear(beat("n2", 1 + second, now), now)
        heard.hear(beat("n1", 1 + second, second), now)
        if second == 30:
            assert names(heard, 40) == ["n2"]
    assert names(heard, 209) == ["n1", "n2"]


def test_a_node_whose_heartbeats_all_come_late_is_found_out_by_its_door() -> None:
    """They come over a slow connection to NATS from the beginning; its clock is another than ours."""
    heard = table("n2")
    heard.hear_card(card("n1", {"a": 8}))
    for second in range(20):
        heard.hear(beat("n1", 1 + second, 5000.0 + second - 10, started="t"), second)
        heard.hear(beat("n2", 2 + second, second), second)
    assert names(heard, 19.0) == ["n2", "n1"]
    assert heard.told_time("n1", 5018.9, 19.0), "the answer was on its way for 0.1 s"
    assert not heard.told_time("n2", 19.0, 19.0)
    assert abs(heard.nodes["n1"].spoke_at - 9.1) < 1e-6
    assert names(heard, 19.0) == ["n2"]
    heard.hear(beat("n1", 21, 5010.0, started="t"), 20.0)
    assert names(heard, 20.0) == ["n2"], "later ones are as late"
    heard.hear(beat("n1", 22, 5021.0, started="t"), 21.1)
    assert names(heard, 21.1) == ["n2", "n1"]
    assert not heard.told_time("nobody", 0.0, 21.1)


def test_heartbeats_that_overtake_each_other_are_taken_in_order() -> None:
    heard = table("n1")
    assert heard.hear(beat("n1", 3, 2.0, vacant={"a": 1}), 2.0)
    assert not heard.hear(beat("n1", 2, 1.0), 2.1)
    assert not heard.hear(beat("n1", 3, 2.0), 2.2)
    assert ranking(heard, A, 2.2, first)[0].standing is Standing.READY


def test_an_agent_that_was_started_again_counts_anew() -> None:
    heard = table("n1")
    assert heard.hear(beat("n1", 1, 5000.0, started="t"), 1.0)
    assert not heard.hear(beat("n1", 7, 0.9, started="s"), 1.1), "the earlier one's last word comes late"
    assert heard.nodes["n1"].beat.started == "t"


def test_a_node_that_could_not_be_reached_is_left_alone_for_longer_each_time() -> None:
    heard = table("n1")
    for left_alone in (1, 2, 4):
        now = heard.nodes["n1"].spoke_at
        heard.failed("n1", now)
        assert not heard.is_alive("n1", now + left_alone - 0.1)
        heard.hear(beat("n1", heard.nodes["n1"].beat.number + 1, now + left_alone), now + left_alone)
        assert heard.is_alive("n1", now + left_alone)
    heard.worked("n1")
    heard.failed("n1", 7.0)
    assert heard.is_alive("n1", 8.0), "it had worked meanwhile"


def test_requests_that_fail_with_one_another_are_one_failure() -> None:
    heard = table("n1")
    for _ in range(10):
        heard.failed("n1", 0.0)
    assert heard.is_alive("n1", 1.0)


def test_a_node_that_was_started_again_is_not_left_alone_any_longer() -> None:
    heard = table("n1")
    for now in (0.0, 1.0):
        heard.failed("n1", now)
    heard.hear(beat("n1", 1, 5.0, started="t"), 1.5)
    assert heard.is_alive("n1", 1.5)


def test_without_nats_the_table_is_believed_for_a_minute() -> None:
    heard = table("n1", "n2")
    for second in (2, 4):
        heard.hear(beat("n2", second, second), second)
    heard.lost()
    assert names(heard, 4.0 + REMEMBERED) == ["n2"], "n1 had been silent before"
    assert names(heard, 4.1 + REMEMBERED) == []
    heard.found(20.0)
    assert names(heard, 20.0 + SILENT) == ["n2"], "it has time to speak"
    heard.hear(beat("n1", 2, 21.0), 21.0)
    heard.hear(beat("n1", 3, 24.0), 24.0)
    assert names(heard, 24.1) == ["n1"]


def test_when_nobody_is_heard_it_is_not_the_nodes_that_are_away() -> None:
    """A frozen nats-server is found out after 4 s and more, and a gateway that was frozen itself hears later."""
    heard = table("n1", "n2", "n3")
    for number, second in enumerate((2.0, 4.0), start=2):
        heard.hear(beat("n2", number, second), second)
        heard.hear(beat("n3", number, second + 0.5), second + 0.5)
    assert names(heard, 4.5 + SILENT + 0.1) == ["n2", "n3"]
    heard.lost()
    assert names(heard, 12.0) == ["n2", "n3"], "they spoke before it was frozen, though NATS is lost only now"
    heard.found(20.0)
    heard.hear(beat("n3", 4, 20.5), 20.5)
    assert names(heard, 21.0) == ["n2", "n3"], "one is heard first, and the other has time to speak"
    heard.hear(beat("n3", 5, 23.0), 23.0)
    assert names(heard, 20.6 + SILENT) == ["n3"]


def test_a_node_that_could_not_be_reached_when_nats_was_lost_is_asked_again_meanwhile() -> None:
    heard = table("n1", "n2")
    heard.failed("n1", 0.5)
    heard.lost()
    assert names(heard, 1.0) == ["n2"]
    assert names(heard, 2.0) == ["n1", "n2"]


def test_what_was_asked_is_gone_at_once_and_until_the_node_can_know() -> None:
    heard = table("n1", vacant={"a": 2})
    (ready,) = ranking(heard, A, 0.5, first)
    heard.asked(A, ready, 0.5)
    heard.asked(A, ready, 0.5)
    assert ranking(heard, A, 0.5, first)[0].standing is not Standing.READY
    heard.hear(beat("n1", 2, 0.4, vacant={"a": 2}), 0.6)
    assert ranking(heard, A, 0.6, first)[0].standing is not Standing.READY, "it was sent before"
    heard.hear(beat("n1", 3, 1.0, vacant={"a": 1}), 1.0)
    assert ranking(heard, A, 1.0, first)[0].standing is Standing.READY


def test_a_second_request_shares_the_instance_that_the_first_has_started() -> None:
    heard = table("n1", free=8)
    (fits,) = ranking(heard, A, 0.1, first)
    assert (fits.standing, fits.device, fits.size) == (Standing.FITS, "gpu", 8 * 2**30)
    heard.asked(A, fits, 0.1)
    (second,) = ranking(heard, A, 0.1, first)
    assert second.standing is Standing.FITS
    heard.asked(A, second, 0.1)
    assert ranking(heard, A, 0.1, first)[0].standing >= Standing.WAITS


def test_a_node_that_said_no_is_believed_to_be_full_for_that_model() -> None:
    heard = table("n1", vacant={"a": 1}, free=16)
    heard.refused(A, ranking(heard, A, 0.1, first)[0], 0.1)
    assert ranking(heard, A, 0.1, first)[0].standing is Standing.WAITS
    assert ranking(heard, Sought(model="b"), 0.1, first)[0].standing is Standing.FITS
    heard.hear(beat("n1", 2, 1.0, vacant={"a": 1}), 1.0)
    assert ranking(heard, A, 1.0, first)[0].standing is Standing.READY


def test_a_node_whose_instance_has_ended_is_not_looked_at_for_its_slots() -> None:
    heard = table("n1", "n2", vacant={"a": 1})
    heard.hear(beat("n1", 2, 1.0, free=24), 1.0)
    assert [node.name for node in heard.slotted("a")] == ["n2"]


def test_a_refusal_outlives_the_answers_before_it() -> None:
    """While nothing is heard of NATS, thousands of answers may have come since the last heartbeat: none is redone."""
    heard = table("n1", vacant={"a": 1})
    ready = ranking(heard, A, 0.1, first)[0]
    heard.ended(heard.asked(A, Prospect(Standing.WAITS, 0.0, 0.0, "n1"), 0.1), 0.2)
    asked = heard.asked(A, ready, 0.3)
    heard.refused(A, ready, 0.4)
    heard.ended(asked, 0.5)
    assert ranking(heard, A, 0.5, first)[0].standing is Standing.WAITS
