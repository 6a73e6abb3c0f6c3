"""Requests that the page of another site has a browser send: a browser here can reach loopback, as its user can."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from lmxd.errors import LmxdError

_LOCAL: Final = frozenset(("localhost", "127.0.0.1", "::1"))
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::\d{1,5})?")
_OWN: Final = frozenset(("same-origin", "none"))
"""Sec-Fetch-Site of a page of ours, and of what a person typed."""
_SHOWN: Final = frozenset(("document", "iframe", "frame", "fencedframe", "embed", "object"))
"""Sec-Fetch-Dest of what a browser opens as a page."""


class OwnPages:
    """The requests that no page of another site can have sent.

    ``address``: where it listens. ``hosts``: further names by which browsers come here, such as a proxy's, each with
    its port unless that is the usual one. ``by_number``: also by any IP address, which no page can have lead elsewhere.
    """

    def __init__(self, address: str, hosts: Iterable[str] = (), *, by_number: bool = False) -> None:
        self._any_host = address.startswith("unix:")  # no name leads there; the proxy before it looks at its own
        self._by_number = by_number
        self._hosts = frozenset(x.lower() for x in hosts)
        named = {name for x in self._hosts if (name := _name(x))}
        self._names = _LOCAL | named | {address.rpartition(":")[0].strip("[]").lower()}

    def require(self, request: web.BaseRequest, *, harmless: bool = False, any_host: bool = False) -> None:
        """LmxdError ``not_permitted`` for what a page of another site may have sent, or a name made to lead here.

        All headers that it looks at are set by the browser alone: no page can change them. ``harmless``: also a browser
        may ask that does not say which page does, as most are by HTTP without TLS; and one that opens it as a page,
        which may have been sent here from the address that a person typed. ``any_host``: by whichever name, as a
        browser that adds a password does so for the name alone that it was given for.
        """
        headers = request.headers
        hosts, origins = headers.getall("Host", []), headers.getall("Origin", [])
        named = {_name(host) for host in hosts}
        if not (self._any_host or any_host) and not (named and all(map(self._leads_here, named))):
            raise _refused("Host", hosts, "use localhost, or name it in gateway.hosts")
        if any(not self._is_own(origin, hosts) for origin in origins):
            raise _refused("Origin", origins)
        sites = headers.getall("Sec-Fetch-Site", [])
        if not _OWN.issuperset(sites):
            raise _refused("Sec-Fetch-Site", sites)
        modes, uses = headers.getall("Sec-Fetch-Mode", []), headers.getall("Sec-Fetch-Dest", [])
        if not harmless and ("navigate" in modes or not _SHOWN.isdisjoint(uses)):
            raise _refused("Sec-Fetch-Mode", [*modes, *uses], "use a key: a browser does not open this as a page")
        if not (harmless or sites or origins) and headers.get("User-Agent", "").startswith("Mozilla/"):
            raise LmxdError("not_permitted", "this browser does not say which page asks", "use a key, or HTTPS")

    def _leads_here(self, name: str | None) -> bool:
        return name is not None and (name in self._names or (self._by_number and _is_number(name)))

    def _is_own(self, origin: str, hosts: list[str]) -> bool:
        try:
            asking = urlsplit(origin).netloc.lower()
            return asking != "" and (asking in self._hosts or asking in {x.lower() for x in hosts})
        except ValueError:
            return False


def _name(host: str) -> str | None:
    """The name in a Host, in lower case; None if it is no Host."""
    match = _HOST.fullmatch(host)
    return (match[1] or match[2]).lower() if match else None


def _is_number(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _refused(header: str, values: list[str], remedy: str = "use a key") -> LmxdError:
    return LmxdError("not_permitted", f"{header} is {ascii(', '.join(values))[:200]}", remedy)
