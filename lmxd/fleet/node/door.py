"""The door of a node: lmxd's gateway behind mutual TLS, for the fleet's gateways alone."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Final

from aiohttp import web

from lmxd.config.keys import Caller
from lmxd.errors import LmxdError
from lmxd.fleet.copying.manifest import PREFIX
from lmxd.fleet.members import Member, MemberRole
from lmxd.fleet.names import USER, WAITED
from lmxd.fleet.node.removed import Removed
from lmxd.fleet.tls import peer
from lmxd.gateway.http.origins import Origins
from lmxd.gateway.requests import authentication
from lmxd.gateway.requests.authentication import ANYBODY, CALLER, QUIET
from lmxd.gateway.requests.failures import StatusError
from lmxd.text import escaped, shortened

_USER: Final = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
"""A name that lmxd takes for a user."""
_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_STATING: Final = frozenset((MemberRole.GATEWAY, MemberRole.OPERATOR))
"""The roles that are believed when they say for whom they ask. Other nodes fetch files, and nothing else."""


class FleetEntrance:
    """Lets in the members of a fleet that may ask for others: by certificate, for the user that each request names."""

    def __init__(self, fleet: str, removed: Removed) -> None:
        self._fleet, self._removed = fleet, removed
        self.origins = Origins(())

    @contextlib.contextmanager
    def entered(self, request: web.Request) -> Iterator[Caller]:
        """The user for whom a gateway asks. LmxdError ``not_permitted`` for other members, and for no name."""
        self._require(None if request.transport is None else peer(request.transport), files=_is_of_files(request))
        if request.transport is not None and self._removed.has(request.transport):
            remedy = "lmxd fleet token on the box of lmxd fleet init, then lmxd fleet join there"
            raise StatusError(403, "not_permitted", "the certificate is of a member that was removed", remedy)
        request[QUIET], request[authentication.WAITED] = True, _waited(request)
        caller = request[CALLER] = _user(request)
        yield caller

    def _require(self, member: Member | None, *, files: bool) -> None:
        let_in = _STATING | ({MemberRole.NODE} if files else set())
        if member is None or member.fleet != self._fleet or member.role not in let_in:
            who = "nobody of this fleet" if member is None else member.uri
            remedy = f"only a gateway or an operator of the fleet {self._fleet} may ask here"
            raise StatusError(403, "not_permitted", f"the certificate is of {who}", remedy)

    def is_open(self, request: web.Request) -> bool:
        """Whether strangers may ask for it."""
        return False


def _is_of_files(request: web.Request) -> bool:
    """Whether it leads to a model's file, and nowhere else."""
    resource = request.match_info.route.resource
    return resource is not None and resource.canonical.startswith(f"{PREFIX}/")


def _user(request: web.Request) -> Caller:
    said = request.headers.getall(USER, [])
    if not said:
        return ANYBODY
    if len(said) > 1 or _USER.fullmatch(said[0]) is None:
        shown = shortened(escaped(", ".join(said)), 80)
        raise LmxdError("invalid_params", f"{USER} is {shown}", "give one name of letters, digits and . _ @ + -")
    return Caller(said[0], admin=False)


def _waited(request: web.Request) -> float:
    """Seconds that the request has waited at other nodes, as its gateway says."""
    said = request.headers.get(WAITED, "0")
    if _SECONDS.fullmatch(said) is None:
        shown = shortened(escaped(said), 80)
        raise LmxdError("invalid_params", f"{WAITED} is {shown}", "give seconds, such as 12.5")
    return float(said)
