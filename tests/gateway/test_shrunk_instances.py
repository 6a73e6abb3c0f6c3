"""Conversations of an idle instance that shrinks: all of its slots have theirs, and gateways and relays know where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, http, model

from gateway.front import Front, opened
from lmxd.gateway.leasing.one_lease import OneLease
from lmxd.gateway.relaying import relay
from lmxd.rpc.notifications import Moved, Notification


def house(tmp_path: Path, slots: int) -> House:
    """``elastic`` has as many slots of 512 tokens, and half as many of 1,024."""
    model(tmp_path, "elastic", counts=True)
    elastic = {"start": 512, "steps": [1024], "idle_shrink": 0.3}
    profile = {"context_length": 3072, "slots": slots, "elastic": elastic}
    return House(tmp_path, FakeNvml(card()), models={"elastic": profile})


def live(h: House) -> list[tuple[int, int]]:
    """The tokens and slots of each instance."""
    return sorted((i.ask.context, i.ask.spread) for i in h.state.instances.values() if i.live)


class Talks:
    """Conversations at a gateway, by the letter that each consists of."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.said: dict[str, str] = {}

    async def turn(self, who: str, size: int, answer: int | None) -> int:
        """Go on with one. The tokens that were processed."""
        prompt = self.said.get(who, "") + who * size
        body: dict[str, Any] = {"model": "elastic", "prompt": prompt}
        told = await self.front.ask("/completion", body | ({} if answer is None else {"n_predict": answer}))
        said = json.loads(told.text)
        self.said[who] = prompt + said["content"]
        return int(said["timings"]["prompt_n"])


@pytest.mark.parametrize(("slots", "begun"), [(12, (3072, 2)), (1, (3072, 1))])
async def test_all_conversations_go_on_in_the_smaller_instance(
    tmp_path: Path, slots: int, begun: tuple[int, int]
) -> None:
    async with opened(h := house(tmp_path, slots)) as front:
        talks, names = Talks(front), "az"[: begun[1]]
        for who in names:
            assert await talks.turn(who, 200, None) == 200
        assert live(h) == [begun], "nobody knew how long the answers would be"
        await front.until(lambda: live(h) == [(512, begun[1])])
        for _ in range(2):
            for who in reversed(names):
                assert await talks.turn(who, 20, 5) <= 21
        assert live(h) == [(512, begun[1])]


async def test_while_it_ends_the_context_that_it_gives_back_is_not_asked_for_again(tmp_path: Path) -> None:
    """Its engine takes its time to end, and what takes its place has no name yet."""
    (h := house(tmp_path, 1)).write(engine={"stop_timeout": 3})
    async with opened(h) as front:
        (tmp_path / "elastic.json").write_text(json.dumps({"counts": True, "ignore_sigterm": True}))
        talks = Talks(front)
        await talks.turn("a", 200, None)
        assert live(h) == [(3072, 1)]
        await front.until(lambda: h.phases().get("elastic#1") == "stopping")
        (tmp_path / "elastic.json").write_text(json.dumps({"counts": True}))
        await talks.turn("a", 20, 5)
        assert {i.ask.context for i in h.state.instances.values() if i.id != "elastic#1"} == {512}


async def test_a_program_with_one_lease_goes_on_with_all_of_its_conversations(tmp_path: Path) -> None:
    h = house(tmp_path, 12)
    (tmp_path / "own").mkdir(mode=0o700)
    async with h.open(), h.client(on_notification=lambda name, params: told(name, params)) as holder:
        lease = await holder.request("elastic", ctx=3072)
        leases = OneLease(h.where.socket, lease)

        def told(name: str, params: dict[str, Any]) -> None:
            if name == Notification.MOVED:
                leases.moved(Moved.model_validate(params).granted)

        async with leases, relay(leases, lease, tmp_path / "own", 30.0) as own:

            async def turn(prompt: str) -> tuple[str, int]:
                body = json.dumps({"prompt": prompt, "n_predict": 8}).encode()
                said = json.loads((await http(own, "/completion", body)).text)
                return prompt + said["content"], said["timings"]["prompt_n"]

            talks = [(await turn(who * 200))[0] for who in "az"]
            await h.until(lambda: h.state.leases[lease.lease].instance == "elastic#2")
            assert live(h) == [(512, 2)]
            for _ in range(2):
                for n in (1, 0):
                    talks[n], processed = await turn(talks[n] + "more")
                    assert processed <= len("more") + 1
