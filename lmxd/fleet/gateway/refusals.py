"""Errors of nodes, as they came, and whether another node may be asked."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from msgspec import Struct

from lmxd.errors import EXIT_STATUS, LmxdError
from lmxd.fleet.finding.errors import Away, NodeRefusal
from lmxd.fleet.gateway.doors import DoorExchange
from lmxd.fleet.reading import read
from lmxd.gateway.answers.events import collected
from lmxd.gateway.http.http1 import Head

_OF_CLIENTS: Final = range(400, 500)
_CODES: Final = {403: "not_permitted", 404: "unknown_model", 429: "no_capacity", 502: "bad_answer", 503: "stopped"}
"""Statuses -> their code, where an API's errors have none."""
_TO_OPENAI: Final = {"model_not_found": "unknown_model"}
_LONGEST: Final = 2**20
"""Bytes of an error. Many requests at once may have one."""
_PATIENCE: Final = 10.0
"""Seconds for all of an error, once its head has come: one without end would keep its client for as long."""
_HANDED_ON: Final = frozenset(("content-type", "retry-after", "content-encoding", "date"))


class _Problem(Struct):
    message: str = ""
    code: Any = None


class _Said(Struct):
    error: _Problem | str | None = None


class NodeError(NodeRefusal):
    """The same as HTTP has it: ``body`` and ``headers`` are what a client of that API expects."""

    def __init__(self, node: str, head: Head, body: bytes) -> None:
        said = _said(body)
        code = _TO_OPENAI.get(str(said.code), str(said.code))
        if code not in EXIT_STATUS:
            code = _CODES.get(head.status, "invalid_params" if head.status in _OF_CLIENTS else "internal")
        message = said.message or f"node {node} answered with status {head.status}"
        super().__init__(node, head.status, LmxdError(code, message))
        self.body = body
        lines = (line.decode("latin-1").partition(":") for line in head.lines[1:])
        self.headers = {name: value.strip() for name, _, value in lines if name.lower() in _HANDED_ON}


async def refusal(node: str, answer: DoorExchange, head: Head, patience: float = _PATIENCE) -> NodeError:
    """The error that an answer is, which is closed then. ``patience``: seconds for all of it.

    Raises Away if it broke off, is too long, or does not end.
    """
    with contextlib.closing(answer):
        try:
            async with asyncio.timeout(patience):
                return NodeError(node, head, await collected(answer, head, _LONGEST))
        except TimeoutError as error:
            raise Away(node, f"its error did not end in {patience:g} s") from error


def _said(body: bytes) -> _Problem:
    try:
        found = read(body, _Said).error
    except ValueError:
        return _Problem()
    return found if isinstance(found, _Problem) else _Problem(message=found or "")
