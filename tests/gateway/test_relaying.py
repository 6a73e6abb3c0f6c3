"""The relay of one lease: a program that is run with it never learns that the lease moves."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, http, model

from gateway.front import read_until
from lmxd.core.words import InstanceId, LeaseId
from lmxd.gateway.leasing.one_lease import OneLease
from lmxd.gateway.relaying import relay
from lmxd.rpc.client import AsyncClient, AsyncLease
from lmxd.rpc.messages import Granted


class Run:
    """A holder of a lease, and the relay that its program has."""

    def __init__(self, house: House, holder: AsyncClient, lease: AsyncLease, leases: OneLease) -> None:
        self.house, self.holder, self.lease, self.leases = house, holder, lease, leases
        self.own: Granted
        self.session: aiohttp.ClientSession

    async def complete(self, prompt: str, tokens: int = 1, **more: Any) -> SimpleNamespace:
        body = {"prompt": prompt, "n_predict": tokens, **more}
        return await http(self.own, "/completion", json.dumps(body).encode())

    def streamed(self, prompt: str, tokens: int) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        body = {"prompt": prompt, "n_predict": tokens, "stream": True}
        headers = {"Authorization": f"Bearer {self.own.api_key}"}
        return self.session.post("/completion", json=body, headers=headers)

    @property
    def present(self) -> InstanceId:
        """The instance that its lease is on."""
        found: InstanceId = self.house.state.leases[LeaseId(self.lease.lease)].instance
        return found


@asynccontextmanager
async def running(
    tmp_path: Path, name: str = "m", *, slots: int = 1, tcp: bool = False, shares: bool = False, **play: Any
) -> AsyncIterator[Run]:
    """``m`` grows from 512 to 1,024 and 2,048 tokens. ``shares``: it has those at once in a cache of all slots."""
    model(tmp_path, "m", counts=True, **play)
    profile = {"context_length": 2048, "estimated_memory_gb": 2, "slots": slots, "kv_unified": shares}
    models = {"m": profile | {"elastic": {"start": 512, "steps": [2048 if shares else 1024]}}}
    engine = {"endpoint": "tcp" if tcp else "unix"}
    h = House(tmp_path, FakeNvml(card()), models=models, engine=engine)
    (tmp_path / "own").mkdir(mode=0o700)
    async with h.open(), h.client() as holder:
        lease = await holder.request(name)
        leases = OneLease(h.where.socket, lease)
        run = Run(h, holder, lease, leases)
        async with leases, relay(leases, lease, tmp_path / "own", 30.0) as run.own:
            connector = aiohttp.UnixConnector(run.own.socket) if run.own.socket else None
            async with aiohttp.ClientSession(run.own.endpoint, connector=connector) as run.session:
                yield run


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_conversation_grows_by_two_steps_at_one_address(tmp_path: Path, tcp: bool) -> None:
    async with running(tmp_path, tcp=tcp) as run:
        prompt, processed = "", []
        for turn in range(6):
            prompt += f"{turn}" * 200
            answer = await run.complete(prompt, 10)
            assert answer.status == 200, answer.text
            said = json.loads(answer.text)
            prompt += said["content"]
            processed.append(said["timings"]["prompt_n"])
        assert all(200 <= each <= 202 for each in processed), processed
        assert run.house.state.instances[run.present].ask.context == 2048


async def test_a_program_has_one_cache_for_itself_and_each_answer_the_whole_context(tmp_path: Path) -> None:
    async with running(tmp_path, shares=True, slots=4, wordy=4000, may_end=True) as run:
        assert (run.lease.ctx, run.lease.slots) == (2048, 4)
        first, other = await asyncio.gather(run.complete("a" * 300, 50), run.complete("b" * 300, 50))
        assert (first.status, other.status) == (200, 200)
        said = json.loads((await run.complete("c" * 500, -1)).text)
        assert (said["tokens_predicted"], said["stop_type"]) == (1548, "limit")
        again = json.loads((await run.complete("c" * 500 + said["content"][:100], 1)).text)
        assert again["timings"]["prompt_n"] == 1
        assert len(run.house.state.instances) == 1


async def test_answers_of_a_program_that_have_no_room_together_come_one_after_the_other(tmp_path: Path) -> None:
    async with running(tmp_path, shares=True, slots=4, wordy=4000, token_seconds=0.002) as run:
        found = await asyncio.gather(*(run.complete(letter * 1200, 100) for letter in "abc"), run.complete("d" * 99, 1))
        assert [each.status for each in found] == [200] * 4


async def test_a_request_that_fits_is_handed_on_as_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        assert (await run.complete("a" * 100)).status == 200
        assert (await http(run.own, "/health")).status == 200
        assert run.present == run.lease.instance


async def test_a_key_is_needed_and_not_that_of_the_instance(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        for key in (run.lease.api_key, "", "é"):
            stranger = run.own.model_copy(update={"api_key": key})
            assert (await http(stranger, "/health")).status == 401
        assert run.own.socket is not None
        reader, writer = await asyncio.open_unix_connection(run.own.socket)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"401", "bytes that are no text"
        writer.close()


async def test_it_follows_a_growth_that_another_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as run, run.house.client() as other:
        await run.complete("a" * 300)
        grown = await other.grow(run.lease.lease, 600)
        await run.house.until(lambda: run.lease.instance not in run.house.state.instances)
        answer = await run.complete("a" * 301)
        assert json.loads(answer.text)["timings"]["cache_n"] == 300
        assert run.holder.lease(run.lease.lease).instance == grown.instance


async def test_a_growth_waits_until_others_are_answered_and_no_answer_is_cut(tmp_path: Path) -> None:
    async with running(tmp_path, token_seconds=0.05) as run:
        async with run.streamed("a" * 100, 40) as first:
            begun = await read_until(first, "data:")
            others = [asyncio.create_task(run.complete(prompt)) for prompt in ("b" * 700, "c" * 700, "d" * 10)]
            rest = (await first.content.read()).decode()
        assert (begun + rest).count("data:") == 41, rest
        assert [(await other).status for other in others] == [200] * 3
        assert run.house.state.instances[run.present].ask.context == 1024


async def test_a_client_that_leaves_has_nobody_wait_for_it(tmp_path: Path) -> None:
    async with running(tmp_path, token_seconds=0.05) as run:
        async with run.streamed("a" * 100, 300) as first:
            await read_until(first, "data:")
        assert (await run.complete("b" * 700)).status == 200
        assert run.house.state.instances[run.present].ask.context == 1024


async def test_a_growth_that_fails_is_an_error_and_the_lease_stays(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        (tmp_path / "m.json").write_text(json.dumps({"exit": {"status": 1, "lines": ["broken"]}}))
        answer = await run.complete("a" * 1500)
        assert answer.status == 502, answer.text
        assert run.present == run.lease.instance
        assert (await run.complete("a" * 100)).status == 200


async def test_a_lease_that_has_ended_is_an_error(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        await run.holder.stop(run.lease.instance)
        await run.house.until(lambda: not run.house.state.instances)
        answer = await run.complete("a" * 100)
        assert answer.status == 404, answer.text
        assert json.loads(answer.text)["error"]["code"] == "lease_ended"


async def test_in_one_of_several_slots_a_conversation_is_carried_along(tmp_path: Path) -> None:
    async with running(tmp_path, slots=2) as run:
        await run.complete("a" * 300)
        answer = await run.complete("a" * 600)
        said = json.loads(answer.text)
        assert (answer.status, said["timings"]["cache_n"]) == (200, 300)


async def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        body, headers = io.BytesIO(b"x" * (65 * 2**20)), {"Authorization": f"Bearer {run.own.api_key}"}
        async with run.session.post("/completion", data=body, headers=headers) as answer:
            assert answer.status == 413
