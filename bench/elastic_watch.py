"""What bench/elastic.py reads of lmxd while a trace runs: bytes over time, leases at once, growths and loads."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from background import Background
from lmxd_process import Lmxd

from lmxd.rpc.client import Client

EVERY = 0.1
"""Seconds between two looks."""


@dataclass(slots=True)
class Seen:
    """``byte_seconds``: charged, with those that end and are not seen free yet; ``most``: bytes at one time.

    ``leases``: the most at one time. ``growths``: seconds from each one's request until its lease had moved, and
    ``beyond_load``: those less the load of an instance that was started for it; ``stayed``: those that got more where
    they were. ``loads``: seconds from each start of an instance until something was granted on it, or carried to it.
    ``overdrawn``: looks at which more was charged than there is. ``decisions``: all of them, as ``lmxd.watch`` tells
    them.
    """

    byte_seconds: float = 0.0
    most: int = 0
    leases: int = 0
    looks: int = 0
    overdrawn: int = 0
    growths: list[float] = field(default_factory=list)
    beyond_load: list[float] = field(default_factory=list)
    stayed: int = 0
    carries: int = 0
    loads: list[float] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)


class Ledger(Background):
    """``with Ledger(lmxd) as seen``: looks ten times a second, and is told of every decision, until the block ends."""

    def __init__(self, running: Lmxd) -> None:
        super().__init__()
        self._running, self._begun = running, threading.Event()
        self.seen = Seen()
        self._starts: dict[Any, float] = {}
        """The instances that load -> the time of their start."""
        self._loaded_for: dict[Any, float] = {}
        """The leases that grow into an instance -> the seconds of its load."""
        self._at: dict[Any, Any] = {}
        """The leases -> their instances."""
        self._watched = 0
        """The daemon that tells of its decisions."""

    def __enter__(self) -> Seen:
        self.start()
        self._begun.wait(60)
        return self.seen

    def work(self) -> None:
        try:
            with Client(self._running.socket, on_notification=self._told) as client:
                self._look_on(client)
        finally:
            self._begun.set()

    def _look_on(self, client: Client) -> None:
        self._look(client, 0.0)
        last = time.monotonic()
        self._begun.set()
        while not self._over.wait(EVERY):
            now = time.monotonic()
            self._look(client, now - last)
            last = now

    def _look(self, client: Client, seconds: float) -> None:
        """``seconds``: since the last one."""
        if self._watched != self._running.process.pid:  # at first, and after lmxd was killed
            self._watched = self._running.process.pid
            client.watch()
        seen = self.seen
        devices = client.devices().devices
        charged = sum(device.charged + device.reclaiming for device in devices)
        seen.byte_seconds += charged * seconds
        seen.most = max(seen.most, charged)
        seen.leases = max(seen.leases, sum(len(instance.leases) for instance in client.instances().instances))
        seen.overdrawn += any(device.headroom < 0 for device in devices)
        seen.looks += 1

    def _told(self, _: str, said: dict[str, Any]) -> None:
        """Note a decision."""
        self.seen.decisions.append(said)
        event, instance, lease = (said.get(key) for key in ("event", "instance", "lease"))
        at = float(said["at"])
        if event == "StartInstance":
            self._starts[instance] = at
        elif event in ("GrantLease", "CarryConversation", "MoveLease") and instance in self._starts:
            load = at - self._starts.pop(instance)
            self.seen.loads.append(load)
            self._loaded_for[lease] = load
        if event == "CarryConversation":
            self.seen.carries += 1
        elif event == "MoveLease":
            self.seen.growths.append(said["waited"])
            self.seen.stayed += self._at.get(lease) == instance
            self.seen.beyond_load.append(said["waited"] - self._loaded_for.get(lease, 0.0))
        if event in ("GrantLease", "MoveLease"):
            self._at[lease] = instance
            self._loaded_for.pop(lease, None)
