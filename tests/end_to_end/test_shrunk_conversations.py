"""Two conversations in an instance that shrinks, by the gateway and the real llama-server: both go on as before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from end_to_end.test_growing_conversation import asked
from gateway_process import Gateway
from lmxd_process import Lmxd
from waiting import wait_until

TURNS = ("Tell me of the {0}. " * 12, "And what of a small {0}?", "Now of {0}s at sea, please.")
"""The first is long enough for the gateway to know again which conversation goes on."""
TALKS = ("ship", "town")
START = 256


@pytest.fixture
def gateway(tmp_path: Path, smollm2: Path) -> Iterator[Gateway]:
    """Two models of the same file: one with two slots of 1,024 tokens, and one of which eight have 256."""
    static = {"path": str(smollm2), "context_length": 1024, "threads": 1}
    elastic = {"start": START, "steps": [512], "idle_shrink": 1}
    models = {"elastic": static | {"slots": 8, "elastic": elastic}, "static": static | {"slots": 2}}
    config = {"gpu": {"device": "host", "max_memory_gb": 2}, "models": models}
    with Lmxd(tmp_path, config) as lmxd, Gateway(lmxd) as gateway:
        yield gateway


class Talk:
    """A conversation: for each answer its text, the tokens of the prompt and those of them that were processed."""

    def __init__(self, gateway: Gateway, model: str, subject: str) -> None:
        self._gateway, self._model, self._subject = gateway, model, subject
        self._messages: list[dict[str, str]] = []
        self.found: list[tuple[str, int, int]] = []

    def turn(self, number: int, most: int | None) -> None:
        """Have the next answer, of ``most`` tokens; without a word of that it may fill what there is."""
        self._messages.append({"role": "user", "content": TURNS[number].format(self._subject)})
        body: dict[str, Any] = {"model": self._model, "messages": self._messages, "temperature": 0, "stop": ["."]}
        limit = {} if most is None else {"max_tokens": most}
        answer = json.loads(asked(self._gateway, "/v1/chat/completions", body | limit))
        message = answer["choices"][0]["message"]
        self._messages.append(message)
        self.found.append((message["content"], answer["usage"]["prompt_tokens"], answer["timings"]["prompt_n"]))


def sizes(gateway: Gateway) -> list[tuple[int, int]]:
    """The tokens and slots of the elastic instances that are ready."""
    with gateway.lmxd.client() as client:
        found = client.instances().instances
    return [(i.ctx, i.slots) for i in found if i.phase == "ready" and i.model == "elastic"]


@pytest.mark.timeout(300)
def test_two_conversations_go_on_in_a_smaller_instance_as_if_it_had_not_shrunk(gateway: Gateway) -> None:
    talks = {model: [Talk(gateway, model, subject) for subject in TALKS] for model in ("static", "elastic")}
    for both in talks.values():
        for talk in both:
            talk.turn(0, None)
    assert sizes(gateway) == [(1024, 2)], "nobody knew how short the answers would be"
    wait_until(lambda: sizes(gateway) == [(START, 2)])
    for number in (1, 2):
        for both in talks.values():
            for talk in reversed(both):
                talk.turn(number, 16)
    assert [talk.found for talk in talks["elastic"]] == [talk.found for talk in talks["static"]]
    later = [answer for talk in talks["elastic"] for answer in talk.found[1:]]
    assert all(processed < prompt / 2 for _, prompt, processed in later), "only what was new"
    assert sizes(gateway) == [(START, 2)]
