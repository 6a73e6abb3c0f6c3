"""The socket as strangers use it: raw lines, nonsense, floods, half-closed ends; and who they are."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from house import House
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import until

from lmxd.errors import LmxdError
from lmxd.rpc import budgets, framing, outgoing, server
from lmxd.rpc.messages import Logs, Params, Released, Result
from lmxd.rpc.methods import METHODS
from lmxd.rpc.notifications import LeaseEnded
from lmxd.rpc.peer import Peer, peer_of

SECTIONS: dict[str, Any] = {
    "gpu": {"device": "host", "max_memory_gb": 1},
    "models": {"a": {"estimated_memory_gb": 0.4}, "b": {"estimated_memory_gb": 0.9}},
}


class Raw:
    """A connection that sends what it likes."""

    def __init__(self, house: House) -> None:
        self.house = house

    async def __aenter__(self) -> Raw:
        self.reader, self.writer = await asyncio.open_unix_connection(self.house.where.socket, limit=2**22)
        assert isinstance(self.writer.transport, asyncio.Transport)
        self.transport = self.writer.transport
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def send(self, data: bytes | dict[str, Any]) -> None:
        self.writer.write(data if isinstance(data, bytes) else json.dumps(data).encode() + b"\n")

    async def receive(self) -> dict[str, Any]:
        line = await asyncio.wait_for(self.reader.readline(), 10)
        assert line, "the connection was closed"
        message: dict[str, Any] = json.loads(line)
        return message

    async def ask(self, method: str, id: int = 1, **params: Any) -> dict[str, Any]:
        self.send({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        return await self.receive()


async def test_status_from_a_raw_line_with_and_without_prefix(tmp_path: Path) -> None:
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw:
        for method in ("status", "lmxd.status"):
            answer = await raw.ask(method, id=7)
            assert answer["id"] == 7
            assert answer["result"]["devices"][0]["id"] == "host"


async def test_a_socat_one_liner(tmp_path: Path) -> None:
    """The client shuts its sending half at the end of its input and still gets its answer."""
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw:
        raw.send({"jsonrpc": "2.0", "id": 1, "method": "request", "params": {"model": "a"}})
        raw.writer.write_eof()
        while "result" not in (answer := await raw.receive()):
            assert answer["method"] == "lmxd.progress"
        assert answer["result"]["instance"] == "a#1"
        raw.writer.close()
        await h.until(lambda: not list(h.state.leases))


async def test_socat_itself(tmp_path: Path) -> None:
    if shutil.which("socat") is None:
        pytest.skip("socat is not installed")
    async with House(tmp_path, **SECTIONS).open() as h:
        process = await asyncio.create_subprocess_exec(
            "socat", "-", f"UNIX-CONNECT:{h.where.socket}", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate(b'{"jsonrpc":"2.0","id":1,"method":"status"}\n')
        assert json.loads(out)["result"]["version"]


async def test_describe_is_json_schema_of_everything(tmp_path: Path) -> None:
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw:
        found = (await raw.ask("describe"))["result"]
        assert set(found["methods"]) == {f"lmxd.{name}" for name in METHODS}
        assert found["methods"]["lmxd.request"]["params"]["properties"]["model"]


async def test_hello_agrees_on_a_protocol_or_says_why_not(tmp_path: Path) -> None:
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw:
        assert (await raw.ask("hello", protocol="1.7"))["result"]["protocol"] == "1.0"
        assert "2.0" in (await raw.ask("hello", protocol="2.0"))["error"]["message"]


WRONG: list[tuple[str, dict[str, Any], int, str]] = [
    ("frobnicate", {}, framing.METHOD_NOT_FOUND, "there is no method 'frobnicate'"),
    ("request", {}, framing.INVALID_PARAMS, "model: missing"),
    ("request", {"model": "a", "contxt": 5}, framing.INVALID_PARAMS, "contxt: unknown parameter"),
    ("request", {"model": "a", "ctx": -1}, framing.INVALID_PARAMS, "ctx is -1"),
    ("request", {"model": "a", "ctx": "many"}, framing.INVALID_PARAMS, "ctx is 'many'"),
    ("request", {"model": "a", "hold": "tight"}, framing.INVALID_PARAMS, "hold is 'tight'"),
    ("request", {"model": "a", "wait": -3}, framing.INVALID_PARAMS, "wait is -3"),
    ("request", {"model": "a", "ttl": 5}, framing.REFUSED, "ttl is 5, but hold is connection"),
    ("request", {"model": "zzz"}, framing.REFUSED, "there is no model 'zzz'"),
    ("request", {"model": "a", "ctx": 10**6}, framing.REFUSED, "trained for 32768 tokens"),
    ("request", {"model": "../../etc/passwd"}, framing.REFUSED, "there is no model"),
    ("release", {"lease": "l-nope"}, framing.REFUSED, "there is no lease l-nope"),
    ("renew", {"lease": "l-nope"}, framing.REFUSED, "there is no lease l-nope"),
    ("cancel", {"ticket": "t-nope"}, framing.REFUSED, "there is no request t-nope"),
    ("stop", {"instance": "a#9"}, framing.REFUSED, "there is no instance a#9"),
    ("logs", {"instance": "../../../etc/passwd"}, framing.REFUSED, "there is no instance"),
    ("logs", {"instance": "a#9", "lines": 10**9}, framing.INVALID_PARAMS, "lines is"),
]


async def test_wrong_calls_are_answered_with_what_is_wrong(tmp_path: Path) -> None:
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw:
        for method, params, code, message in WRONG:
            error = (await raw.ask(method, **params))["error"]
            assert error["code"] == code, (method, params)
            assert message in error["message"], (method, params)
            assert error["data"]["code"]
        assert h.phases() == {}


async def test_a_malformed_line_does_not_end_the_connection(tmp_path: Path) -> None:
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw:
        raw.send(b"hello?\n")
        assert (await raw.receive())["error"]["code"] == framing.PARSE_ERROR
        assert (await raw.ask("status"))["result"]


async def test_a_frame_beyond_the_limit_ends_it(tmp_path: Path) -> None:
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw:
        raw.send(b"x" * (framing.MAX_FRAME + 100))
        assert (await raw.receive())["error"]["code"] == framing.INVALID_REQUEST
        assert await raw.reader.read() == b""
        await h.until(lambda: not h.daemon.listener.connections)


async def test_a_release_that_wants_no_answer_is_written_with_what_comes_next(tmp_path: Path) -> None:
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw:
        raw.send({"jsonrpc": "2.0", "id": 1, "method": "request", "params": {"model": "a"}})
        while "result" not in (granted := await raw.receive()):
            pass
        lease = granted["result"]["lease"]
        raw.send({"jsonrpc": "2.0", "method": "release", "params": {"lease": lease}})
        assert (await raw.ask("instances", id=2))["result"]["instances"][0]["leases"] == []
        raw.send({"jsonrpc": "2.0", "method": "release", "params": {"lease": lease}})
        ended = await raw.ask("release", id=3, lease=lease)
        assert (ended["id"], ended["error"]["data"]["code"]) == (3, "lease_ended")
        await h.until(lambda: not h.saved().leases)


class Busy:
    """A service at which every call takes until it is let go."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[Result]] = []
        self.most = 0

    async def call(self, connection: server.Connection, call: framing.Call, params: Params) -> Result:
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.calls.append(done)
        self.most = max(self.most, sum(not x.done() for x in self.calls))
        return await done

    async def identify(self, peer: Peer) -> Peer:
        return peer

    def is_privileged(self, peer: Peer) -> bool:
        return False

    def keeps(self, connection: server.Connection) -> bool:
        return False

    def left(self, connection: server.Connection) -> None:
        pass

    def has(self, count: int) -> bool:
        return len(self.calls) >= count

    def answer(self, number: int) -> None:
        self.calls[number].set_result(Released(lease=str(number)))


@pytest.mark.parametrize(("method", "most"), [("status", server.MAX_IN_FLIGHT), ("request", server.MAX_ON_THEIR_WAY)])
async def test_so_many_calls_are_worked_on_at_once_and_the_others_in_turn(
    tmp_path: Path, method: str, most: int
) -> None:
    service, count = Busy(), most + 5
    listening = await asyncio.get_running_loop().create_unix_server(server.Listener(service), tmp_path / "s")
    async with listening:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        for id in range(count):
            params = {"model": "a"} if method == "request" else {}
            writer.write(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode() + b"\n")
        writer.write_eof()
        answered = []
        for number in range(count):
            await until(partial(service.has, min(count, most + number)))
            service.answer(number)
            answered.append(json.loads(await reader.readline())["id"])
        assert answered == list(range(count))
        assert service.most == most
        assert await reader.read() == b"", "it had shut its end down, and all is said"
        writer.close()


async def test_requests_that_wait_are_bounded_by_the_queue(tmp_path: Path) -> None:
    """And none of them keeps a connection's other calls from being answered."""
    depth = server.MAX_ON_THEIR_WAY + 50
    async with House(tmp_path, admission_control={"queue_depth": depth}, **SECTIONS).open() as h, Raw(h) as raw:
        for id in range(depth + 10):
            raw.send({"jsonrpc": "2.0", "id": id, "method": "request", "params": {"model": "b", "exclusive": True}})
        raw.send({"jsonrpc": "2.0", "id": "last", "method": "queue"})
        said: dict[Any, Any] = {}
        while "last" not in said or len(said) < 11:
            answer = await raw.receive()
            if "id" in answer:
                said[answer["id"]] = answer
        refused = {id for id, x in said.items() if "error" in x and x["error"]["data"]["code"] == "queue_full"}
        assert len(refused) == 9, "one has the room, and as many as it has places the queue"
        assert len(h.state.queue) == depth


async def test_a_request_is_withdrawn_by_the_id_of_its_call(tmp_path: Path) -> None:
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw, h.client() as other:
        await other.request("b")
        raw.send({"jsonrpc": "2.0", "id": 7, "method": "request", "params": {"model": "b", "exclusive": True}})
        assert (await raw.receive())["params"]["request"] == 7
        raw.send({"jsonrpc": "2.0", "id": 8, "method": "cancel", "params": {"request": 7}})
        first, second = await raw.receive(), await raw.receive()
        assert (first["id"], first["error"]["data"]["code"]) == (7, "cancelled")
        assert (second["id"], second["result"]["request"]) == (8, 7)
        assert not h.state.tickets
        again = await raw.ask("cancel", request=7)
        assert again["error"]["data"]["code"] == "unknown_ticket"
        unclear: list[dict[str, Any]] = [{}, {"request": 7, "ticket": "t"}]
        for neither in unclear:
            assert "either" in (await raw.ask("cancel", **neither))["error"]["message"]


async def test_too_many_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "MAX_CONNECTIONS_PER_UID", 2)
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as one, Raw(h) as two:
        assert (await one.ask("status"))["result"]
        assert (await two.ask("status"))["result"]
        async with Raw(h) as third:
            assert (await third.receive())["error"]["data"]["code"] == "too_many"
        two.writer.close()
        await h.until(lambda: len(h.daemon.listener.connections) == 1)
        async with Raw(h) as third:
            assert (await third.ask("status"))["result"]


def flood(raw: Raw) -> None:
    """Many calls with long answers, of which none is read."""
    raw.transport.pause_reading()
    for id in range(100):
        raw.send({"jsonrpc": "2.0", "id": id, "method": "describe"})


async def test_who_does_not_read_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "PATIENCE", 0.1)
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw:
        assert (await raw.ask("status"))["result"]
        flood(raw)
        await h.until(lambda: not h.daemon.listener.connections)


async def test_who_leaves_too_much_unread_is_cut_off_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MOST_UNREAD", outgoing.MAX_UNREAD)
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw:
        assert (await raw.ask("watch"))["result"]
        [connection] = h.daemon.listener.connections.values()
        raw.transport.pause_reading()
        long = LeaseEnded(lease="l-1", instance="a#1", reason="expired", detail="x" * 1000)

        def has_left() -> bool:
            connection.notify(long)
            return not h.daemon.listener.connections

        await h.until(has_left, outgoing.PATIENCE / 2)


async def test_one_long_answer_is_not_too_much_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of tens of thousands is longer than what a client may leave unread of earlier answers."""
    monkeypatch.setattr(outgoing, "MOST_UNREAD", outgoing.MAX_UNREAD)
    long = Logs(instance="a#1", lines=["x" * 1000] * (128 * outgoing.MAX_UNREAD // 1000))

    async def answer(*_: object) -> Logs:
        return long

    async with House(tmp_path, **SECTIONS).open() as h, h.client() as lmxd:
        monkeypatch.setattr(h.daemon.listener.service, "call", answer)
        assert await lmxd.logs("a#1") == long


async def test_who_reads_late_is_answered_all_the_same(tmp_path: Path) -> None:
    """Its calls wait meanwhile: what it has not read stays within bounds."""
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw:
        assert (await raw.ask("status"))["result"]
        [connection] = h.daemon.listener.connections.values()
        flood(raw)
        await h.until(lambda: connection.waiting > 0 and not connection.calls())
        raw.transport.resume_reading()
        assert [(await raw.receive())["id"] for _ in range(100)] == list(range(100))


async def test_watchers_see_what_is_decided_and_no_keys(tmp_path: Path) -> None:
    async with House(tmp_path, **SECTIONS).open() as h, Raw(h) as raw, h.client() as lmxd:
        await raw.ask("watch")
        lease = await lmxd.request("a")
        await lease.release()
        seen = [await raw.receive() for _ in range(4)]
        names = [x["params"]["event"] for x in seen]
        assert names == ["StartInstance", "ReportProgress", "GrantLease", "EndLease"]
        assert lease.api_key not in json.dumps(seen)


async def test_identity_is_what_the_kernel_says(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert set(os.getgroups()) <= peer.groups


async def test_what_belongs_to_another_user_is_not_permitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with House(tmp_path, **SECTIONS).open() as h, h.client() as owner, Raw(h) as raw:
        lease = await owner.request("a", hold="explicit")
        assert (await raw.ask("status"))["result"]
        mallory = max(h.daemon.listener.connections.values(), key=lambda c: c.id)
        monkeypatch.setattr(mallory, "peer", mallory.peer.__class__(1, 4711, 4711, frozenset({4711})))
        calls: list[tuple[str, dict[str, Any]]] = [
            ("release", {"lease": lease.lease}),
            ("renew", {"lease": lease.lease}),
            ("stop", {"instance": lease.instance}),
            ("logs", {"instance": lease.instance}),
            ("reload", {}),
        ]
        for method, params in calls:
            assert (await raw.ask(method, **params))["error"]["data"]["code"] == "not_permitted", method
        await owner.release(lease.lease)


@pytest.fixture(scope="module")
def loop_and_house(tmp_path_factory: pytest.TempPathFactory) -> Any:
    loop = asyncio.new_event_loop()
    house = House(tmp_path_factory.mktemp("fuzz"), **SECTIONS)
    opened = house.open()
    loop.run_until_complete(opened.__aenter__())
    yield loop, house
    loop.run_until_complete(opened.__aexit__(None, None, None))
    loop.close()


frames = st.binary(max_size=300) | st.builds(
    lambda method, params, id: json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode(),
    st.sampled_from([*METHODS, "lmxd.", "", "x"]).filter(lambda name: name not in ("reload", "watch")),
    st.dictionaries(
        st.sampled_from(["model", "ctx", "slots", "wait", "hold", "ttl", "lease", "ticket", "instance", "lines"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=20),
        max_size=4,
    ),
    st.none() | st.integers() | st.text(max_size=5),
)


@given(lines=st.lists(frames, max_size=10), cut=st.integers(1, 64))
@settings(max_examples=examples(120), suppress_health_check=list(HealthCheck))
def test_nothing_that_is_sent_makes_it_fail(loop_and_house: Any, lines: list[bytes], cut: int) -> None:
    """Any bytes in any pieces: the server answers the next one, and nothing is logged as its own failure."""
    loop, house = loop_and_house

    async def attack() -> None:
        async with Raw(house) as raw:
            stream = b"".join(line + b"\n" for line in lines)
            for start in range(0, len(stream), cut):
                raw.send(stream[start : start + cut])
                await raw.writer.drain()
            raw.send({"jsonrpc": "2.0", "id": "the end", "method": "queue"})
            while (answer := await raw.receive()).get("id") != "the end":
                assert answer.get("error", {}).get("code") != framing.INTERNAL_ERROR, answer

    loop.run_until_complete(attack())


async def test_a_daemon_that_is_not_there_is_named(tmp_path: Path) -> None:
    from lmxd.rpc.client import AsyncClient, Client

    with pytest.raises(LmxdError, match="does not answer") as caught:
        Client(tmp_path / "none.sock")
    assert caught.value.code == "daemon_unavailable"
    with pytest.raises(LmxdError, match="does not answer"):
        async with AsyncClient(tmp_path / "none.sock"):
            pass
