"""A daemon that says whatever it is told to, of the right shape: each text in its answers is the same one."""

from __future__ import annotations

import json
import socketserver
import threading
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from lmxd.rpc.methods import METHODS
from lmxd.rpc.notifications import NOTIFICATIONS, Notification


def shaped(kind: Any, text: str, *, sparse: bool = False) -> Any:
    """A value of a type, with ``text`` wherever one may be. ``sparse``: without all that may be missing."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return inner[-1]
    if origin in (typing.Union, types.UnionType):
        return None if sparse and types.NoneType in inner else shaped(inner[0], text, sparse=sparse)
    if origin is typing.Annotated:
        return shaped(inner[0], text, sparse=sparse)
    if origin is tuple and ... not in inner:
        return [shaped(each, text, sparse=sparse) for each in inner]
    if origin in (list, tuple, set, frozenset):
        return [shaped(inner[0], text, sparse=sparse)]
    if origin is dict:
        return {text: shaped(inner[1], text, sparse=sparse)}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: shaped(field.annotation, text, sparse=sparse) for name, field in kind.model_fields.items()}
    return {str: text, int: 3, float: 3.0, bool: True}.get(kind, text)


class Puppet:
    """``failing``: every call is refused, in the same words. ``sparse``: answers lack what may be missing."""

    def __init__(self, path: Path, text: str, *, failing: bool = False, sparse: bool = False) -> None:
        self.path = path
        self.text = text
        self.failing = failing
        self.sparse = sparse

    @contextmanager
    def open(self) -> Iterator[None]:
        puppet = self

        class Talk(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with suppress(ConnectionError):  # a command that knows enough does not stay for the rest
                    for line in self.rfile:
                        for message in puppet.answers(json.loads(line)):
                            self.wfile.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            block_on_close = False

        with Server(str(self.path), Talk) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            try:
                yield
            finally:
                server.shutdown()

    def answers(self, call: dict[str, Any]) -> Iterator[dict[str, Any]]:
        id, method = call["id"], METHODS[call["method"].removeprefix("lmxd.")]
        if method.grants:
            params = shaped(NOTIFICATIONS[Notification.PROGRESS], self.text) | {"request": id, "loaded": None}
            yield {"method": Notification.PROGRESS, "params": params}
        if self.failing:
            failure = {"code": self.text, "log": [self.text]}
            short = {"device": self.text, "need": 1, "have": 1}
            short |= {"holders": [{"name": self.text, "bytes": 1, "phase": self.text}]}
            data = {"code": "never_fits", "remedy": self.text, "failure": failure, "shortfalls": [short]}
            yield {"id": id, "error": {"code": -32000, "message": self.text, "data": data}}
            return
        yield {"id": id, "result": shaped(method.result, self.text, sparse=self.sparse)}
        if method.grants:
            for name in (Notification.YIELD, Notification.LEASE_ENDED):
                yield {"method": name, "params": shaped(NOTIFICATIONS[name], self.text)}
