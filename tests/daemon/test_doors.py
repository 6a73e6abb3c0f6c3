"""Attacks on instances' endpoints: somebody else listens there, or keeps them busy by doing nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from house import House, http
from intruders import intruder, was_spoken_to
from waiting import until

from lmxd.core.words import InstanceId
from lmxd.daemon.launching.doors import admit
from lmxd.daemon.places import GROUP
from lmxd.errors import LmxdError
from lmxd.instances.ports import at_port
from lmxd.rpc.messages import Granted

ENGINE = Path(__file__).parent.parent / "fake_open_engine.py"
FAKES = Path(__file__).parent.parent / "fake_servers.py"
NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root makes processes and files of others")


def house(place: Path, address: str = "127.0.0.1", run: str = "exec {}", **sections: Any) -> House:
    """An lmxd with one model, run by an engine without a key on a port. ``run``: how its script starts it."""
    script = place / "engine"
    script.write_text("#!/bin/sh\n" + run.format(f'{sys.executable} -S {ENGINE} {address} "$1" {place}') + "\n")
    script.chmod(0o755)
    model = {"command": [str(script), "{port}"], "open": True, "estimated_memory_gb": 0.1}
    return House(place, gpu={"device": "host", "max_memory_gb": 1}, models={"m": model}, **sections)


def ports(place: Path) -> list[int]:
    """The ports that engines were told, in order."""
    return [int(line) for line in (place / "ports").read_text().split()] if (place / "ports").exists() else []


def pid_of(h: House, lease: Granted) -> int:
    pid = h.daemon.performer.pid(InstanceId(lease.instance))
    assert pid is not None
    return pid


async def test_a_port_that_somebody_took_first_is_left_to_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent there, not even a question for its health, and the launch takes another port."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        asked = asyncio.create_task(lmxd.request("m"))
        await until(lambda: ports(tmp_path))
        with caplog.at_level(logging.WARNING), intruder(ports(tmp_path)[0]) as listening:
            (tmp_path / "go").touch()
            lease = await asked
            assert not was_spoken_to(listening)
        assert lease.endpoint == f"http://127.0.0.1:{ports(tmp_path)[-1]}"
        assert ports(tmp_path)[-1] != ports(tmp_path)[0]
        assert (await http(lease, "/health")).text == "ok"
        found = f"pid {os.getpid()} of uid {os.getuid()} listens on port {ports(tmp_path)[0]} of 127.0.0.1"
        assert found in caplog.text


@contextlib.contextmanager
def another_user() -> Iterator[subprocess.Popen[str]]:
    """A process of nobody's that listens on every port that it is told, and answers whoever asks."""
    script = f"""
import os, sys, threading
from http.server import HTTPServer, BaseHTTPRequestHandler
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        print("was asked", flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
"".encode("idna")  # of the library that nobody cannot read
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
for line in sys.stdin:
    threading.Thread(target=HTTPServer(("127.0.0.1", int(line)), Handler).serve_forever, daemon=True).start()
    print("took", flush=True)
"""
    words = [sys.executable, "-S", "-c", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@as_root
async def test_another_user_who_takes_every_port_is_named_and_told_nothing(tmp_path: Path) -> None:
    """It answers as an engine would: today it was sent the key, and then the prompts of the holders."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        asked = asyncio.create_task(lmxd.request("m"))
        with another_user() as stranger:
            assert stranger.stdin is not None
            for number in range(3):
                await until(partial(_has_started, tmp_path, number))
                print(ports(tmp_path)[number], file=stranger.stdin, flush=True)
            with pytest.raises(LmxdError) as refused:
                await asked
            stranger.stdin.close()
            assert stranger.stdout is not None
            assert stranger.stdout.read().split("\n") == ["took", "took", "took", ""]
        assert refused.value.code == "launch_failed"
        assert refused.value.data["failure"]["code"] == "endpoint_taken"
        assert f"pid {stranger.pid} of uid {NOBODY} listens on port {ports(tmp_path)[2]}" in refused.value.message
        assert len(ports(tmp_path)) == 3


def _has_started(place: Path, number: int) -> bool:
    return len(ports(place)) > number


@pytest.mark.parametrize("engine", ["llama.cpp", "command"])
async def test_an_instance_whose_port_became_anothers_is_ended_and_never_spoken_to(tmp_path: Path, engine: str) -> None:
    """It lives and no longer listens: its port is anybody's, and its key would be theirs."""
    (tmp_path / "go").touch()
    here = house(tmp_path)
    if engine == "llama.cpp":
        here.write(models={"m": {"endpoint": "tcp", "estimated_memory_gb": 0.1, "path": "a.gguf"}})
        (tmp_path / "a.gguf").write_bytes(b"GGUF" + bytes(100))
    ended: list[dict[str, Any]] = []
    async with here.open() as h, h.client(on_notification=lambda _, params: ended.append(params)) as lmxd:
        lease = await lmxd.request("m")
        os.kill(pid_of(h, lease), signal.SIGUSR1)
        port = int(lease.endpoint.rpartition(":")[2])
        with contextlib.ExitStack() as stack:
            await until(lambda: not at_port(port))
            listening = stack.enter_context(intruder(port))
            h.daemon.launches.check(InstanceId(lease.instance))
            await until(lambda: ended)
            assert not was_spoken_to(listening)
        assert f"of uid {os.getuid()} listens on port {port}" in ended[0]["detail"]
        await h.until(lambda: not h.phases())


@pytest.mark.parametrize("address", ["::1", "127.0.0.2"])
async def test_who_listens_elsewhere_on_the_port_ends_nothing(tmp_path: Path, address: str) -> None:
    """Nobody who asks 127.0.0.1 reaches them: else every user could end every instance."""
    (tmp_path / "go").touch()
    ended: list[dict[str, Any]] = []
    here = house(tmp_path, idle_timeout=1)
    async with here.open() as h, h.client(on_notification=lambda _, params: ended.append(params)) as lmxd:
        lease = await lmxd.request("m", hold="explicit")
        with intruder(int(lease.endpoint.rpartition(":")[2]), address):
            h.daemon.launches.check(InstanceId(lease.instance))
            assert (await http(lease, "/health")).text == "ok"
            await until(lambda: ended)
        assert ended[0]["detail"] == "no request for 1 s"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "127.0.0.1"])
@pytest.mark.parametrize("run", ["exec {}", "{} & wait"])
async def test_a_child_of_the_instance_may_listen_on_any_address(tmp_path: Path, address: str, run: str) -> None:
    (tmp_path / "go").touch()
    async with house(tmp_path, address, run).open() as h, h.client() as lmxd:
        assert (await http(await lmxd.request("m"), "/health")).text == "ok"


async def test_a_connection_that_asks_for_nothing_keeps_nothing_busy(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    async with house(tmp_path, idle_timeout=0.5).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        with socket.create_connection(("127.0.0.1", int(lease.endpoint.rpartition(":")[2]))):
            await lmxd.release(lease.lease)
            await h.until(lambda: not h.phases())


async def test_a_question_that_waits_for_its_answer_is_work(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    async with house(tmp_path, idle_timeout=0.5).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        instance = h.state.instances[lease.instance]
        with socket.create_connection(("127.0.0.1", int(lease.endpoint.rpartition(":")[2]))) as asking:
            asking.sendall(b"GET /x HTTP/1.1\r\n")
            await h.until(lambda: instance.busy)
        await h.until(lambda: not instance.busy)


async def test_who_is_merely_connected_keeps_nothing_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with a byte on a port, sent again and again, and not with a silent connection to a socket."""
    monkeypatch.setattr("lmxd.core.instances.GUESS_LASTS", 1.0)
    (tmp_path / "go").touch()
    async with house(tmp_path, idle_timeout=0.5).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        instance = h.state.instances[lease.instance]
        with socket.create_connection(("127.0.0.1", int(lease.endpoint.rpartition(":")[2]))) as outsider:
            outsider.sendall(b"G")
            await h.until(lambda: instance.busy)
            await lmxd.release(lease.lease)
            await h.until(lambda: not h.phases())


async def test_a_former_holder_keeps_no_socket_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmxd.core.instances.GUESS_LASTS", 1.0)
    script = tmp_path / "engine"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -S {FAKES} vllm serve m --uds "$1" $2\n')
    script.chmod(0o755)
    flags = "--gpu-memory-utilization 0.1 --max-model-len 1 --served-model-name m"
    served = {"command": [str(script), "{socket}", flags], "estimated_memory_gb": 0.1}
    here = House(tmp_path, gpu={"device": "host", "max_memory_gb": 1}, models={"m": served}, idle_timeout=0.5)
    async with here.open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        instance = h.state.instances[lease.instance]
        with socket.socket(socket.AF_UNIX) as former:
            former.connect(str(lease.socket))
            await h.until(lambda: instance.busy)
            await lmxd.release(lease.lease)
            await h.until(lambda: not h.phases())


async def test_a_look_that_fails_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of open files /proc cannot be listed. The instance counts as busy until it can be."""
    (tmp_path / "go").touch()
    async with house(tmp_path, idle_timeout=0.5).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        failed: list[int] = []

        def fails(port: int) -> Any:
            failed.append(port)
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patched:
            patched.setattr("lmxd.daemon.launching.doors.at_port", fails)
            await lmxd.release(lease.lease)
            await until(lambda: len(failed) > 2)
            h.daemon.launches.check(InstanceId(lease.instance))
            await h.until(lambda: h.state.instances[lease.instance].busy)
        await h.until(lambda: not h.phases())


def connects_as(uid: int, path: Path) -> bool:
    """Whether a process of a user's can connect, from inside of the directory, in whatever group that is."""
    script = f"""
import os, socket, sys
os.setgroups([{path.parent.stat().st_gid}]); os.setgid(os.stat(".").st_gid); os.setuid({uid})
try:
    socket.socket(socket.AF_UNIX).connect("{path.name}")
except PermissionError:
    sys.exit(13)
"""
    status = subprocess.run([sys.executable, "-S", "-c", script], cwd=path.parent).returncode
    assert status in (0, 13)
    return status == 0


@as_root
def test_a_socket_is_for_holders_alone(tmp_path: Path) -> None:
    """A member of the group without a lease could hold everybody up with half a request each."""
    path, holder, member = tmp_path / "s", NOBODY, NOBODY - 1
    os.chown(tmp_path, -1, NOBODY)
    tmp_path.chmod(0o750)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        path.chmod(0o666)  # as uvicorn does
        admit(path)
        assert not connects_as(holder, path)
        admit(path, [holder, 4])
        assert connects_as(holder, path)
        assert not connects_as(member, path)
        admit(path, [4])
        assert not connects_as(holder, path)


MEMBER = """
import json, os, pwd, socket, sys
user = pwd.getpwnam("daemon")
os.setgroups([int(sys.argv[1])]); os.setgid(user.pw_gid); os.setuid(user.pw_uid)
lmxd = socket.socket(socket.AF_UNIX)
lmxd.connect("s")
def call(method, **params):
    lmxd.sendall(json.dumps({"jsonrpc": "2.0", "id": method, "method": method, "params": params}).encode() + b"\\n")
    for line in lmxd.makefile():
        if "result" in (answer := json.loads(line)):
            return answer["result"]
def connects():
    try:
        socket.socket(socket.AF_UNIX).connect("s.d/m#1/s.sock")
    except PermissionError:
        return "refused"
    return "connected"
print(connects())
lease = call("lmxd.request", model="m")
print(connects())
call("lmxd.release", lease=lease["lease"])
print(connects())
"""


@as_root
@pytest.mark.skipif(GROUP not in {group.gr_name for group in grp.getgrall()}, reason="there is no group lmxd")
async def test_a_lease_opens_the_socket_and_its_end_closes_it(tmp_path: Path) -> None:
    """Also the key that a released lease had is of no use then."""
    here = House(tmp_path, gpu={"device": "host"}, models={"m": {"slots": 2}}, engine={"user": "root"})
    here.where = replace(here.where, shared=True)
    tmp_path.chmod(0o755)
    async with here.open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        assert lease.socket is not None
        members = grp.getgrnam(GROUP).gr_gid
        os.chown(h.where.socket, -1, members)
        h.where.socket.chmod(0o660)
        words = [sys.executable, "-S", "-c", MEMBER, str(members)]
        member = await asyncio.create_subprocess_exec(*words, cwd=tmp_path, stdout=subprocess.PIPE)
        said, _ = await member.communicate()
        assert said.decode().split() == ["refused", "connected", "refused"]
        assert (await http(lease, "/health")).status == 200


def test_nothing_is_opened_but_a_socket(tmp_path: Path) -> None:
    """An engine may put anything there: a link to a file of ours does not open that."""
    secret = tmp_path / "secret"
    secret.touch(0o600)
    (tmp_path / "link").symlink_to(secret)
    for name in ("secret", "link"):
        with pytest.raises(OSError, match="is no socket"):
            admit(tmp_path / name, [NOBODY])
    assert secret.stat().st_mode & 0o777 == 0o600
