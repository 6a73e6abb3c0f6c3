"""The gateway as a process: how it begins, what it refuses, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from forked import Forked, run
from gateway_process import Gateway
from house import model
from lmxd_process import Lmxd

CERTIFICATE = Path(__file__).parent.parent / "gateway/certificates/first.pem"
Make = Callable[..., Lmxd]


@pytest.fixture
def lmxd(fake: Make) -> Iterator[Lmxd]:
    with fake() as running:
        yield running


def begun(lmxd: Lmxd, **settings: Any) -> subprocess.CompletedProcess[str]:
    """A gateway that is expected not to come up."""
    gateway = Gateway(lmxd)
    config = json.loads(gateway.config.read_text())
    config["gateway"] |= settings
    gateway.config.write_text(json.dumps(config))
    return run(gateway.command("gateway"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"listen": None}, "gateway.listen is not set"),
        ({"listen": "0.0.0.0"}, "gateway.listen is '0.0.0.0'"),
        ({"listen": "0.0.0.0:80", "keys_file": None, "anonymous": True}, "0.0.0.0:80 is for other machines, too"),
        ({"keys_file": None}, "give a keys_file"),
        ({"keys_file": "/nowhere/keys"}, "gateway.keys_file /nowhere/keys: No such file"),
        ({"instances": 0}, "gateway.instances is 0"),
    ],
)
def test_what_it_cannot_begin_with_is_named(fake: Make, settings: dict[str, Any], words: str) -> None:
    done = begun(fake(), **settings)
    assert done.returncode == 78
    assert words in done.stderr


def test_an_address_that_is_taken_or_nowhere(lmxd: Lmxd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = begun(lmxd, listen=f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 78
    assert "in use" in done.stderr
    done = begun(lmxd, listen="unix:/nowhere/x.sock")
    assert done.returncode == 78
    assert "gateway.listen unix:/nowhere/x.sock: No such file" in done.stderr


def test_a_daemon_that_is_not_there(fake: Make) -> None:
    lmxd = fake()
    done = begun(lmxd)
    assert done.returncode == 69
    assert "does not answer" in done.stderr


def test_a_unix_socket_is_for_its_group(lmxd: Lmxd, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    gateway = Gateway(lmxd, listen=f"unix:{path}", anonymous=True)
    process = Forked(gateway.command("gateway"))
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://lmxd") as client:
            lmxd.until(lambda: answers(client))
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert [m["id"] for m in client.get("/v1/models").json()["data"]] == ["m"]
    finally:
        process.terminate()
        assert process.wait(20) == 0


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_keys_that_are_added_or_removed_count_at_once_whatever_else_is_in_the_file(lmxd: Lmxd) -> None:
    with Gateway(lmxd) as gateway, httpx.Client(base_url=gateway.url) as client:

        def status(key: str) -> int:
            return client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code

        new = gateway.lmxd_command("key", "new")
        assert status(new) == 200
        keys = lmxd.directory / "keys"
        keys.write_text("nonsense\n" + "".join(x for x in keys.read_text().splitlines(True) if "new" not in x))
        assert (status(new), status(gateway.key)) == (401, 200)
        lmxd.until(lambda: "line 1 is no key: nonsense" in gateway.log.read_text())
        keys.unlink()
        gateway.process.send_signal(signal.SIGHUP)  # also without a request
        lmxd.until(lambda: "no key is in force" in gateway.log.read_text())
        assert status(gateway.key) == 401


def test_it_lets_streams_end_before_it_does(lmxd: Lmxd) -> None:
    model(lmxd.directory, "m", token_seconds=0.05)
    text: list[str] = []
    with Gateway(lmxd) as gateway:
        headers = {"Authorization": f"Bearer {gateway.key}"}
        asked = {"model": "m", "stream": True, "max_tokens": 40}

        def read(began: threading.Event) -> None:
            with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", headers=headers, json=asked) as answer:
                for line in answer.iter_lines():
                    text.append(line)
                    began.set()

        began = threading.Event()
        reading = threading.Thread(target=read, args=(began,))
        reading.start()
        assert began.wait(20)
        gateway.process.terminate()
        assert gateway.process.wait(20) == 0
        reading.join()
    assert sum('"delta"' in line for line in text) == 40
    lmxd.until(lambda: not any(i.leases for i in lmxd.instances().values()))


def test_its_end_ends_its_leases(lmxd: Lmxd) -> None:
    model(lmxd.directory, "m", token_seconds=0.05)
    with Gateway(lmxd) as gateway:
        asked = {"model": "m", "stream": True, "max_tokens": 10_000}
        headers = {"Authorization": f"Bearer {gateway.key}"}
        with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", headers=headers, json=asked) as answer:
            lines = answer.iter_lines()
            while not next(lines).startswith("data:"):
                pass
            [lease] = [x for i in lmxd.instances().values() for x in i.leases]
            assert lease.user == "user"
            assert f"{lease.lease} (key user)" in lmxd.lmxctl("ps").stdout
            os.kill(gateway.process.pid, signal.SIGKILL)
            lmxd.until(lambda: not any(i.leases for i in lmxd.instances().values()))
        assert list(lmxd.instances()) == ["m#1"], "what ran goes on, for the next"


def test_an_old_key_of_its_configuration_is_said_to_have_no_effect(lmxd: Lmxd) -> None:
    with Gateway(lmxd, linger=600) as gateway:
        assert "gateway.linger has no effect any more" in gateway.log.read_text()


def test_a_private_key_that_everybody_can_read_is_said_when_it_begins(lmxd: Lmxd) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        pem = shutil.copy(CERTIFICATE, directory)
        for mode, warnings in ((0o644, 1), (0o640, 0)):
            os.chmod(pem, mode)
            done = begun(lmxd, tls_cert=str(pem), keys_file="/nowhere/keys")
            assert done.stderr.count(f"gateway.tls_cert {pem}: every user of this machine can read") == warnings


def test_a_key_needs_a_file_to_be_in(lmxd: Lmxd) -> None:
    done = run([*Gateway(lmxd).command()[:3], "--config", str(lmxd.config_path), "key", "me"])
    assert done.returncode == 78
    assert "gateway.keys_file is not set" in done.stderr


def test_idle_connections_beyond_its_descriptors_keep_nobody_out(lmxd: Lmxd) -> None:
    """It answered nobody, and said nothing."""
    gateway = Gateway(lmxd)
    gateway.prefix = ["prlimit", "--nofile=256:256"]
    with gateway, contextlib.ExitStack() as stack:
        for n in range(600):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost:" if n % 2 else b"")
        assert httpx.get(f"{gateway.url}/health", timeout=20).status_code == 200
        known = httpx.get(f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {gateway.key}"}, timeout=20)
        assert known.status_code == 200
    assert gateway.log.read_text().count("had sent no key") == 1
