"""Servers that say what a test has them say, and programs that are installed nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from lmxd.engines.engine import Endpoint


@contextlib.asynccontextmanager
async def engine(answer: bytes, asked: list[bytes] | None = None) -> AsyncIterator[Endpoint]:
    """A server that says this, whatever it is asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            if asked is not None:
                asked.append(head)
            writer.write(answer)
            await writer.drain()
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Endpoint(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", key="secret")


def installed(prefix: Path, *names: str, packages: str = "lib/python3.12/site-packages") -> Path:
    """A program in a virtual environment with the metadata of some distributions."""
    for name in names:
        (prefix / packages / f"{name}.dist-info").mkdir(parents=True)
    program = prefix / "bin/vllm"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!{prefix}/bin/python3\nimport sys\n")
    program.chmod(0o755)
    return program
