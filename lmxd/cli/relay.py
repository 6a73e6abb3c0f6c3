"""The endpoint of a lease whose context is elastic: it stays where it is, though the lease moves to a larger instance.

The environment of a program cannot change once it runs. So it is given the address of a relay, which lmxctl serves in a
thread as long as it runs.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmxd.errors import LmxdError
from lmxd.rpc.messages import Granted

if TYPE_CHECKING:
    from lmxd.gateway.leasing.one_lease import OneLease

_LONGEST: Final = 78
"""Bytes of a directory for the relay's own: the path of a socket has 107, of which 29 are below it."""


class Relay:
    """A relay to one lease. ``lease``: as a program is to have it, from when it has begun.

    ``daemon``: the socket of lmxd. ``wait``: seconds that a growth may wait in the queue.
    """

    def __init__(self, daemon: Path, lease: Granted, wait: float | None) -> None:
        self.lease = lease
        self._daemon = daemon
        self._wait = wait
        self._ready: Future[Granted] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="relay", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._leases: OneLease
        self._ended: asyncio.Event

    def begin(self) -> None:
        """LmxdError if there is no place to listen at."""
        self._thread.start()
        self.lease = self._ready.result()

    def end(self) -> None:
        with suppress(RuntimeError):  # its loop has ended already
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def moved(self, lease: Granted) -> None:
        """The lease is elsewhere from now on."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._leases.moved, lease)

    async def _serve(self) -> None:
        # Here, since all that lmxctl does else starts sooner without a web server.
        from lmxd.gateway.leasing.one_lease import OneLease
        from lmxd.gateway.relaying import relay

        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        try:
            with tempfile.TemporaryDirectory(prefix="lmxd-run-", dir=_place()) as directory:
                self._leases = OneLease(self._daemon, self.lease)
                async with self._leases, relay(self._leases, self.lease, Path(directory), self._wait) as own:
                    self._ready.set_result(own)
                    await self._ended.wait()
        except Exception as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)


def _place() -> str:
    """A directory for that of the socket. LmxdError ``config`` if the paths of all are too long for one."""
    places = [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir()]
    for place in places:
        if place.startswith("/") and len(os.fsencode(place)) <= _LONGEST and os.access(place, os.W_OK):
            return place
    what = f"TMPDIR is {places[-1]!r}, which is too long for the path of a socket"
    raise LmxdError("config", what, f"name a directory of at most {_LONGEST} bytes")


@contextmanager
def followed(daemon: Path, lease: Granted, wait: float | None) -> Iterator[Relay | None]:
    """A relay to a lease that may move, as long as the block lasts. None for one that stays where it is."""
    if lease.ctx_most is None:
        yield None
        return
    relay = Relay(daemon, lease, wait)
    relay.begin()
    try:
        yield relay
    finally:
        relay.end()
