"""Requests over HTTP to one front after the other, in rotating order, and what each took: for gateway_overhead.py."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop


@dataclass
class Front:
    """Where requests are sent: a port of this machine, or a Unix socket. ``pids``: whose CPU is counted, if any's."""

    name: str
    at: int | str
    key: str = ""
    prefix: str = ""
    pids: Sequence[int] = ()


@dataclass
class Load:
    """``body`` goes to ``path``, from so many clients at once; without one, the path is asked for."""

    name: str
    clients: int
    path: str
    body: Mapping[str, object] | None = None


@dataclass
class Measured:
    """``first``: seconds to the first byte of the body; ``cpu``: seconds of the front's processes in all."""

    seconds: float = 0.0
    whole: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    chunks: int = 0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.whole) / self.seconds


class Client:
    """One connection, that is opened anew where the other end closes it."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, path: str, body: bytes, into: Measured) -> None:
        front, begun = self._front, time.perf_counter()
        if self._writer is None or self._reader.at_eof():
            self._reader, self._writer = await self._connect()
        self._writer.write(
            f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {front.key}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        except asyncio.IncompleteReadError:
            self._writer = None  # it had been closed while nobody asked
            return await self.ask(path, body, into)
        assert head.startswith(b"http/1.1 200"), head + await self._reader.read(2000)
        if b"chunked" in head:
            await self._chunks(begun, into)
        else:
            length = next(int(x[15:]) for x in head.split(b"\r\n") if x.startswith(b"content-length:"))
            await self._reader.readexactly(length)
            into.first.append(time.perf_counter() - begun)
        into.whole.append(time.perf_counter() - begun)
        if b"connection: close" in head:
            self._writer.close()
            self._writer = None
        return None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        at = self._front.at
        if isinstance(at, str):
            return await asyncio.open_unix_connection(at, limit=2**20)
        return await asyncio.open_connection("127.0.0.1", at, limit=2**20)

    async def _chunks(self, begun: float, into: Measured) -> None:
        first = True
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            await self._reader.readexactly(size + 2)
            if first:
                into.first.append(time.perf_counter() - begun)
                first = False
            into.chunks += 1
        await self._reader.readexactly(2)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def cpu(front: Front) -> float:
    """Seconds so far of all its threads, as the scheduler counts them."""
    tasks = [task for pid in front.pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(_nanoseconds(task / "schedstat") for task in tasks) / 1e9


def _nanoseconds(schedstat: Path) -> int:
    """Of one thread; 0 if it has just ended."""
    try:
        return int(schedstat.read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0


async def load(front: Front, wanted: Load, seconds: float, into: Measured) -> None:
    body, path = json.dumps(wanted.body).encode() if wanted.body is not None else b"", front.prefix + wanted.path
    end = time.perf_counter() + seconds

    async def one() -> None:
        client = Client(front)
        while time.perf_counter() < end:
            await client.ask(path, body, into)
        client.close()

    begun, before = time.perf_counter(), cpu(front)
    await asyncio.gather(*(one() for _ in range(wanted.clients)))
    into.seconds += time.perf_counter() - begun
    into.cpu += cpu(front) - before


def compare(fronts: Sequence[Front], loads: Sequence[Load], rounds: int, seconds: float) -> None:
    """Each load on all fronts, each round in another order. All are compared with the first of ``fronts``."""
    for wanted in loads:
        found = {front.name: Measured() for front in fronts}
        for front in fronts:
            uvloop.run(load(front, wanted, min(0.3, seconds), Measured()))  # what is done once is done by then
        for number in range(rounds):
            turn = number % len(fronts)
            for front in (*fronts[turn:], *fronts[:turn]):
                uvloop.run(load(front, wanted, seconds, found[front.name]))
        show(wanted, fronts, found)


def show(wanted: Load, fronts: Sequence[Front], found: Mapping[str, Measured]) -> None:
    base = found[fronts[0].name]
    columns = ("req/s", "of first", "chunks/s", "p50 ms", "added", "p99 ms", "CPU us/req")
    print(f"\n{wanted.name}, {wanted.clients} client{'s' * (wanted.clients > 1)}")
    print(f"  {'':18}{''.join(f'{column:>11}' for column in columns)}")
    for front in fronts:
        x = found[front.name]
        p50, p99 = (statistics.quantiles(x.first, n=100)[n] * 1000 for n in (49, 98))
        added = p50 - statistics.median(base.first) * 1000
        used = f"{x.cpu / len(x.whole) * 1e6:.0f}" if front.pids else "-"
        figures = (f"{x.rate:.0f}", f"{x.rate / base.rate:.2f}", f"{x.chunks / x.seconds:.0f}")
        times = (f"{p50:.2f}", f"{added:.2f}", f"{p99:.2f}", used)
        print(f"  {front.name:18}{''.join(f'{figure:>11}' for figure in (*figures, *times))}", flush=True)
