"""A llama-server that computes nothing: it answers as fast as Python can, for measuring what stands in front of it.

It takes llama-server's command line as far as lmxd uses it. POST anything: a small JSON object; with "stream", so many
"chunks" of an event stream, with a "pause" of seconds before each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from fake_llama_server import HELP

EVENT = (
    b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"id":"chatcmpl-1","object":"chat.completion.chunk"}\n\n'
)
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
SMALL = b'{"choices":[{"message":{"role":"assistant","content":"x"}}],"object":"chat.completion"}'
METRICS = b"llamacpp:requests_processing 0\nllamacpp:requests_deferred 0\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = next((int(x[15:]) for x in head.split(b"\r\n") if x.startswith(b"content-length:")), 0)
            body = json.loads(await reader.readexactly(length)) if length else {}
            if body.get("stream"):
                await stream(writer, body)
            else:
                answer = METRICS if head.startswith(b"get /metrics") else SMALL
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
            if b"connection: close" in head:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def stream(writer: asyncio.StreamWriter, body: dict[str, float]) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(int(body.get("chunks", 50))):
        writer.write(CHUNK)
        await asyncio.sleep(body.get("pause", 0))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


async def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--host", "--port"):
        parser.add_argument(name)
    given, _ = parser.parse_known_args()
    if given.host.endswith(".sock"):
        server = await asyncio.start_unix_server(serve, given.host, backlog=1024)
    else:
        server = await asyncio.start_server(serve, given.host, int(given.port), backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    if "--help" in sys.argv:
        print(HELP)
    elif "--version" in sys.argv:
        print("version: 1 (fast)")
    else:
        uvloop.run(main())
