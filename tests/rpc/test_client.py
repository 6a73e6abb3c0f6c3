"""The clients, against a daemon that is scripted."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop
from waiting import turns, until

from lmxd.errors import LmxdError
from lmxd.gateway.http.kept_connections import KeptConnections
from lmxd.gateway.http.upstream import exchange
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.rpc.client import AsyncClient, AsyncLease, Client
from lmxd.rpc.client.connecting import connect, connect_soon
from lmxd.rpc.client.wire import ConnectionLost, lost
from lmxd.rpc.messages import Granted
from lmxd.rpc.methods import METHODS, Method

GRANTED: dict[str, Any] = {
    "lease": "l-1",
    "instance": "a#1",
    "model": "a",
    "endpoint": "http://lmxd.invalid",
    "base_url": "http://lmxd.invalid/v1",
    "api_key": "k",
    "ctx": 1,
    "slots": 1,
    "devices": {},
    "basis": "declared",
    "hold": "connection",
    "waited": 0,
}


class Scripted:
    """A daemon that answers when it is told to, and can be made to hang up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer: asyncio.StreamWriter
        self.seen: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> Scripted:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        while line := await reader.readline():
            self.seen.put_nowait(json.loads(line))
        writer.close()

    async def asked(self, method: str, **params: Any) -> Any:
        """The id of the next call, which is to be of that method, and to have those parameters."""
        found = await asyncio.wait_for(self.seen.get(), 10)
        assert found["method"] == f"lmxd.{method}", found
        assert params.items() <= found["params"].items(), found
        return found["id"]

    def notify(self, method: str, **params: Any) -> None:
        said = {"jsonrpc": "2.0", "method": f"lmxd.{method}", "params": params}
        self.writer.write(json.dumps(said).encode() + b"\n")

    def answer(self, id: int, **result: Any) -> None:
        self.writer.write(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}).encode() + b"\n")


async def test_answers_may_be_longer_than_calls(tmp_path: Path) -> None:
    """A queue of five hundred before eight devices takes more than a MiB."""
    ticket = {"bytes": 1, "position": 1, "waited": 1, "waits_for": ["x" * 4000]}
    async with Scripted(tmp_path / "s") as daemon:
        async with AsyncClient(daemon.path) as lmxd:
            asked = asyncio.create_task(lmxd.queue())
            daemon.answer(await daemon.asked("queue"), depth=512, tickets=[ticket] * 700)
            assert len((await asked).tickets) == 700
        with Client(daemon.path) as blocking:
            waiting = asyncio.create_task(asyncio.to_thread(blocking.queue))
            daemon.answer(await daemon.asked("queue"), depth=512, tickets=[ticket] * 700)
            assert len((await waiting).tickets) == 700


async def test_leases_are_taken_up_again_though_who_noticed_the_loss_is_cancelled(tmp_path: Path) -> None:
    async with Scripted(tmp_path / "s") as daemon, AsyncClient(daemon.path) as lmxd:
        lmxd._leases.held.add("l-1")
        first = asyncio.create_task(lmxd.cancel(ticket="t-1"))
        second = asyncio.create_task(lmxd.cancel(ticket="t-2"))
        await daemon.asked("cancel")
        await daemon.asked("cancel")
        daemon.writer.close()
        renewing = await daemon.asked("renew")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        daemon.answer(renewing, lease="l-1")
        again = await daemon.asked("cancel")
        daemon.answer(again, ticket="t-2")
        assert (await second).ticket == "t-2"


MOVED: dict[str, Any] = {
    "lease": "l-1",
    "granted": GRANTED | {"instance": "a#2", "ctx": 2},
    "before": "a#1",
    "why": "grown",
}


async def granted(daemon: Scripted, lmxd: AsyncClient) -> AsyncLease:
    """The lease that the daemon grants."""
    asking = asyncio.create_task(lmxd.request("a"))
    daemon.answer(await daemon.asked("request"), **GRANTED)
    return await asking


async def test_a_client_says_where_a_lease_is_now(tmp_path: Path) -> None:
    heard: list[str] = []
    async with Scripted(tmp_path / "s") as daemon, AsyncClient(daemon.path, lambda name, _: heard.append(name)) as lmxd:
        lease = await granted(daemon, lmxd)
        daemon.notify("moved", **MOVED)
        await until(lambda: bool(heard))
        now = lmxd.lease("l-1")
        assert (lease.instance, now.instance, now.ctx, heard) == ("a#1", "a#2", 2, ["lmxd.moved"])
        releasing = asyncio.create_task(now.release())
        daemon.answer(await daemon.asked("release"), lease="l-1")
        await releasing
        with pytest.raises(LmxdError) as error:
            lmxd.lease("l-1")
        assert error.value.code == "unknown_lease"


async def test_a_growth_is_where_a_lease_is_and_that_of_another_is_not_held(tmp_path: Path) -> None:
    async with Scripted(tmp_path / "s") as daemon, AsyncClient(daemon.path) as lmxd:
        await granted(daemon, lmxd)
        for name in ("l-1", "l-2"):
            growing = asyncio.create_task(lmxd.grow(name, 2))
            daemon.answer(await daemon.asked("grow"), **MOVED["granted"] | {"lease": name})
            assert (await growing).ctx == 2
        assert lmxd.lease("l-1").instance == "a#2"
        assert lmxd.held == {"l-1"}


async def test_a_move_that_was_missed_is_told_with_the_renewal(tmp_path: Path) -> None:
    heard: list[Any] = []
    told = AsyncClient(tmp_path / "s", lambda name, params: heard.append((name, params["granted"]["instance"])))
    async with Scripted(tmp_path / "s") as daemon, told as lmxd:
        await granted(daemon, lmxd)
        daemon.writer.close()
        renewing = await daemon.asked("renew", instance="a#1")
        daemon.answer(renewing, lease="l-1", moved=MOVED["granted"])
        await until(lambda: bool(heard))
        assert heard == [("lmxd.moved", "a#2")]
        assert lmxd.lease("l-1").instance == "a#2"


async def test_who_blocks_asks_where_a_lease_is(tmp_path: Path) -> None:
    heard: list[str] = []
    async with Scripted(tmp_path / "s") as daemon:
        with await asyncio.to_thread(Client, daemon.path, lambda name, _: heard.append(name)) as lmxd:
            asking = asyncio.create_task(asyncio.to_thread(lmxd.request, "a"))
            daemon.answer(await daemon.asked("request"), **GRANTED)
            lease = await asking
            looking = asyncio.create_task(asyncio.to_thread(lmxd.lease, lease.lease))
            daemon.answer(await daemon.asked("renew", instance="a#1"), lease="l-1", moved=MOVED["granted"])
            assert (await looking).instance == "a#2"
            looking = asyncio.create_task(asyncio.to_thread(lmxd.lease, lease.lease))
            daemon.notify("moved", **MOVED)
            daemon.answer(await daemon.asked("renew", instance="a#2"), lease="l-1")
            assert (await looking).instance == "a#2"
            assert heard == ["lmxd.moved", "lmxd.moved"]


async def test_a_lease_that_comes_too_late_is_given_back(tmp_path: Path) -> None:
    """It was on its way as the request was withdrawn."""
    async with Scripted(tmp_path / "s") as daemon, AsyncClient(daemon.path) as lmxd:
        task = asyncio.create_task(lmxd.request("a"))
        asked = await daemon.asked("request")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await daemon.asked("cancel")
        daemon.answer(asked, lease="l-1")
        await daemon.asked("release")
        assert not lmxd.granting


async def test_a_lease_that_comes_in_the_moment_of_the_withdrawal_is_given_back(tmp_path: Path) -> None:
    """Its task is cancelled, but has not run since."""
    async with Scripted(tmp_path / "s") as daemon, AsyncClient(daemon.path) as lmxd:
        for answered_first in (True, False):
            task = asyncio.create_task(lmxd.request("a"))
            answer = {"id": await daemon.asked("request"), "result": {"lease": "l-1"}}
            if answered_first:
                lmxd._take(answer)
                task.cancel()
            else:
                task.cancel()
                lmxd._take(answer)
            with pytest.raises(asyncio.CancelledError):
                await task
            await daemon.asked("release")
            assert daemon.seen.empty()
            assert not lmxd.granting


async def test_a_request_that_is_withdrawn_while_the_daemon_is_away_is_not_made_again(tmp_path: Path) -> None:
    async with Scripted(tmp_path / "s") as daemon, AsyncClient(daemon.path) as lmxd:
        lmxd._leases.held.add("l-1")
        task = asyncio.create_task(lmxd.request("a"))
        await daemon.asked("request")
        daemon.writer.close()
        renewing = await daemon.asked("renew")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        daemon.answer(renewing, lease="l-1")
        other = asyncio.create_task(lmxd.cancel(ticket="t-1"))
        daemon.answer(await daemon.asked("cancel"), ticket="t-1")
        assert (await other).ticket == "t-1"


async def test_a_lease_that_is_let_go_is_released_at_a_daemon_that_comes_back_too(tmp_path: Path) -> None:
    """The one that was told may have died before it read that."""
    async with Scripted(tmp_path / "s") as daemon, AsyncClient(daemon.path) as lmxd:
        task = asyncio.create_task(lmxd.request("a"))
        daemon.answer(await daemon.asked("request"), **GRANTED)
        lease = (await task).lease
        assert lmxd.held == {lease}
        lmxd.let_go(lease)
        assert not lmxd.held, "a daemon that comes back is not asked to keep it"
        told = await asyncio.wait_for(daemon.seen.get(), 10)
        assert told == {"jsonrpc": "2.0", "method": "lmxd.release", "params": {"lease": lease}}, "it wants no answer"
        daemon.writer.close()
        assert await asyncio.wait_for(daemon.seen.get(), 10) == told


def test_on_the_loop_that_the_gateway_runs_on_a_call_finds_the_daemon_again(tmp_path: Path) -> None:
    """uvloop raises when a closed connection is written to; asyncio says nothing."""

    async def hang_up_and_come_back() -> None:
        async with Scripted(tmp_path / "s") as daemon, AsyncClient(daemon.path) as lmxd:
            first = asyncio.create_task(lmxd.cancel(ticket="t-1"))
            await daemon.asked("cancel")
            daemon.writer.transport.abort()
            while lmxd._link.is_open:
                await turns(1)
            second = asyncio.create_task(lmxd.cancel(ticket="t-2"))
            for _ in range(2):
                daemon.answer(await daemon.asked("cancel"), ticket="t-1")
            assert (await first).ticket == (await second).ticket == "t-1"

    uvloop.run(hang_up_and_come_back())


def has_lasted(since: float, seconds: float) -> bool:
    return time.monotonic() - since > seconds


async def test_who_waits_long_is_not_lost_to_the_second_restart(tmp_path: Path) -> None:
    """Each time that the daemon is gone counts by itself."""
    async with Scripted(tmp_path / "s") as daemon, AsyncClient(daemon.path, patience=0.2) as lmxd:
        task = asyncio.create_task(lmxd.request("a"))
        for _ in range(3):
            await daemon.asked("request")
            await until(partial(has_lasted, time.monotonic(), 0.2))
            daemon.writer.close()
        await daemon.asked("request")
        assert not task.done()
        task.cancel()


def test_only_a_daemon_that_was_not_back_between_is_gone_since_the_first_time() -> None:
    now = time.monotonic()
    assert lost(now - 30, now - 2, patience=20) >= now, "restarts every few seconds are endured"
    with pytest.raises(ConnectionLost):
        lost(now - 30, now - 0.5, patience=20)
    assert lost(now - 10, now - 0.5, patience=20) == now - 10


async def test_a_daemon_that_hangs_up_on_every_call_is_not_asked_for_ever(tmp_path: Path) -> None:
    async with Scripted(tmp_path / "s") as daemon, AsyncClient(daemon.path, patience=0.5) as lmxd:
        task = asyncio.create_task(lmxd.cancel(ticket="t-1"))
        while not task.done():
            await asyncio.wait((task, asking := asyncio.create_task(daemon.seen.get())), return_when="FIRST_COMPLETED")
            asking.cancel()
            daemon.writer.close()
        with pytest.raises(LmxdError, match="closed the connection"):
            await task


async def test_an_error_without_an_id_is_the_answer_of_all_calls_that_wait(tmp_path: Path) -> None:
    """The daemon could not read one of them, or refuses the connection: no call waits for ever."""
    async with Scripted(tmp_path / "s") as daemon, AsyncClient(daemon.path) as lmxd:
        tasks = [asyncio.create_task(lmxd.status()) for _ in range(3)]
        for _ in tasks:
            await daemon.asked("status")
        error = {"code": -32000, "message": "uid 5 may not use lmxd", "data": {"code": "not_permitted"}}
        daemon.writer.write(json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode() + b"\n")
        for task in tasks:
            with pytest.raises(LmxdError, match="may not use lmxd") as refused:
                await asyncio.wait_for(task, 10)
            assert refused.value.code == "not_permitted"


@pytest.mark.parametrize("amount", [float("inf"), float("-inf"), float("nan"), object()])
async def test_what_json_cannot_say_is_refused_before_it_is_sent(tmp_path: Path, amount: Any) -> None:
    async with Scripted(tmp_path / "s") as daemon, AsyncClient(daemon.path) as lmxd:
        with pytest.raises(LmxdError, match="yield") as refused:
            await asyncio.wait_for(lmxd.yield_(2**30, lasts=amount), 10)
        assert refused.value.code == "invalid_params"
        with pytest.raises(LmxdError, match="more than") as refused:
            await asyncio.wait_for(lmxd.release("l" * 20_000), 10)
        assert refused.value.code == "invalid_params"
        with Client(daemon.path) as blocking, pytest.raises(LmxdError, match="yield"):
            blocking.yield_(2**30, lasts=amount)
        assert daemon.seen.empty()


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_both_clients_have_every_method_with_the_same_signature(method: Method) -> None:
    blocking, asynchronous = getattr(Client, method.attribute), getattr(AsyncClient, method.attribute)
    one, other = inspect.signature(blocking), inspect.signature(asynchronous)
    assert one.parameters == other.parameters
    assert one.return_annotation == other.return_annotation.replace("AsyncLease", "BlockingLease")
    assert inspect.iscoroutinefunction(asynchronous)
    assert not inspect.iscoroutinefunction(blocking)
    more = {"self", "on_progress"} if method.grants else {"self"}
    assert set(one.parameters) == set(method.params.model_fields) | more


@contextmanager
def crowded(path: Path) -> Iterator[socket.socket]:
    """A server to which as many have connected as may wait."""
    with ExitStack() as stack:
        server = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        server.bind(str(path))
        server.listen(0)
        refused = 0
        while refused == 0:
            other = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
            other.setblocking(False)
            refused = other.connect_ex(str(path))
        yield server


async def _blocking(path: Path) -> None:
    await asyncio.to_thread(lambda: Client(path).close())


async def _asynchronous(path: Path) -> None:
    async with AsyncClient(path):
        pass


async def _upstream(path: Path) -> None:
    said: dict[str, Any] = {
        "lease": "l",
        "instance": "a#1",
        "endpoint": "http://localhost",
        "socket": str(path),
        "api_key": "",
    }
    lease = Granted.model_construct(None, **said)
    (await exchange(lease, UpstreamCall(path="/"), KeptConnections())).close()


@pytest.mark.parametrize("connecting", [_blocking, _asynchronous, _upstream])
async def test_a_client_waits_where_too_many_connect(tmp_path: Path, connecting: Any) -> None:
    """As when somebody connects and closes without end: the kernel refuses whoever would not wait."""
    with crowded(tmp_path / "s") as server:
        task = asyncio.create_task(connecting(tmp_path / "s"))
        done, _ = await asyncio.wait([task], timeout=0.2)
        assert not done
        let_in = [await asyncio.to_thread(server.accept) for _ in range(2)]
        await asyncio.wait_for(task, 10)
        for sock, _ in let_in:
            sock.close()


async def test_a_client_that_is_not_let_in_says_so_in_time(tmp_path: Path) -> None:
    with crowded(tmp_path / "s"):
        with pytest.raises(BlockingIOError):
            await asyncio.to_thread(connect, tmp_path / "s", 0.1)
        with pytest.raises(BlockingIOError):
            await connect_soon(tmp_path / "s", 0.1)
