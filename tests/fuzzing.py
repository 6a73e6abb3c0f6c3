"""Calls and requests at random: valid ones, nearly valid ones, and what no client would send. Seeded, so repeatable."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from lmxd.rpc.methods import METHODS

TEXTS = (
    "",
    " ",
    "m",
    "M",
    "m:latest",
    "alias",
    "host",
    "m#1",
    "hold#1",
    "../../etc/passwd",
    "/etc/passwd",
    "a\nb",
    "\r\nX: y",
    "\x1b[2J",
    "\x00",
    "\u2028",
    "\u0085",
    "\ud800",
    "{}",
    "%s%s%n",
    "{0.__class__}",
    "<script>",
    "ß" * 300,
    "x" * 5000,
)
NUMBERS = (
    0,
    1,
    -1,
    2,
    4,
    60,
    127,
    2**31 - 1,
    2**31,
    2**32,
    2**53 + 1,
    2**63,
    -(2**63),
    10**30,
    0.5,
    -0.0,
    1e308,
    5e-324,
)
ODD: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"a": {"b": {}}}, [None] * 50)
HEADERS = (
    "Host: 127.0.0.1",
    "Host: localhost:{port}",
    "Host: [::1",
    "Host: evil.example",
    "Origin: http://evil.example",
    "Origin: null",
    "Sec-Fetch-Site: cross-site",
    "Authorization: Bearer \xff",
    "Authorization: Basic eDp5",
    "X-Api-Key: \x01",
    "Prefer: wait=0",
    "Prefer: wait=99999999999",
    "Content-Type: text/plain",
    "Content-Encoding: gzip",
    "Content-Encoding: deflate",
    "Transfer-Encoding: chunked",
    "Content-Length: 5",
    "Content-Length: -5",
    "Expect: 100-continue",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Range: bytes=0-1",
    "Accept: \x7f",
    "Cookie: " + "a" * 3000,
)
FIELDS = (
    "model name messages prompt stream options num_ctx n max_tokens temperature stop tools images input keep_alive "
    "raw suffix system format think instance device pinned bytes timeout id content role"
).split()


class Fuzzer:
    """Makes calls and requests. ``known``: texts that mean something by now, such as leases."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.known: list[str] = list(TEXTS)

    def learn(self, text: str) -> None:
        """Remember an id that was answered. The oldest are forgotten."""
        self.known.append(text)
        if len(self.known) > 200:
            del self.known[len(TEXTS)]

    def value(self, depth: int = 2) -> Any:
        kind = self.rng.random()
        if kind < 0.45:
            return self.rng.choice(self.known)
        if kind < 0.75:
            return self.rng.choice(NUMBERS)
        if kind < 0.9 or not depth:
            return self.rng.choice(ODD)
        if kind < 0.95:
            return [self.value(depth - 1) for _ in range(self.rng.randrange(4))]
        return {self.rng.choice(FIELDS): self.value(depth - 1) for _ in range(self.rng.randrange(4))}

    def params(self, name: str) -> dict[str, Any]:
        """Parameters of a method: what it requires, and some of the rest."""
        found = {}
        for key, field in METHODS[name].params.model_fields.items():
            if field.is_required() or self.rng.random() < 0.25:
                found[key] = self._field(field.annotation)
        if self.rng.random() < 0.05:
            found[self.rng.choice(FIELDS)] = self.value()
        return found

    def _field(self, annotation: Any) -> Any:
        if self.rng.random() < 0.3:
            return self.value()
        wanted = str(annotation)
        if "int" in wanted or "float" in wanted:
            return self.rng.choice((1, 2, 60, 512, 4096, 0.5, 2**20))
        if "bool" in wanted:
            return self.rng.random() < 0.5
        return self.rng.choice(("m", "m#1", "host", "connection", "ttl", "explicit", *self.known[len(TEXTS) :]))

    def frame(self, number: int) -> bytes:
        """One line for the socket; most are calls."""
        name = self.rng.choice(list(METHODS))
        call: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": f"lmxd.{name}", "params": self.params(name)}
        if self.rng.random() < 0.1:
            call[self.rng.choice(("jsonrpc", "id", "method", "params"))] = self.value()
        line = json.dumps(call).encode()
        kind = self.rng.random()
        if kind < 0.03:
            return bytes(self.rng.randbytes(self.rng.randrange(200))).replace(b"\n", b"") + b"\n"
        if kind < 0.05:
            return line[: self.rng.randrange(len(line))] + b"\n"
        if kind < 0.06:
            return b'{"jsonrpc":"2.0","id":1e400,"method":"lmxd.yield","params":{"device":"host","bytes":1e400}}\n'
        return line + b"\n"

    def request(self, routes: Sequence[tuple[str, str]], port: int, keys: Sequence[str]) -> bytes:
        """One HTTP request as bytes, whole or not."""
        method, path = self.rng.choice(routes)
        if self.rng.random() < 0.1:
            method = self.rng.choice(
                ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "get", "\x7f")
            )
        for place in ("{model}", "{tail:.*}", "{path:.*}", "{name}", "{lease}", "{id}"):
            path = path.replace(place, self._segment())
        body = self._body()
        lines = [f"{method} {path} HTTP/{self.rng.choice(('1.1', '1.1', '1.1', '1.0', '2.0', '1'))}"]
        if self.rng.random() < 0.9:
            lines.append(f"Host: 127.0.0.1:{port}")
        if self.rng.random() < 0.7:
            lines.append(f"Authorization: Bearer {self.rng.choice(keys)}")
        if self.rng.random() < 0.9:
            lines.append(f"Content-Length: {len(body)}")
        lines += [h.format(port=port) for h in self.rng.sample(HEADERS, self.rng.choice((0, 0, 0, 1, 2)))]
        if self.rng.random() < 0.8:
            lines.append("Connection: close")
        whole = "\r\n".join((*lines, "", "")).encode("latin-1", "replace") + body
        return whole if self.rng.random() < 0.93 else whole[: self.rng.randrange(len(whole))]

    def _segment(self) -> str:
        return self.rng.choice(
            ("m", "nobody", "%0a", "..%2f..", "%ff", "m/health", "m/slots/0?action=save", "alias", "%u")
        )

    def _body(self) -> bytes:
        if self.rng.random() < 0.1:
            return self.rng.choice((b"", b"[" * 4000, b"\xff\xfe", b'{"model":', b"null", b'"m"', b"{}" * 9))
        said: dict[str, Any] = {"model": "m"} if self.rng.random() < 0.8 else {}
        if self.rng.random() < 0.5:
            said |= {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        said |= {self.rng.choice(FIELDS): self.value() for _ in range(self.rng.randrange(4))}
        return json.dumps(said).encode()
