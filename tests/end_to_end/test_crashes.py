"""SIGKILL at every step: the daemon dies at a named place, is started again, and has kept its promises.

One history per seed: whatever a daemon leaves when it dies at one place is taken over by the next, to die at another.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from house import fake_engine, model
from lmxd_process import Lmxd
from waiting import comes_about, wait_until

from lmxd.errors import LmxdError
from lmxd.failpoints import PLACES
from lmxd.instances import proc
from lmxd.instances.orphans import orphans
from lmxd.rpc.client import Client

OF_SLEEP = frozenset(("sleep_performed", "slept", "wake_performed", "woken"))
"""Places that only engines which sleep reach: test_sleep_crashes.py has some."""
OF_GROWTH = frozenset(("growth_asked", "growth_saved", "growth_restored", "growth_moved"))
OF_TURNS = frozenset(("conversation_put_by", "conversation_back"))
"""Places that only elastic contexts reach: test_growth_crashes.py has a real one."""
SEEDS = int(os.environ.get("LMXD_SEEDS", "5"))
PARTS = 2
STEPS = 60


class Dead(Exception):
    """The daemon is gone."""


def wal_header(log: Path) -> bytes:
    """Another one after each checkpoint."""
    try:
        with log.open("rb") as file:
            return file.read(32)
    except FileNotFoundError:
        return b""


@contextlib.contextmanager
def refusable() -> Iterator[None]:
    """A refusal is as good an answer as any; none at all is not."""
    try:
        yield
    except LmxdError as error:
        if error.code == "daemon_unavailable":
            raise


class History:
    """``leases``: acknowledged, and not given back. ``doubtful``: what became of them the daemon could not say."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.leases: dict[str, str] = {}
        self.doubtful: set[str] = set()
        self.lost: dict[str, str] = {}
        """Requests of which the answer was lost: idempotency key -> model."""
        for name in ("a", "b"):
            model(directory, name)
        self.lmxd = Lmxd(
            directory,
            {
                "gpu": {"device": "host", "max_memory_gb": 1},
                "engine": {"path": str(fake_engine(directory)), "stop_timeout": 2},
                "model_dir": str(directory),
                "admission_control": {"quantum_loads": 0.1},
                "models": {n: {"estimated_memory_gb": 0.3, "slots": 2} for n in ("a", "b")},
            },
        )

    # the daemon

    def begin(self, place: str | None) -> bool:
        """Start it; whether it came up. With a ``place``, it will die there."""
        lmxd = self.lmxd
        once = place is None or place == "leaving" or place.startswith("restore")
        nth = 1 if once else self.random.choice((1, 1, 2))
        lmxd.env = {k: v for k, v in lmxd.env.items() if k != "LMXD_FAILPOINT"}
        if place:
            lmxd.env["LMXD_FAILPOINT"] = f"{place}:kill@{nth}"
        lmxd.begin()
        wait_until(lambda: self.is_dead or self.answers())
        return not self.is_dead

    @property
    def is_dead(self) -> bool:
        return self.lmxd.process.poll() is not None

    def answers(self) -> bool:
        with contextlib.suppress(LmxdError), Client(self.lmxd.socket, patience=0) as client:
            return client.status().version != ""
        return False

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """Dead if the daemon dies meanwhile, or is dead already."""
        try:
            with Client(self.lmxd.socket, patience=0) as client:
                yield client
        except LmxdError as error:
            if error.code != "daemon_unavailable":
                raise
            raise Dead from error

    # what may happen

    def request(self) -> None:
        name, key, wait = self.random.choice("ab"), secrets.token_hex(8), self.random.choice((0.0, 0.0, 0.05))
        self.lost[key] = name
        try:
            with self.client() as client:
                granted = client.request(name, hold="explicit", wait=wait, idempotency_key=key)
                self.leases[granted.lease] = granted.instance
        except LmxdError as error:
            if error.code not in ("no_capacity", "wait_expired", "launch_failed", "stopped", "draining"):
                raise
        del self.lost[key]

    def _give_back(self, lease: str, call: Callable[[Client], object]) -> None:
        self.leases.pop(lease, None)
        self.doubtful.add(lease)
        with self.client() as client, refusable():
            call(client)
        self.doubtful.discard(lease)

    def release(self) -> None:
        if self.leases:
            lease = self.random.choice(sorted(self.leases))
            self._give_back(lease, lambda client: client.release(lease))

    def renew(self) -> None:
        if self.leases:
            with self.client() as client:
                client.renew(self.random.choice(sorted(self.leases)))

    def hold(self) -> None:
        """A lease of the connection, which ends with it."""
        with refusable(), self.client() as client:
            client.request(self.random.choice("ab"), wait=0.0)

    def _ends(self, instance: str) -> None:
        for lease in [x for x, where in self.leases.items() if where == instance]:
            self.doubtful.add(lease)
            del self.leases[lease]

    def stop(self) -> None:
        with self.client() as client:
            running = [i.instance for i in client.instances().instances if i.phase in ("ready", "starting")]
            if running:
                name = self.random.choice(running)
                self._ends(name)
                with refusable():
                    client.stop(name)

    def crash(self) -> None:
        """An engine dies."""
        with self.client() as client:
            running = [i for i in client.instances().instances if i.pid]
        if running:
            victim = self.random.choice(running)
            self._ends(victim.instance)
            assert victim.pid is not None
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
            self._wait_until_seen(victim.instance)

    def _wait_until_seen(self, instance: str) -> None:
        """Until then, leases are granted on it: they end with it, as those before."""

        def is_seen() -> bool:
            with self.client() as client:
                return all(i.phase == "reclaiming" for i in client.instances().instances if i.instance == instance)

        assert comes_about(is_seen, 20), f"{instance} is dead, and nobody noticed"

    def reload(self) -> None:
        with self.client() as client:
            client.reload()

    def drain(self) -> None:
        with self.client() as client:
            client.drain()
            client.drain(end=True)

    def rest(self) -> None:
        """Nobody wants anything: what was written is checkpointed."""
        log = self.lmxd.directory / "lmxd.sock.d/state/ledger.db-wal"
        before = wal_header(log)
        comes_about(lambda: self.is_dead or wal_header(log) != before, 1.0)
        with self.client() as client:
            client.status()

    def live(self, place: str) -> None:
        """Until it dies."""
        usual = [self.request] * 4 + [self.release] * 2 + [self.renew, self.hold, self.stop, self.crash]
        rare = {"reloading": self.reload, "draining": self.drain, "renewed": self.renew, "stop_performed": self.stop}
        rare |= dict.fromkeys(("checkpoint_begin", "checkpointed"), self.rest)
        for _ in range(STEPS):
            self.random.choice(usual)()
            if place in rare:
                rare[place]()
        if place == "leaving":
            self.lmxd.process.send_signal(signal.SIGTERM)
            self.lmxd.process.wait(10)
            raise Dead
        raise AssertionError(f"{place} was never reached")

    # what must hold

    def check(self) -> None:
        """The daemon is up again, and has kept its promises."""
        with self.client() as client:
            for key, name in self.lost.items():  # the answer is asked for again: once more is not twice
                with refusable():
                    granted = client.request(name, hold="explicit", wait=0.0, idempotency_key=key)
                    self.leases[granted.lease] = granted.instance
            self.lost.clear()
            comes_about(lambda: all(i.phase == "ready" for i in client.instances().instances), 5)
            found = client.instances().instances
            status = client.status()
        assert status.broken_invariants == []
        (device,) = status.devices
        assert device.charged + device.reclaiming <= 2**30, "the sum of all is within capacity"
        there = {x.lease: i.instance for i in found for x in i.leases if x.hold == "explicit"}
        assert self.leases.items() <= there.items(), "no acknowledged lease is lost"
        assert there.keys() <= self.leases.keys() | self.doubtful, "no lease is there that nobody was granted"
        for instance in found:
            assert sum(x.slots for x in instance.leases) <= instance.slots, "no slot is granted twice"
        running = {pid for pid in orphans(self.lmxd.directory / "lmxd.sock.d") if proc.lives(pid)}
        assert running == {i.pid for i in found}, "no server runs that is not in the ledger"
        self.leases = {name: instance for name, instance in there.items() if name is not None}
        self.doubtful.clear()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_step_it_dies_at_it_keeps_its_promises(tmp_path: Path, seed: int, part: int) -> None:
    history = History(tmp_path, seed)
    places = sorted(PLACES - OF_SLEEP - OF_GROWTH - OF_TURNS)
    history.random.shuffle(places)
    died = 0
    try:
        for place in places[part::PARTS]:
            if place.startswith("restore"):  # then there must be something to restore
                assert history.begin(None)
                history.check()
                history.request()
                history.lmxd.process.kill()
                history.lmxd.process.wait()
            if history.begin(place):
                with contextlib.suppress(Dead):
                    history.check()
                    history.live(place)
            assert history.lmxd.process.wait(20) == -signal.SIGKILL, f"it did not die at {place}"
            died += 1
        assert history.begin(None)
        history.check()
    finally:
        if history.lmxd.process.poll() is None:
            history.lmxd.stop()
    assert died == len(places[part::PARTS])
    assert "Traceback" not in history.lmxd.log.read_text(), "nothing went wrong on the way"
