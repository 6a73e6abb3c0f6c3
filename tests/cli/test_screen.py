"""What top draws: every byte has its place, and nothing needs more than the terminal can do."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from cli.card import GIB, card
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lmxd.cli import output
from lmxd.cli.output import doing
from lmxd.cli.screen import HISTORY, Samples, bar, rendered, sparkline
from lmxd.cli.wishes import WaitBar, standing
from lmxd.folding import width
from lmxd.rpc.books import InstanceInfo, LeaseInfo, MovingInfo, Status, TicketInfo
from lmxd.rpc.notifications import Progress
from lmxd.rpc.overview import Overview
from lmxd.rpc.owners import OwnerInfo, Why


def why(owners: dict[str, int] | None = None, **more: Any) -> Why:
    found = [
        OwnerInfo(instance=name, bytes=size, promised=size, measured=size, exited=name.startswith("gone"))
        for name, size in (owners if owners is not None else {"a#1": 6 * GIB}).items()
    ]
    return Why(device=card(**more), instances=found, processes=[], withheld=0)


def status(**more: Any) -> Status:
    figures = {"version": "1", "uptime": 5, "engine": "x", "admission": True, "draining": False, "devices": []}
    counts = {"instances": 1, "leases": 1, "waiting": 0, "queue_depth": 5}
    return Status(**figures | counts | more)


def instance(**more: Any) -> InstanceInfo:
    figures = {"instance": "a#1", "model": "a", "phase": "ready", "ctx": 4096, "slots": 2, "busy": True, "idle": 0}
    rest = {"idle_timeout": 300, "age": 9, "promised": {}, "charged": {"GPU-a1b2-c3": 6 * GIB}, "leases": []}
    return InstanceInfo(**figures | rest | more)


def drawn(seen: Overview, encoding: str = "utf-8", width: int = 80, first: int = 0, height: int | None = None) -> str:
    history = Samples()
    history.note(seen)
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=out, width=width, force_terminal=False)
    console.print(rendered(seen, history, console, first, height))
    out.seek(0)
    return out.read()


@given(sizes=st.lists(st.integers(0, 24 * GIB), max_size=6), width=st.integers(10, 200))
def test_a_bar_is_as_wide_as_it_is_to_be(sizes: list[int], width: int) -> None:
    """Even if more is promised than there is."""
    owners = {f"m{number}#1": size for number, size in enumerate(sizes)}
    assert len(bar(why(owners), width, plain=True).plain) == width + 2


def test_a_bar_shows_each_class_by_its_share() -> None:
    found = bar(why({"a#1": 4 * GIB, "gone#1": 2 * GIB}), 24, plain=True).plain
    assert found == "[" + "#" * 4 + "." * 2 + "%" * 3 + "-" * 2 + " " * 13 + "]"


def test_sparklines() -> None:
    assert sparkline([0, 0.5, 1], 1, plain=False) == " ▄█"
    assert sparkline([0, 1], 1, plain=True) == " %"
    assert sparkline([0, 0], 0, plain=False) == "  "


def test_history_is_as_long_as_a_line_holds() -> None:
    history = Samples()
    for _ in range(200):
        history.note(Overview(status=status(), owners=[why()], instances=[instance(speed=7)], queue=[]))
    assert len(history.speed) == len(history.used["GPU-a1b2-c3"]) == HISTORY


def test_the_screen_names_devices_instances_and_the_queue() -> None:
    ticket = TicketInfo(ticket="t-1", model="b", uid=0, bytes=20 * GIB, position=1, waited=3, eta=14, waits_for=["a#1"])
    seen = Overview(
        status=status(warnings=["mind this"]), owners=[why()], instances=[instance(speed=42.0)], queue=[ticket]
    )
    text = drawn(seen)
    for word in (
        "0: GPU-a1b2 Some card",
        "13.0 GiB free of 24.0 GiB",
        "a#1",
        "busy",
        "42 tokens/s",
        "14 s",
        "mind this",
    ):
        assert word in text


def test_leases_that_move_are_shown() -> None:
    """They have no instance meanwhile, and are in no row."""
    lease = MovingInfo(bytes=GIB, slots=1, model="a", before="a#1", ctx=4096, ctx_wanted=16384)
    moving = [lease, lease.model_copy(update={"instance": "a#2"})]
    text = drawn(Overview(status=status(), owners=[why()], instances=[], moving=moving, queue=[]))
    assert "moving from a#1, 4k→16k: waits\n" in text
    assert "moving from a#1, 4k→16k: to a#2\n" in text


def test_the_queue_says_whom_each_is_for_and_stays_within_the_terminal() -> None:
    """What others chose is shown as it is: neither as markup, nor beyond the edge."""
    figures: dict[str, Any] = {"uid": 990, "bytes": GIB, "waited": 3}
    tickets = [
        TicketInfo(ticket="t-1", model="llama-3.1-8b", user="anna", position=1, waits_for=["a#1"], **figures),
        TicketInfo(ticket="t-2", model="[red]b", user="x" * 64, position=2, **figures),
        TicketInfo(ticket="t-3", model="b", position=3, **figures),
    ]
    lines = drawn(Overview(status=status(), owners=[why()], instances=[], queue=tickets)).splitlines()
    shown = {line.split()[0]: line for line in lines if line.split()[:1] and line.split()[0] in "123"}
    assert "key anna" in shown["1"]
    assert "[red]b" in shown["2"]
    assert " 990 " in shown["3"]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("users", "shown"),
    [(["anna"], "1 (key anna)"), (["anna", "anna"], "2 (key anna)"), (["x" * 64, "ben"], "x"), ([None], "1 (990)")],
)
def test_the_instances_say_who_holds_them_and_stay_within_the_terminal(users: list[str | None], shown: str) -> None:
    leases = [LeaseInfo(bytes=GIB, slots=1, lease=f"l-{n}", uid=990, user=user) for n, user in enumerate(users)]
    lines = drawn(Overview(status=status(), owners=[why()], instances=[instance(leases=leases)], queue=[])).splitlines()
    assert shown in "\n".join(lines)
    assert max(map(len, lines)) <= 80


def test_leases_of_several_slots_say_how_many_they_have() -> None:
    leases = [LeaseInfo(bytes=GIB, slots=n, lease=f"l-{n}", uid=990, user="anna") for n in (1, 17)]
    shown = drawn(Overview(status=status(), owners=[why()], instances=[instance(leases=leases)], queue=[]))
    assert "2, 18 slots (key anna)" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_in_a_pipe_names_are_whole_and_bars_are_no_wider_than_a_wide_screen() -> None:
    name = "m" * 120 + "#1"
    seen = Overview(status=status(), owners=[why({name: GIB})], instances=[instance(instance=name)], queue=[])
    lines = drawn(seen, width=10**6).splitlines()
    assert sum(name in line for line in lines) == 2
    assert max(map(len, lines)) < 400


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_gets_what_it_can_show(encoding: str) -> None:
    seen = Overview(status=status(), owners=[why()], instances=[instance()], queue=[])
    assert "####" in drawn(seen, encoding)


def test_use_that_cannot_be_seen_whole_is_a_lower_bound() -> None:
    assert output.seen(card(), 3 * GIB) == "3.00 GiB"
    assert output.seen(card(lower_bound=True), 3 * GIB) == "at least 3.00 GiB"


def test_a_device_that_cannot_be_had() -> None:
    seen = Overview(status=status(), owners=[why(unavailable="it is lost")], instances=[], queue=[])
    text = drawn(seen)
    assert "unavailable: it is lost" in text
    assert "no instances" in text
    assert "nobody waits" in text


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        ({"state": "queued", "position": 2, "eta": 14.0}, "number 2 in the queue, expected in 14 s"),
        ({"state": "queued", "position": 1, "waits_for": ["a#1"]}, "number 1 in the queue, waiting for a#1"),
        ({"state": "starting", "position": 0, "instance": "a#2"}, "starting a#2"),
        (
            {"state": "starting", "position": 0, "instance": "a#2", "loaded": 0.5, "eta": 3.0},
            "loading a#2, expected in 3 s",
        ),
    ],
)
def test_where_a_request_stands_in_words(progress: dict[str, Any], words: str) -> None:
    assert standing(Progress(request=1, ticket="t", **progress)) == words


@pytest.mark.parametrize("height", [24, 40, 100])
def test_of_many_instances_a_screen_shows_some_and_the_queue_is_in_sight(height: int) -> None:
    instances = [instance(instance=f"m{n}#1", model=f"m{n}") for n in range(30)]
    figures: dict[str, Any] = {"uid": 1, "bytes": GIB, "waited": 3}
    tickets = [TicketInfo(ticket=f"t-{n}", model=f"w{n}", position=n, **figures) for n in range(1, 26)]
    seen = Overview(status=status(), owners=[why()], instances=instances, queue=tickets)
    lines = drawn(seen, height=height).splitlines()
    assert len(lines) <= height
    shown = [n for n in range(30) if any(line.startswith(f"m{n}#1 ") for line in lines)]
    assert shown == list(range(len(shown)))
    assert any(" w1 " in line for line in lines)
    assert (f"… {30 - len(shown)} more below" in "\n".join(lines)) == (len(shown) < 30)
    moved = drawn(seen, height=height, first=1000)
    assert "m29#1" in moved, "the end is as far as it goes"
    assert ("more above" in moved) == (len(shown) < 30)


@pytest.mark.parametrize(("timeout", "until"), [(300, "5 min 0 s"), (None, "pinned"), (10**9, "never")])
def test_it_says_how_long_an_idle_instance_stays(timeout: float | None, until: str) -> None:
    assert doing(instance(busy=False, idle=3, idle_timeout=timeout)) == f"idle 3 s/{until}"


class Terminal(io.StringIO):
    """A terminal that remembers all that is written to it."""

    def isatty(self) -> bool:
        return True


def test_a_wait_fits_its_terminal_however_long_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    for name in ("a", "bartowski/SmolLM2-135M-Instruct-GGUF:Q4_1", "模型" * 30):
        with WaitBar() as progress:
            for loaded in (None, 0.58):
                at: dict[str, Any] = {"instance": f"{name}#1", "eta": 1.0, "loaded": loaded}
                progress.show(Progress(request=1, ticket="t", state="starting", position=0, **at))
    frames = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()))
    drawn_ = [frame for frame in frames if "ing " in frame]
    assert drawn_
    assert max(map(width, drawn_)) <= 80
    assert all(re.search(r" 0:00:0\d$", frame.rstrip()) for frame in drawn_), drawn_
    assert any("58%" in frame and "bartowski" in frame for frame in drawn_)


@pytest.mark.parametrize(
    ("time", "words"), [(59.4, "59 s"), (59.7, "1 min 0 s"), (119.7, "2 min 0 s"), (3599.8, "1 h 0 min")]
)
def test_no_minute_has_60_seconds(time: float, words: str) -> None:
    assert output.seconds(time) == words
