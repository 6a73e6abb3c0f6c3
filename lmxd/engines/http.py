"""Speaking to instances: one request to an endpoint, with its key."""

from __future__ import annotations

from typing import Any, Final

import aiohttp

from lmxd.engines.engine import Endpoint

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
"""Seconds for a question about health or work, which a server that lives answers at once."""


async def get(endpoint: Endpoint, path: str) -> tuple[int, str]:
    """(status, body); status 0 if there is no answer."""
    return await _request(endpoint, "GET", path, None, _TIMEOUT)


async def post(endpoint: Endpoint, path: str, body: dict[str, Any], seconds: float) -> tuple[int, str]:
    """POST a JSON body; the server has so many seconds to answer."""
    return await _request(endpoint, "POST", path, body, aiohttp.ClientTimeout(total=seconds))


async def _request(
    endpoint: Endpoint, method: str, path: str, body: dict[str, Any] | None, timeout: aiohttp.ClientTimeout
) -> tuple[int, str]:
    connector = aiohttp.UnixConnector(str(endpoint.socket)) if endpoint.socket else aiohttp.TCPConnector()
    headers = {"Authorization": f"Bearer {endpoint.key}"}
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.request(method, endpoint.url + path, json=body, headers=headers) as answer,
        ):
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return 0, ""
