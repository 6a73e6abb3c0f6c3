"""The requests of late, for the dashboard: when, for which model and key, how long, how many tokens, how it ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from lmxd.config.keys import Caller
from lmxd.gateway.http.edges import Edges
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.leases import LeaseWish
from lmxd.gateway.metrics import Served
from lmxd.gateway.requests.authentication import ANYBODY
from lmxd.text import shortened

MOST: Final = 200
"""Requests that are remembered."""
SHOWN: Final = 50
"""Of them, the latest that one caller is shown."""
PROMPT: Final = 1000
"""Characters of a prompt that are kept: 200 prompts are less than a megabyte."""
_NAME: Final = 80
"""Characters of a model's name: a client may ask for anything."""
_READ: Final = 2**20
"""Bytes of a request, beyond which it is not read for its prompt: a picture has as many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecentRequest:
    """One request that is over. ``at``: seconds since the epoch; ``waited`` and ``took``: seconds.

    ``key``: the name of its key, None for a request without one. ``waited``: until its lease; None if it got none.
    """

    number: int
    at: float
    model: str
    path: str
    key: str | None
    waited: float | None
    took: float
    asked: int | None
    answered: int | None
    status: int
    prompt: str | None


@dataclass(slots=True)
class RequestNote:
    """A request that goes on: how it is served, and both ends of its answer."""

    served: Served | None = None
    edges: Edges | None = None


class RecentRequests:
    """Remembers the last requests, in memory alone. ``prompts``: also how each prompt begins."""

    def __init__(self, *, prompts: bool) -> None:
        self.prompts = prompts
        self.count = 0
        """Requests so far, also those that are forgotten."""
        self._kept: deque[RecentRequest] = deque(maxlen=MOST)

    @contextmanager
    def noted(self, wish: LeaseWish, call: UpstreamCall) -> Iterator[RequestNote]:
        """Remember a request when it is over, however it ends."""
        note, at, begun = RequestNote(), time.time(), time.monotonic()
        try:
            yield note
        finally:
            served = note.served
            if served is not None:
                self.count += 1
                asked, answered = note.edges.tokens if note.edges else (None, None)
                made = RecentRequest(
                    number=self.count,
                    at=at,
                    model=served.model or shortened(wish.model, _NAME),
                    path=shortened(call.path.partition("?")[0], _NAME),
                    key=wish.user,
                    waited=served.waited,
                    took=time.monotonic() - begun,
                    asked=asked,
                    answered=answered,
                    status=served.status,
                    prompt=prompt_in(call.body) if self.prompts else None,
                )
                self._kept.append(made)

    def seen_by(self, caller: Caller) -> list[dict[str, Any]]:
        """The last ones of a caller, the latest first; of an administrator, everybody's.

        Who has no key sees those without one, but no prompts: they may be anybody's.
        """
        mine = None if caller is ANYBODY else caller.name
        seen = [each for each in reversed(self._kept) if caller.admin or each.key == mine][:SHOWN]
        hidden = {"prompt": None} if caller is ANYBODY else {}
        return [asdict(each) | hidden for each in seen]


class _Said(Struct):
    content: Raw = Raw(b'""')


class _Asked(Struct):
    """The fields in which the requests of an API have their prompt."""

    messages: list[_Said] | None = None
    prompt: Raw = Raw(b'""')
    input: Raw = Raw(b'""')
    query: Raw = Raw(b'""')
    content: Raw = Raw(b'""')


def prompt_in(body: bytes) -> str:
    """The beginning of the last thing that a request says; empty if none can be made out."""
    if len(body) > _READ:
        return f"({len(body)} bytes)"
    try:
        asked = msgspec.json.decode(body, type=_Asked)
        said = asked.messages[-1].content if asked.messages else None
        texts = (_text(raw) for raw in (said, asked.prompt, asked.input, asked.query, asked.content) if raw)
        return next((shortened(text, PROMPT) for text in texts if text), "")
    except (ValueError, RecursionError):  # a form, or no JSON
        return ""


def _text(raw: Raw) -> str:
    """A text, or the texts among the parts of a message (of several, the last), one below the other."""
    found = msgspec.json.decode(raw)
    messages = [each for each in found if isinstance(each, dict) and "role" in each] if isinstance(found, list) else []
    return "\n".join(_texts(messages[-1] if messages else found))


def _texts(part: Any) -> Iterator[str]:
    """The texts in a part of a message, which may have parts of its own."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, list):
        for each in part:
            yield from _texts(each)
    elif isinstance(part, dict):
        yield from _texts(part.get("text") or part.get("content"))
