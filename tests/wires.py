"""Connections between boxes that can be bad: nothing passes, or what passes is late."""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import suppress
from typing import Any, Final, Self

_CHUNK: Final = 65536


class Wire:
    """``with Wire("127.0.0.1:4222") as wire``: what connects to ``wire.address`` is connected to there.

    While it is ``held`` nothing passes, and no connection ends, as between boxes that are cut off from each other; what
    was said meanwhile comes after. ``lose``: of the pieces at random, by a seed, so many come late, as ones that TCP
    sends again.
    """

    def __init__(self, target: str, *, seed: int = 0) -> None:
        self._target, self._random = target, random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._share, self._late = 0.0, 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(20)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    def hold(self) -> None:
        """Let nothing pass."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def mend(self) -> None:
        """Let everything pass, at once."""
        self._share = 0.0
        self._loop.call_soon_threadsafe(self._open.set)

    def lose(self, share: float, late: float = 0.2) -> None:
        """Have a share of the pieces come ``late`` by so many seconds."""
        self._share, self._late = share, late

    async def _begin(self) -> None:
        self._open.set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[Any] | None = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await self._open.wait()
        host, _, port = self._target.rpartition(":")
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            for each in (writer, back):
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pieces from one end to the other, until either is gone."""
        with suppress(OSError):
            while piece := await reader.read(_CHUNK):
                if self._random.random() < self._share:
                    await asyncio.sleep(self._late)
                await self._open.wait()
                writer.write(piece)
                await writer.drain()
        await self._open.wait()
        with suppress(OSError, RuntimeError):
            writer.write_eof()
