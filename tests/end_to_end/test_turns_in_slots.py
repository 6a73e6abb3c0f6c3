"""Two long conversations in one slot of the real llama-server: their answers are those of one that has a slot each."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from end_to_end.test_crashes import OF_TURNS
from end_to_end.test_growing_conversation import asked
from gateway_process import Gateway
from lmxd_process import Lmxd
from waiting import wait_until

MORE, ANSWER = 20, 4
"""Tokens of what each turn adds, and of an answer."""
TURNS = 3


@contextmanager
def served(directory: Path, model: Path, place: str | None = None) -> Iterator[Gateway]:
    """Two models of one file: ``elastic``, of which one slot of 1,024 tokens has room, and ``static`` with two.

    Either has room (some 130 MiB), but not both, nor a second instance of ``elastic``.

    ``place``: where lmxd is killed.
    """
    static = {"path": str(model), "context_length": 1024, "threads": 1}
    models = {"static": static | {"slots": 2}, "elastic": static | {"elastic": {"start": 256, "steps": [512]}}}
    lmxd = Lmxd(directory, {"gpu": {"device": "host", "max_memory_gb": 0.2}, "models": models})
    usual = dict(lmxd.env)
    if place is not None:
        lmxd.env["LMXD_FAILPOINT"] = f"{place}:kill"
    with lmxd, Gateway(lmxd, instances=1) as gateway:
        lmxd.env = usual
        yield gateway


class Talk:
    """A conversation in tokens, and of each answer its tokens and how many of its prompt were processed.

    ``first``, ``more``: the tokens of the first prompt, and of what each turn adds.
    """

    def __init__(self, gateway: Gateway, model: str, number: int, *, first: int = 640, more: int = MORE) -> None:
        self._gateway, self._model, self._number = gateway, model, number
        self._first, self._more = first, more
        self._prompt: list[int] = []
        self.answers: list[list[int]] = []
        self.processed: list[int] = []

    def turn(self, *, anew: bool = False) -> None:
        """Have an answer. ``anew``: its prompt is to be processed whole."""
        begun, count = len(self._prompt), self._more if self._prompt else self._first
        self._prompt += [10_000 + (self._number * 997 + n * 37) % 30_000 for n in range(begun, begun + count)]
        body = {"model": self._model, "prompt": self._prompt, "n_predict": ANSWER, "temperature": 0}
        body["cache_prompt"] = not anew
        answer: dict[str, Any] = json.loads(
            asked(self._gateway, "/completion", body | {"ignore_eos": True, "return_tokens": True})
        )
        self.answers.append(answer["tokens"])
        self.processed.append(answer["timings"]["prompt_n"])
        self._prompt = self._prompt + answer["tokens"]


def in_turns(gateway: Gateway) -> list[Talk]:
    """Both, each in a slot of its own.

    The second turn is processed whole, as it is in one slot: nobody knew yet that the conversations go on. Else sums
    are made in another order, and answers may differ.
    """
    talks = [Talk(gateway, "static", number) for number in (1, 2)]
    for number in range(TURNS):
        for talk in talks:
            talk.turn(anew=number == 1)
    stopped(gateway)
    return talks


def files(gateway: Gateway) -> list[str]:
    return [path.name for path in (gateway.lmxd.directory / "lmxd.sock.d/state/moves").glob("*")]


def stopped(gateway: Gateway) -> None:
    with gateway.lmxd.client() as client:
        for instance in client.instances().instances:
            client.stop(instance.instance)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("place", [None, *sorted(OF_TURNS)])
def test_each_is_processed_once_more_at_most_and_lost_by_nothing(
    tmp_path: Path, few_layers: Path, place: str | None
) -> None:
    with served(tmp_path, few_layers, place) as gateway:
        static = [] if place else in_turns(gateway)
        talks, died = [Talk(gateway, "elastic", number) for number in (1, 2)], 0
        for _ in range(TURNS):
            for talk in talks:
                talk.turn()
                if gateway.lmxd.process.poll() is not None:
                    assert gateway.lmxd.process.wait() == -signal.SIGKILL
                    gateway.lmxd.start()
                    died += 1
        assert died == (place is not None)
        if place is None:
            assert [talk.answers for talk in talks] == [talk.answers for talk in static]
            assert all(talk.processed[2] <= MORE + 2 for talk in talks), [talk.processed for talk in talks]
            assert len(files(gateway)) == 1
        assert [len(answer) for talk in talks for answer in talk.answers] == [ANSWER] * 2 * TURNS
        with gateway.lmxd.client() as client:
            assert client.status().broken_invariants == []
            assert len(client.instances().instances) == 1
        stopped(gateway)
        wait_until(lambda: files(gateway) == [])
