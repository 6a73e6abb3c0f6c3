"""A hub of models on loopback, which speaks the API that huggingface_hub asks: listings, redirects, ranges."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class LoopbackHub:
    """``files``: ORG/REPO/NAME -> content. ``sizes``: of those whose end is a hole. Files lie at a second host."""

    files: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    breaks_after: int | None = None
    """Bytes after which the next file that is sent breaks off."""
    sent: int = 0
    """Bytes of files that were sent."""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """(method, path, headers) of each request."""
    url: str = ""
    storage: str = ""

    def size(self, name: str) -> int:
        return self.sizes.get(name, len(self.files[name]))

    def add(self, name: str, content: bytes, size: int | None = None) -> None:
        """``size``: with a hole at its end, as a model that nobody would fetch in a test."""
        self.files[name] = content
        if size is not None:
            self.sizes[name] = size

    def listing(self, repository: str) -> dict[str, Any]:
        siblings = []
        for name, content in sorted(self.files.items()):
            if name.startswith(f"{repository}/"):
                digest = self.checksums.get(name, hashlib.sha256(content).hexdigest())
                size = self.size(name)
                lfs = {"size": size, "sha256": digest, "pointerSize": 134}
                siblings.append(
                    {"rfilename": name.removeprefix(f"{repository}/"), "size": size, "blobId": "b", "lfs": lfs}
                )
        return {"id": repository, "modelId": repository, "sha": _REVISION, "siblings": siblings, "private": False}


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        """Nothing is logged."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.asked.append((self.command, path, dict(self.headers)))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.*)?", path):
            found = hub.listing(match[1])
            if match[1] in hub.gated and "Authorization" not in self.headers:
                self._say(401, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
            elif found["siblings"]:
                self._say(200, found, {})
            else:
                self._say(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._resolve(f"{match[1]}/{match[2]}")
        elif path.startswith("/storage/"):
            self._send(path.removeprefix("/storage/"), body=body)
        else:
            self._say(404, {"error": "not found"}, {})

    def _resolve(self, name: str) -> None:
        if name not in self.hub.files:
            self._say(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        digest = self.hub.checksums.get(name, hashlib.sha256(self.hub.files[name]).hexdigest())
        headers = {
            "Location": f"{self.hub.storage}/storage/{name}",
            "X-Repo-Commit": _REVISION,
            "X-Linked-Size": str(self.hub.size(name)),
            "X-Linked-Etag": f'"{digest}"',
        }
        self._say(302, {}, headers)

    def _say(self, status: int, what: Any, headers: dict[str, str]) -> None:
        data = json.dumps(what).encode()
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _send(self, name: str, *, body: bool) -> None:
        hub, size = self.hub, self.hub.size(name)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(match[1]) if match else 0
        last = min(int(match[2]) if match and match[2] else size - 1, size - 1)
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{name}"')
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if not body:
            return
        content = hub.files[name][first : last + 1].ljust(min(last - first + 1, 2**26), b"\0")
        if hub.breaks_after is not None:
            content, hub.breaks_after = content[: hub.breaks_after], None
            self.close_connection = True
        hub.sent += len(content)
        self.wfile.write(content)


@contextmanager
def running() -> Iterator[LoopbackHub]:
    """A hub, and the host that its files lie at."""
    hub = LoopbackHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()
