"""The holder of a lease tells the door of its node that it is in use, or given back: NATS may be gone meanwhile."""

from __future__ import annotations

import ssl
from typing import Final

import aiohttp

from lmxd.errors import LmxdError
from lmxd.fleet.calls import Direct, DirectRenewed

_PATIENCE: Final = aiohttp.ClientTimeout(total=5.0)


class LeaseDoor:
    """The door of one lease. ``tls``: as of ``FleetClient.tls``. LmxdError if it does not answer, or refuses."""

    def __init__(self, lease: Direct, tls: ssl.SSLContext) -> None:
        self._url = lease.base_url[: lease.base_url.index(lease.lease)] + lease.lease
        self._headers = {"Authorization": f"Bearer {lease.api_key}"}
        self._tls = tls

    async def renew(self) -> DirectRenewed:
        """Keep it alive."""
        return DirectRenewed.model_validate_json(await self._said("POST"))

    async def release(self) -> None:
        """End it. The lease of a node that does not answer ends by its TTL."""
        await self._said("DELETE")

    async def _said(self, method: str) -> bytes:
        try:
            async with (
                aiohttp.ClientSession(timeout=_PATIENCE) as session,
                session.request(method, self._url, ssl=self._tls, headers=self._headers) as answer,
            ):
                body = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            what = f"the node does not answer at {self._url}: {str(error) or type(error).__name__}"
            raise LmxdError("daemon_unavailable", what, "see whether lmxd fleet node runs there") from error
        if answer.status != 200:
            what = f"the node answers with HTTP {answer.status}"
            raise LmxdError("unknown_lease" if answer.status == 401 else "bad_answer", what, "request another lease")
        return body
