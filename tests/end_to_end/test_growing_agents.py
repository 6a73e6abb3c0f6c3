"""Four agents at once whose conversations cross two steps on the real llama-server, while things go wrong.

Each has a model with one slot, for its own. Greedy answers have to be those of a static run to the last token.
"""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from end_to_end.test_crashes import OF_GROWTH
from gateway_process import Gateway
from lmxd_process import Lmxd
from played_ram import PlayedRam

from lmxd.rpc.client import Client

AGENTS, TURNS = 4, 5
STEPS = (256, 512, 1024)
ADDED, ANSWER = 110, 16
"""Tokens of a turn: five of them are 630."""


def config(model: Path) -> dict[str, Any]:
    static = {"path": str(model), "context_length": STEPS[-1], "threads": 1}
    grows = static | {"elastic": {"start": STEPS[0], "steps": list(STEPS[1:])}}
    models = {f"static{n}": static for n in range(AGENTS)} | {f"grows{n}": grows for n in range(AGENTS)}
    return {"gpu": {"device": "host", "max_memory_gb": 4}, "models": models}


def asked(gateway: Gateway, body: dict[str, Any]) -> Any:
    """The answer to a request, which is made once: whatever happens to lmxd, its client sees nothing but time."""
    request = urllib.request.Request(gateway.url + "/completion", json.dumps(body).encode())
    request.add_header("Authorization", f"Bearer {gateway.key}")
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def conversation(gateway: Gateway, model: str, agent: int) -> list[list[int]]:
    """The tokens of each answer of an agent's conversation."""
    prompt: list[int] = []
    found = []
    for turn in range(TURNS):
        prompt += [300 + (agent * 97 + turn * 37 + each * 11) % 3000 for each in range(ADDED)]
        body = {"model": model, "prompt": prompt, "n_predict": ANSWER, "temperature": 0, "return_tokens": True}
        answer = asked(gateway, body | {"ignore_eos": True})
        prompt = prompt + answer["tokens"]
        found.append(answer["tokens"])
    return found


@contextmanager
def at_once(gateway: Gateway, models: str) -> Iterator[list[list[list[int]]]]:
    """What the agents are told is there when the block has ended, during which they are at work."""
    said: list[list[list[int]]] = []
    with ThreadPoolExecutor(AGENTS) as pool:
        running = [pool.submit(conversation, gateway, f"{models}{n}", n) for n in range(AGENTS)]
        yield said
        said += [each.result() for each in running]


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory, few_layers: Path) -> list[list[list[int]]]:
    """The answers of instances that have the last step from the start."""
    lmxd = Lmxd(tmp_path_factory.mktemp("static"), config(few_layers))
    with lmxd, Gateway(lmxd) as gateway, at_once(gateway, "static") as said:
        pass
    return said


def nothing_is_broken(client: Client) -> None:
    assert client.status().broken_invariants == []
    assert client.queue().tickets == []


@pytest.mark.timeout(600)
def test_lmxd_dies_at_every_step_of_their_growths(
    tmp_path: Path, few_layers: Path, static: list[list[list[int]]]
) -> None:
    lmxd = Lmxd(tmp_path, config(few_layers))
    usual = dict(lmxd.env)
    places = sorted(OF_GROWTH)
    lmxd.env = usual | {"LMXD_FAILPOINT": f"{places[0]}:kill"}
    with lmxd, Gateway(lmxd) as gateway:
        with at_once(gateway, "grows") as said:
            for place in (*places[1:], ""):
                assert lmxd.process.wait(120) == -signal.SIGKILL
                lmxd.env = usual | ({"LMXD_FAILPOINT": f"{place}:kill"} if place else {})
                lmxd.begin()
        with lmxd.client() as client:
            nothing_is_broken(client)
    assert said == static


@pytest.mark.timeout(600)
def test_room_vanishes_while_they_grow_and_comes_back(
    tmp_path: Path, few_layers: Path, static: list[list[list[int]]]
) -> None:
    memory = 4 * 2**30
    with PlayedRam(tmp_path, config(few_layers), memory) as lmxd, Gateway(lmxd) as gateway, lmxd.client() as client:
        with at_once(gateway, "grows") as said:
            lmxd.until(lambda: any(i.endswith("#2") for i in lmxd.instances()), 120)
            lmxd.others_take(memory)
            lmxd.until(lambda: client.queue().tickets, 120)
            lmxd.others_take(0)
        nothing_is_broken(client)
    assert said == static
