"""What the daemon promised survives its death: by SIGKILL, by SIGTERM, with its ledger damaged or gone."""

from __future__ import annotations

import http.client
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from forked import Forked, run
from gateway_process import Gateway
from house import model
from intruders import intruder, was_spoken_to
from lmxd_process import Lmxd, ask, lease_from, opened

from lmxd.errors import LmxdError
from lmxd.instances import proc
from lmxd.instances.orphans import orphans
from lmxd.instances.ports import at_port
from lmxd.rpc.client import Client
from lmxd.store import schema

Make = Callable[..., Lmxd]
KEPT = ("instance", "phase", "pid", "endpoint", "socket", "promised", "charged")
OF_DEVICES = ("id", "capacity", "margin", "charged", "reclaiming")


def kill(running: Lmxd) -> None:
    running.process.kill()
    running.process.wait()


def restart(running: Lmxd, env: dict[str, str] | None = None) -> Lmxd:
    kill(running)
    running.env = running.env | (env or {})
    return running.start()


def books(running: Lmxd) -> Any:
    """The ledger: per instance what is promised and charged, and to whom. What is measured of RAM is never still."""
    with running.client() as client:
        devices = [[getattr(d, key) for key in OF_DEVICES] for d in client.devices().devices]
        instances = [
            {key: getattr(i, key) for key in KEPT} | {"leases": sorted(str(x.lease) for x in i.leases)}
            for i in client.instances().instances
        ]
    return devices, sorted(instances, key=lambda i: i["instance"])


def tamper(running: Lmxd, statement: str) -> None:
    """Change the ledger behind the daemon's back."""
    with closing(sqlite3.connect(running.directory / "lmxd.sock.d/state/ledger.db", isolation_level=None)) as database:
        database.execute(statement)


@pytest.fixture
def running(fake: Make) -> Iterator[Lmxd]:
    with fake() as found:
        yield found


def test_after_sigkill_the_ledger_is_the_same_and_leases_stand(running: Lmxd) -> None:
    leases = [running.json("request", "m") for _ in range(3)]
    running.lmxctl("release", leases[2]["lease"])
    before = books(running)
    restart(running)
    assert books(running) == before
    assert running.json("touch", leases[0]["lease"])["lease"] == leases[0]["lease"]
    (alive,) = [i for i in before[1] if i["instance"] == leases[1]["instance"]]
    assert running.lmxctl("logs", alive["instance"]).stdout.startswith("started with")
    assert running.json("request", "m")["instance"] == leases[2]["instance"], "the idle one serves again"
    assert running.lmxctl("request", "--no-wait", "m").returncode == 75, "what is held is held"
    assert "3 of 3 instances adopted" in running.log.read_text()


def test_after_sigterm_what_runs_goes_on(running: Lmxd) -> None:
    lease = running.json("request", "m")
    before = books(running)
    assert running.stop(signal.SIGTERM) == 0
    assert list(orphans(running.directory / "lmxd.sock.d")) == [before[1][0]["pid"]]
    running.start()
    assert books(running) == before
    assert running.lmxctl("release", lease["lease"]).returncode == 0


def test_the_idle_clock_goes_on_from_where_it_was(fake: Make) -> None:
    """Not from the start of the instance, nor anew."""
    with fake() as running:
        lease = running.json("request", "m")
        running.until(lambda: running.instances()["m#1"].age > 1.0)
        running.lmxctl("release", lease["lease"])
        before = running.instances()["m#1"]
        restart(running)
        after = running.instances()["m#1"]
        assert before.idle <= after.idle <= after.age - 0.9


def test_a_stream_through_the_gateway_goes_on_and_so_does_its_lease(fake: Make, tmp_path: Path) -> None:
    with fake() as running:
        model(tmp_path, "m", token_seconds=0.05)
        with Gateway(running) as gateway, httpx.Client(base_url=gateway.url, timeout=30) as client:
            asked = {"model": "m", "stream": True, "max_tokens": 60}
            headers = {"Authorization": f"Bearer {gateway.key}"}
            with client.stream("POST", "/v1/chat/completions", headers=headers, json=asked) as answer:
                lines = answer.iter_lines()
                next(lines)
                restart(running)
                assert sum('"delta"' in line for line in lines) == 59
            assert client.post("/v1/chat/completions", headers=headers, json={"model": "m"}).status_code == 200
            assert list(running.instances()) == ["m#1"]


def test_who_waits_at_the_gateway_waits_on_when_the_daemon_is_back(fake: Make, tmp_path: Path) -> None:
    """It asks again, and nothing of what it had asked before is left."""
    with fake() as running:
        model(tmp_path, "m", token_seconds=0.05)
        with Gateway(running) as gateway, httpx.Client(base_url=gateway.url, timeout=30) as client:
            headers = {"Authorization": f"Bearer {gateway.key}"}
            asked = {"model": "m", "stream": True, "max_tokens": 10_000}
            statuses: list[int] = []

            def wait() -> None:
                found = httpx.post(f"{gateway.url}/v1/completions", headers=headers, json={"model": "m"}, timeout=30)
                statuses.append(found.status_code)

            def in_queue() -> list[str | None]:
                with running.client() as lmxd:
                    return [t.user for t in lmxd.queue().tickets]

            with client.stream("POST", "/v1/chat/completions", headers=headers, json=asked) as answer:
                lines = answer.iter_lines()
                while not next(lines).startswith("data:"):
                    pass
                waiting = [threading.Thread(target=wait) for _ in range(3)]
                for thread in waiting:
                    thread.start()
                running.until(lambda: in_queue() == ["user"] * 3)
                restart(running)
                running.until(lambda: in_queue() == ["user"] * 3)
            for thread in waiting:
                thread.join(30)
            assert statuses == [200] * 3
            running.until(lambda: not any(i.leases for i in running.instances().values()))
            assert in_queue() == []


def test_an_instance_id_is_never_given_twice(running: Lmxd) -> None:
    lease = running.json("request", "m")
    running.lmxctl("stop", "m#1")
    running.until(lambda: not running.instances())
    assert lease["instance"] == "m#1"
    restart(running)
    assert running.json("request", "m")["instance"] == "m#2"


def test_what_was_loading_is_ended(fake: Make, tmp_path: Path) -> None:
    with fake() as running:
        model(tmp_path, "m", load_seconds=30)
        with Forked(running.command("request", "m"), env=running.ctl_env, stderr=subprocess.PIPE, text=True) as waits:
            running.until(lambda: running.instances().get("m#1") and running.instances()["m#1"].pid)
            pid = running.instances()["m#1"].pid
            model(tmp_path, "m")
            restart(running)
            assert pid is not None
            assert not proc.lives(pid)
            assert waits.wait(30) == 0, f"who waited for it has asked again: {waits.communicate()}"
        assert list(running.instances()) == ["m#2"]


def test_what_died_meanwhile_is_given_back_and_its_lease_is_over(running: Lmxd) -> None:
    lease = running.json("request", "m")
    pid = running.instances()["m#1"].pid
    kill(running)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    running.start()
    assert running.json("devices")["devices"][0]["charged"] == 0
    gone = running.lmxctl("touch", lease["lease"])
    assert (gone.returncode, "instance_exited" in gone.stderr) == (64, True)


def test_a_process_that_only_has_the_pid_is_not_adopted(running: Lmxd) -> None:
    running.json("request", "m")
    kill(running)
    tamper(running, "UPDATE instances SET born = born + 1")
    running.start()
    assert running.instances() == {}
    assert orphans(running.directory / "lmxd.sock.d") == {}


def test_one_that_does_not_answer_is_ended(running: Lmxd) -> None:
    running.configure(running.config() | {"engine": {"path": running.config()["engine"]["path"], "stop_timeout": 1}})
    running.lmxctl("reload")
    running.json("request", "m")
    pid = running.instances()["m#1"].pid
    assert pid is not None
    kill(running)
    os.kill(pid, signal.SIGSTOP)
    running.start()
    running.until(lambda: running.instances() == {})
    assert not proc.lives(pid)


def test_rows_of_another_boot_go(running: Lmxd) -> None:
    running.json("request", "m")
    kill(running)
    tamper(running, "UPDATE meta SET value = 'another' WHERE id = 'boot'")
    running.start()
    assert running.instances() == {}
    assert orphans(running.directory / "lmxd.sock.d") == {}, "one of this boot that nobody knows is ended"
    assert running.json("request", "m")["instance"] == "m#2"


@pytest.mark.parametrize("how", ["damaged", "gone", "empty"])
def test_a_lost_ledger_is_rebuilt_from_the_processes(running: Lmxd, how: str) -> None:
    running.json("request", "m")
    lease = running.json("request", "m")
    before = books(running)
    kill(running)
    path = running.directory / "lmxd.sock.d/state/ledger.db"
    match how:
        case "damaged":
            path.write_bytes(b"SQLite format 3\0" + os.urandom(20_000))
        case "empty":
            path.write_bytes(b"")
        case "gone":
            path.unlink()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    running.start()
    devices, instances = books(running)
    assert devices == before[0], "every byte is accounted for"
    assert [i | {"leases": []} for i in before[1]] == instances
    (warning,) = [x for x in running.json("status")["warnings"] if "runs as root" not in x]
    assert "2 running instances were found, their leases are lost" in warning
    assert list(path.parent.glob("ledger.db.damaged-*")) if how == "damaged" else True
    assert running.lmxctl("touch", lease["lease"]).returncode == 64
    assert running.json("request", "m")["instance"] in ("m#1", "m#2")


@pytest.mark.parametrize("which", ["key_file", "socket"])
def test_a_forged_row_of_the_ledger_touches_no_file(running: Lmxd, tmp_path: Path, which: str) -> None:
    running.json("request", "m")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    kill(running)
    tamper(running, f"UPDATE instances SET start = json_set(start, '$.address.{which}', '{victim}')")
    running.start()
    assert running.instances() == {}
    assert victim.read_text() == "precious"
    assert "the row of 'm#1' is not taken: its " in running.log.read_text()
    assert orphans(running.directory / "lmxd.sock.d") == {}, "its process was ours, and is ended"


@pytest.mark.parametrize("what", ["nothing", "a link"])
def test_who_has_no_key_of_ours_is_nobody_to_talk_to(running: Lmxd, tmp_path: Path, what: str) -> None:
    """It may be anybody that answers, and prompts would be sent to it."""
    running.json("request", "m")
    key = running.directory / "lmxd.sock.d/m#1.key"
    kill(running)
    key.rename(tmp_path / "away")
    if what == "a link":
        key.symlink_to(tmp_path / "away")
    running.start()
    assert running.instances() == {}
    assert (tmp_path / "away").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes as another user")
def test_a_row_that_names_another_users_process_is_not_adopted(running: Lmxd) -> None:
    """Nor is that process ended."""
    running.json("request", "m")
    kill(running)
    other = subprocess.Popen(["/bin/sleep", "60"], user=65534, group=65534, extra_groups=(), start_new_session=True)
    try:
        tamper(running, f"UPDATE instances SET pid = {other.pid}, born = {proc.born(other.pid)}")
        running.start()
        assert running.instances() == {}
        assert f"pid {other.pid} is not taken over as 'm#1'" in running.log.read_text()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_ledger_of_a_newer_lmxd_is_left_alone(running: Lmxd) -> None:
    running.json("request", "m")
    kill(running)
    tamper(running, "PRAGMA user_version = 99")
    command = running.daemon_command()
    done = run(command, env=running.env)
    assert done.returncode == 78
    assert "was written by a newer lmxd (schema 99" in done.stderr
    assert orphans(running.directory / "lmxd.sock.d"), "nothing was touched"
    tamper(running, f"PRAGMA user_version = {schema.VERSION}")
    running.start()
    assert list(running.instances()) == ["m#1"]


def test_a_client_comes_back_to_its_lease(running: Lmxd) -> None:
    with running.client() as client:
        lease = client.request("m")
        restart(running)
        assert client.status().leases == 1
        assert client.renew(lease.lease).lease == lease.lease
    running.until(lambda: running.json("status")["leases"] == 0)


def test_lmxctl_run_keeps_its_lease_over_a_restart(running: Lmxd) -> None:
    command = running.command("run", "m", "--", "sh", "-c", "read x")
    with Forked(command, env=running.ctl_env, stdin=subprocess.PIPE) as work:
        running.until(lambda: running.json("status")["leases"] == 1)
        before = books(running)
        restart(running)
        running.until(lambda: [x.pid for x in running.instances()["m#1"].leases] == [work.pid])
        assert books(running) == before
        assert work.stdin is not None
        work.stdin.close()
        work.wait(10)
    running.until(lambda: running.json("status")["leases"] == 0)


def test_a_repeated_request_gets_the_lease_that_was_granted(running: Lmxd) -> None:
    """As if the answer had been lost with the daemon that gave it."""
    with running.client() as client:
        first = client.request("m", hold="explicit", idempotency_key="k")
        restart(running)
        again = client.request("m", hold="explicit", idempotency_key="k")
        assert (again.lease, again.api_key) == (first.lease, first.api_key)
        with pytest.raises(LmxdError, match="of another request"):
            client.request("m", ctx=512, hold="explicit", idempotency_key="k")
        assert client.request("m", hold="explicit", idempotency_key="j").lease != first.lease


class Rival:
    """Asks on a connection of its own, in a thread of its own, and gives back what it gets."""

    def __init__(self, running: Lmxd, key: str, served: list[str]) -> None:
        self._running, self._key, self._served = running, key, served
        self.told = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        assert self.told.wait(20)

    def _ask(self) -> None:
        with suppress(LmxdError), Client(self._running.socket, patience=0) as client:
            granted = client.request(
                "m", hold="explicit", idempotency_key=self._key, on_progress=lambda _: self.told.set()
            )
            self._served.append(self._key)
            client.release(granted.lease)

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


def test_who_waits_comes_back_to_the_place_it_had(fake: Make) -> None:
    with fake(models={"m": {"estimated_memory_gb": 0.6}}) as running:
        held = running.json("request", "m")
        served: list[str] = []
        before = [Rival(running, key, served) for key in ("first", "second", "third")]
        restart(running)
        for rival in before:
            rival.join()
        assert served == []
        after = [Rival(running, key, served) for key in ("newcomer", "third", "first", "second")]
        running.lmxctl("release", held["lease"])
        for rival in after:
            rival.join()
        assert served == ["first", "second", "third", "newcomer"]


def test_the_time_that_a_start_takes_is_known_after_a_restart(fake: Make, tmp_path: Path) -> None:
    with fake() as running:
        model(tmp_path, "m", load_seconds=4)
        lease = running.json("request", "m")
        running.lmxctl("stop", lease["instance"])
        running.until(lambda: not running.instances())
        assert running.stop(signal.SIGTERM) == 0
        running.start()
        expected: list[float | None] = []
        with running.client() as client:
            client.request("m", on_progress=lambda told: expected.append(told.eta))
        assert expected[0] is not None
        assert expected[0] > 3, "by its size alone it would be one second"


def test_the_exit_status_of_an_adopted_process_is_known(running: Lmxd) -> None:
    lease = running.json("request", "m")
    restart(running)
    with running.client() as client:
        client.watch()
        with pytest.raises(http.client.HTTPException), opened(lease_from(lease), "/fake/exit", b"7", 5):
            pass
        while (event := client.receive()["params"]).get("reason") != "instance_exited":
            pass
    assert "status 7" in event["detail"]


def test_an_instance_whose_port_became_anothers_meanwhile_is_not_spoken_to(fake: Make) -> None:
    with fake(models={"m": {"estimated_memory_gb": 0.3, "endpoint": "tcp"}}) as running:
        lease = running.json("request", "m")
        port, pid = int(lease["endpoint"].rpartition(":")[2]), running.instances()[lease["instance"]].pid
        running.process.kill()
        running.process.wait(10)
        os.kill(pid, signal.SIGUSR1)
        running.until(lambda: not at_port(port))
        with intruder(port) as listening:
            running.start()
            running.until(lambda: not running.instances())
            assert not was_spoken_to(listening)
        assert f"pid {os.getpid()} of uid {os.getuid()} listens on port {port}" in running.log.read_text()
        assert not proc.lives(pid)


def test_a_hold_and_its_process_are_taken_over(running: Lmxd) -> None:
    command = running.command("hold", "100M", "--", "sh", "-c", "read x")
    with Forked(command, env=running.ctl_env, stdin=subprocess.PIPE) as work:
        running.until(lambda: any(i.pid for i in running.instances().values()))
        before = books(running)
        restart(running)
        assert books(running) == before
        assert work.stdin is not None
        work.stdin.close()
        work.wait(10)
    running.until(lambda: not running.instances())


def test_a_yield_outlives_the_daemon(running: Lmxd) -> None:
    made = running.json("yield", "8G", "--for", "1h")  # more than what others here take meanwhile, which counts for it
    over = running.json("yield", "100M", "--for", "1s")
    restart(running)
    running.until(lambda: running.lmxctl("yield", "--end", over["id"]).returncode == 64)
    assert running.json("devices")["devices"][0]["yielded"] > 0
    assert running.lmxctl("yield", "--end", made["id"]).returncode == 0
    assert running.json("devices")["devices"][0]["yielded"] == 0


def test_a_stream_goes_on_while_the_daemon_dies_and_comes_back(lmxd: Make) -> None:
    """The real server, the real model: every byte of the answer arrives, and the ledger is the same to the byte."""
    with lmxd() as running:
        lease = running.json("request", "smollm2")
        body = {"prompt": "Once upon a time", "n_predict": 200, "stream": True, "ignore_eos": True, "temperature": 0}
        chunks: list[str] = []
        with opened(lease_from(lease), "/completion", body, 100) as answer:
            chunks += [answer.readline().decode() for _ in range(8)]
            before = books(running)[1]
            reading = threading.Thread(target=lambda: chunks.extend(line.decode() for line in answer))
            reading.start()
            restart(running)
            reading.join(100)  # a machine that is busy makes two tokens a second
        assert sum(c.startswith("data: ") for c in chunks) >= 200
        assert '"stop":true' in "".join(chunks)
        assert books(running)[1] == before
        assert "Paris" in ask(lease_from(lease))


def test_fifty_instances_are_taken_over_in_time(fake: Make, tmp_path: Path) -> None:
    models = {"m": {"estimated_memory_gb": 0.02}}
    with fake(models=models) as running:
        with running.client() as client:
            for _ in range(50):
                client.request("m", hold="explicit")
        before = books(running)
        kill(running)
        begun = time.monotonic()
        running.start()
        taken = time.monotonic() - begun
        assert books(running) == before
        assert taken < 20, "the bound of 5 s is bench/restart.py's to measure"
