"""The tokens of a request's prompt, exactly, as its engine counts them without generating anything."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import msgspec
from msgspec import Struct

from lmxd.errors import LmxdError
from lmxd.gateway.answers.events import collected
from lmxd.gateway.answers.parts import Tokenized, understood
from lmxd.gateway.http.kept_connections import KeptConnections
from lmxd.gateway.http.upstream import exchange
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.requests.wanted import bounded
from lmxd.rpc.messages import Granted

COUNTED: Final = {
    "/v1/chat/completions": "/v1/chat/completions/input_tokens",
    "/v1/responses": "/v1/responses/input_tokens",
    "/v1/messages": "/v1/messages/count_tokens",
}
"""Paths of requests, and where llama-server counts them with everything that their template makes of them."""
_FOUND: Final = 200


class _Counted(Struct):
    """The answer to a count."""

    input_tokens: int


class _Templated(Struct):
    """A chat as its template makes it one text."""

    prompt: str


class _Prompted(Struct):
    """The prompt of a request that is no chat."""

    prompt: str | list[Any]


class Counting:
    """Counts prompts on leased instances, over the connection on which the request itself is sent afterwards."""

    def __init__(self, connections: KeptConnections) -> None:
        self._connections = connections

    async def tokens_of(self, lease: Granted, call: UpstreamCall) -> int | None:
        """The tokens of a request's prompt; None where its engine does not count it, or it has several."""
        path = call.path.partition("?")[0]
        with contextlib.suppress(LmxdError, msgspec.MsgspecError, ValueError, RecursionError):
            if path not in COUNTED:
                return await self._of_text(lease, msgspec.json.decode(bounded(call.body), type=_Prompted).prompt)
            if (found := await self._asked(lease, COUNTED[path], call.body)) is not None:
                return understood(found, _Counted).input_tokens
            if path == "/v1/chat/completions":
                return await self._templated(lease, call.body)
        return None

    async def _of_text(self, lease: Granted, prompt: str | list[Any]) -> int | None:
        if isinstance(prompt, str):
            return await self._tokenized(lease, prompt)
        return len(prompt) if all(isinstance(token, int) for token in prompt) else None

    async def _templated(self, lease: Granted, body: bytes) -> int | None:
        """An older llama-server makes a text of a chat, and counts that."""
        found = await self._asked(lease, "/apply-template", body)
        return None if found is None else await self._tokenized(lease, understood(found, _Templated).prompt)

    async def _tokenized(self, lease: Granted, text: str) -> int | None:
        body = msgspec.json.encode({"content": text, "add_special": True, "parse_special": True})
        found = await self._asked(lease, "/tokenize", body)
        return None if found is None else len(understood(found, Tokenized).tokens)

    async def _asked(self, lease: Granted, path: str, body: bytes) -> bytes | None:
        """The answer of the engine; None where it is no success. LmxdError if there is none."""
        with contextlib.closing(await exchange(lease, UpstreamCall(path=path, body=body), self._connections)) as answer:
            head = await answer.head()
            found = await collected(answer, head)
        return found if head.status == _FOUND else None
