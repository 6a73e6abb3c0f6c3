"""Speaking to instances: one request to an endpoint, with its key. What one says is not trusted: nothing is followed,
unpacked, or read beyond a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lmxd.engines.engine import Endpoint

if TYPE_CHECKING:
    import aiohttp

_TIMEOUT: Final = 5.0
"""Seconds for a question about health or work, which a server that lives answers at once."""
_MOST: Final = 2**20
"""Bytes of an answer that are read: metrics are a few KiB."""


async def get(endpoint: Endpoint, path: str) -> tuple[int, str]:
    """(status, body); status 0 if there is no answer."""
    return await _request(endpoint, "GET", path, None, _TIMEOUT)


async def post(endpoint: Endpoint, path: str, body: dict[str, Any], seconds: float) -> tuple[int, str]:
    """POST a JSON body; the server has so many seconds to answer."""
    return await _request(endpoint, "POST", path, body, seconds)


async def _request(
    endpoint: Endpoint, method: str, path: str, body: dict[str, Any] | None, seconds: float
) -> tuple[int, str]:
    import aiohttp  # here, since a command that asks no instance anything starts sooner without it

    timeout = aiohttp.ClientTimeout(total=seconds)
    connector = aiohttp.UnixConnector(str(endpoint.socket)) if endpoint.socket else aiohttp.TCPConnector()
    headers = {"Authorization": f"Bearer {endpoint.key}"}
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session,
            session.request(method, endpoint.url + path, json=body, headers=headers, allow_redirects=False) as answer,
        ):
            return answer.status, await _text(answer)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):  # the last for what no request may hold
        return 0, ""


async def _text(answer: aiohttp.ClientResponse) -> str:
    """Its body, up to a bound."""
    found = b""
    while len(found) < _MOST and (more := await answer.content.read(_MOST - len(found))):
        found += more
    return found.decode(errors="replace")
