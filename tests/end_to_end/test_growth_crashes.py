"""A conversation on the real llama-server that grows, and SIGKILL of lmxd on the way: no lease and no token is lost."""

from __future__ import annotations

import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from end_to_end.test_crashes import OF_GROWTH
from lmxd_process import Lmxd, post
from waiting import wait_until

from lmxd.errors import LmxdError
from lmxd.instances import proc
from lmxd.instances.orphans import orphans
from lmxd.rpc.client import Client

STEPS = (256, 512, 1024)
ROOMY, TIGHT = 1.0, 0.2
"""GiB for all: in the one a larger instance has room beside the smaller one, in the other only in its place."""
TWO_IF_ONE_SHRINKS = 0.245
"""GiB for a static instance beside an elastic one of the first step, but not beside one of the last."""
IN_PLACE = ("growth_saved", "stop_performed", "reclaimed", "loaded@2", "growth_restored", "growth_moved")
"""The edges of a move in which the old instance ends first."""
SHRINKS = ("growth_saved", "stop_performed", "reclaimed", "growth_moved")
"""Some of them, where the static instance is to start again meanwhile."""
OF_TWO = ("growth_saved@2", "stop_performed", "growth_restored@2", "growth_moved")
"""Edges of a shrink of an instance with two conversations."""
TOKENS = 8
TURNS = [
    " ".join(f"thing{n}" for n in range(12)),
    "And now of a bear.",
    " ".join(f"river{n}" for n in range(90)),
    "So?",
]
"""The third needs more than the first step has, with what was before."""


def daemon(directory: Path, model: Path, gib: float = ROOMY) -> Lmxd:
    grows = {"start": STEPS[0], "steps": list(STEPS[1:])}
    models = {
        "static": {"path": str(model), "context_length": STEPS[-1]},
        "grows": {"path": str(model), "context_length": STEPS[-1], "elastic": grows},
        "pair": {"path": str(model), "context_length": STEPS[-1], "slots": 8, "elastic": grows | {"idle_shrink": 1}},
    }
    return Lmxd(directory, {"gpu": {"device": "host", "max_memory_gb": gib}, "models": models})


def turn(lease: Any, before: list[int], text: str) -> tuple[list[int], int]:
    """The conversation with an answer more, and how many tokens were processed for it."""
    asked = post(lease, "/tokenize", {"content": f"{text}\n"})["tokens"]
    body = {
        "prompt": before + asked,
        "n_predict": TOKENS,
        "temperature": 0,
        "return_tokens": True,
        "cache_prompt": True,
    }
    answer = post(lease, "/completion", body)
    return [*before, *asked, *answer["tokens"]], answer["timings"]["prompt_n"]


Static = tuple[list[list[int]], list[int]]
"""A conversation after each turn, and the tokens processed."""


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory, few_layers: Path) -> tuple[Static, ...]:
    """What is said in each of two conversations where an instance has the top from the start: greedily, as ever."""
    with daemon(tmp_path_factory.mktemp("static"), few_layers) as lmxd, lmxd.client() as client:
        return tuple(_static(client, texts) for texts in zip(*map(two_talks, TURNS), strict=True))


def _static(client: Client, texts: tuple[str, ...]) -> Static:
    """An instance of its own says it: with what another conversation left in a slot fewer tokens are processed."""
    tokens: list[list[int]] = [[]]
    counts: list[int] = []
    lease = client.request("static")
    for text in texts:
        said, count = turn(lease, tokens[-1], text)
        tokens, counts = [*tokens, said], [*counts, count]
    client.release(lease.lease)
    client.stop(lease.instance)
    return tokens, counts


@pytest.fixture(scope="module")
def static(talks: tuple[Static, ...]) -> Static:
    """The first of them."""
    return talks[0]


def two_talks(text: str) -> list[str]:
    """What is said in each of two conversations."""
    return [text, text.replace("thing", "beast").replace("bear", "ship")]


def nothing_is_left_behind(lmxd: Lmxd) -> None:
    with lmxd.client() as client:
        assert client.status().broken_invariants == []
        found = {i.pid for i in client.instances().instances}
    assert {pid for pid in orphans(lmxd.directory / "lmxd.sock.d") if proc.lives(pid)} == found
    state = lmxd.directory / "lmxd.sock.d/state"
    assert not list(state.glob("moves/*")), "its file is gone"
    assert not list(state.glob("prompts/*")), "and the doorways are shut"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("gib", [ROOMY, TIGHT], ids=["beside", "in-place"])
def test_a_conversation_that_crosses_two_steps_says_what_a_static_one_does(
    tmp_path: Path, few_layers: Path, static: Static, gib: float
) -> None:
    expected, counts = static
    with daemon(tmp_path, few_layers, gib) as lmxd, lmxd.client() as client:
        lease = client.request("grows", hold="explicit")
        for number, text in enumerate(TURNS):
            if number:
                lease = client.grow(lease.lease, ctx=STEPS[min(number, 2)])
            assert turn(lease, expected[number], text) == (expected[number + 1], counts[number])
        assert lease.instance == "grows#3"
        assert {i.instance for i in client.instances().instances if i.phase == "ready"} == {"grows#3"}
        nothing_is_left_behind(lmxd)


def begun_to_die_at(lmxd: Lmxd, place: str) -> dict[str, str]:
    """Start a daemon that is killed when it comes to a place. Its environment without that."""
    usual, (name, _, nth) = dict(lmxd.env), place.partition("@")
    lmxd.env["LMXD_FAILPOINT"] = f"{name}:kill@{nth or 1}"
    lmxd.start()
    return usual


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("gib", "place"), [*((ROOMY, place) for place in sorted(OF_GROWTH)), *((TIGHT, place) for place in IN_PLACE)]
)
def test_whatever_step_of_a_growth_it_dies_at_nothing_is_lost(
    tmp_path: Path, few_layers: Path, static: Static, gib: float, place: str
) -> None:
    expected, counts = static
    lmxd = daemon(tmp_path, few_layers, gib)
    usual = begun_to_die_at(lmxd, place)
    with Client(lmxd.socket, patience=0) as client:
        lease = client.request("grows", hold="explicit")
        assert turn(lease, [], TURNS[0]) == (expected[1], counts[0])
        with pytest.raises(LmxdError):
            client.grow(lease.lease, ctx=STEPS[1])
    assert lmxd.process.wait(20) == -signal.SIGKILL
    lmxd.env = usual
    with lmxd, lmxd.client() as client:
        moved = client.renew(lease.lease, instance=lease.instance).moved
        if gib is ROOMY:
            assert (moved is not None) == (place == "growth_moved"), "it is where the ledger says"
        grown = client.grow(lease.lease, ctx=STEPS[1])
        for number in range(1, len(TURNS)):
            assert turn(grown, expected[number], TURNS[number]) == (expected[number + 1], counts[number])
        nothing_is_left_behind(lmxd)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("gib", [ROOMY, TIGHT], ids=["beside", "in-place"])
def test_a_daemon_that_is_stopped_in_a_growth_and_goes_on_has_lost_nothing(
    tmp_path: Path, few_layers: Path, static: Static, gib: float
) -> None:
    expected, counts = static
    with daemon(tmp_path, few_layers, gib) as lmxd, lmxd.client() as client, ThreadPoolExecutor(1) as pool:
        lease = client.request("grows", hold="explicit")
        assert turn(lease, [], TURNS[0]) == (expected[1], counts[0])
        before = orphans(lmxd.directory / "lmxd.sock.d")
        growing = pool.submit(client.grow, lease.lease, ctx=STEPS[1])
        wait_until(lambda: orphans(lmxd.directory / "lmxd.sock.d") != before)
        stat = Path(f"/proc/{lmxd.process.pid}/stat")
        lmxd.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        lmxd.process.send_signal(signal.SIGCONT)
        grown = growing.result()
        for number in range(1, len(TURNS)):
            assert turn(grown, expected[number], TURNS[number]) == (expected[number + 1], counts[number])
        wait_until(lambda: [i.instance for i in client.instances().instances] == [grown.instance])
        nothing_is_left_behind(lmxd)


def shrinks(lmxd: Lmxd, lease: Any) -> Any:
    """Have another model ask for what an idle elastic instance does not use. The lease as it is after it got that."""
    with lmxd.client() as client, lmxd.client() as other:
        other.request("static", wait=60)
        wait_until(lambda: not client.instances().moving)
        moved = client.renew(lease.lease, instance=lease.instance).moved
        assert moved is not None, "nothing but its bytes would do"
        return moved


@pytest.mark.timeout(300)
def test_an_idle_conversation_gives_its_bytes_to_who_waits_and_goes_on_with_what_it_had(
    tmp_path: Path, few_layers: Path, static: Static
) -> None:
    expected, counts = static
    with daemon(tmp_path, few_layers, TWO_IF_ONE_SHRINKS) as lmxd, lmxd.client() as client:
        lease = client.request("grows", ctx=STEPS[-1], hold="explicit")
        assert turn(lease, [], TURNS[0]) == (expected[1], counts[0])
        lease = shrinks(lmxd, lease)
        assert (lease.instance, lease.ctx) == ("grows#2", STEPS[0])
        assert turn(lease, expected[1], TURNS[1]) == (expected[2], counts[1]), "it processes what is new"
        nothing_is_left_behind(lmxd)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("place", SHRINKS)
def test_whatever_step_of_a_shrink_it_dies_at_nothing_is_lost(
    tmp_path: Path, few_layers: Path, static: Static, place: str
) -> None:
    expected, counts = static
    lmxd = daemon(tmp_path, few_layers, TWO_IF_ONE_SHRINKS)
    usual = begun_to_die_at(lmxd, place)
    with Client(lmxd.socket, patience=0) as client:
        lease = client.request("grows", ctx=STEPS[-1], hold="explicit")
        assert turn(lease, [], TURNS[0]) == (expected[1], counts[0])
        with contextlib.suppress(LmxdError):  # it may have what it wants before the lease has moved
            client.request("static", wait=60)
    assert lmxd.process.wait(20) == -signal.SIGKILL
    lmxd.env = usual
    with lmxd, lmxd.client() as client:
        wait_until(lambda: not client.instances().moving)
        now = client.renew(lease.lease, instance=lease.instance).moved or lease
        assert turn(now, expected[1], TURNS[1]) == (expected[2], counts[1])
        nothing_is_left_behind(lmxd)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("place", OF_TWO)
def test_whatever_step_of_a_shrink_it_dies_at_both_conversations_of_an_instance_go_on(
    tmp_path: Path, few_layers: Path, talks: tuple[Static, ...], place: str
) -> None:
    lmxd = daemon(tmp_path, few_layers)
    usual = begun_to_die_at(lmxd, place)
    with Client(lmxd.socket, patience=0) as client:
        lease = client.request("pair", ctx=STEPS[-1], hold="explicit")
        assert lease.instance_slots == 2
        assert [turn(lease, [], first)[0] for first in two_talks(TURNS[0])] == [tokens[1] for tokens, _ in talks]
        assert lmxd.process.wait(60) == -signal.SIGKILL, "nobody asks it for anything"
    lmxd.env = usual
    with lmxd, lmxd.client() as client:
        wait_until(lambda: client.instances().instances and not client.instances().moving)
        now = client.renew(lease.lease, instance=lease.instance).moved or lease
        for (tokens, counts), second in zip(talks, two_talks(TURNS[1]), strict=True):
            assert turn(now, tokens[1], second) == (tokens[2], counts[1])
        wait_until(lambda: {i.ctx for i in client.instances().instances if i.phase == "ready"} == {STEPS[0]})
        wait_until(lambda: not client.instances().moving)
        nothing_is_left_behind(lmxd)
