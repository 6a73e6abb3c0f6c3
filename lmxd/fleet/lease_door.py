"""The holder of a lease tells the door of its node that it is in use, or given back: NATS may be gone meanwhile."""

from __future__ import annotations

import ssl
from typing import Final

import aiohttp

from lmxd.errors import LmxdError
from lmxd.fleet.calls import Direct, DirectRenewed

_PATIENCE: Final = aiohttp.ClientTimeout(total=5.0)
_LARGEST: Final = 64 * 2**10
"""Bytes of an answer, which is a line."""


class LeaseDoor:
    """The door of one lease. ``tls``: as of ``FleetClient.tls``. LmxdError if it does not answer, or refuses."""

    def __init__(self, lease: Direct, tls: ssl.SSLContext) -> None:
        before, found, _ = lease.base_url.partition(lease.lease)
        if not found:
            raise _bad_answer(f"{lease.node} does not say where lease {lease.lease} is")
        self._url = before + found
        self._headers = {"Authorization": f"Bearer {lease.api_key}"}
        self._tls = tls

    async def renew(self) -> DirectRenewed:
        """Keep it alive."""
        try:
            return DirectRenewed.model_validate_json(await self._said("POST"))
        except ValueError as error:
            raise _bad_answer(f"the node answers with something else at {self._url}") from error

    async def release(self) -> None:
        """End it. The lease of a node that does not answer ends by its TTL."""
        await self._said("DELETE")

    async def _said(self, method: str) -> bytes:
        try:
            async with (
                aiohttp.ClientSession(timeout=_PATIENCE) as session,
                session.request(method, self._url, ssl=self._tls, headers=self._headers) as answer,
            ):
                body = b""
                async for part in answer.content.iter_any():
                    body += part
                    if len(body) > _LARGEST:
                        raise _bad_answer(f"the node says more than {_LARGEST // 2**10} KiB at {self._url}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            what = f"the node does not answer at {self._url}: {str(error) or type(error).__name__}"
            raise LmxdError("daemon_unavailable", what, "see whether lmxd fleet node runs there") from error
        if answer.status != 200:
            what = f"the node answers with HTTP {answer.status}"
            raise LmxdError("unknown_lease" if answer.status == 401 else "bad_answer", what, "request another lease")
        return body


def _bad_answer(what: str) -> LmxdError:
    return LmxdError("bad_answer", what, "request another lease")
