"""The door of a node: lmxd's gateway behind mutual TLS, for the fleet's gateways alone."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Final

from aiohttp import web

from lmxd.config.keys import Caller
from lmxd.errors import LmxdError
from lmxd.fleet.copying.manifest import PREFIX
from lmxd.fleet.members import Member, MemberRole
from lmxd.fleet.names import USED, USER, WAITED, WEIGHT
from lmxd.fleet.node.removed import Removed
from lmxd.fleet.tls import peer
from lmxd.gateway.http.origins import Origins
from lmxd.gateway.leasing.stated import Stated
from lmxd.gateway.requests import authentication
from lmxd.gateway.requests.authentication import ANYBODY, CALLER, QUIET
from lmxd.gateway.requests.failures import StatusError
from lmxd.text import escaped, shortened

_USER: Final = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
"""A name that lmxd takes for a user."""
_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_USED: Final = re.compile(r"[0-9]{1,30}")
_WEIGHT: Final = re.compile(r"(?!0*\.?0*$)[0-9]{1,4}(?:\.[0-9]{1,9})?")
_LET_IN: Final = frozenset((MemberRole.GATEWAY, MemberRole.OPERATOR))
"""The roles that may ask for anything. Other nodes fetch files, and nothing else."""
_STATED: Final = (USER, WAITED, USED, WEIGHT)
"""Headers that are believed of a gateway alone."""


class FleetEntrance:
    """Lets in gateways and operators of a fleet, by certificate: a gateway for the user that each request names."""

    def __init__(self, fleet: str, removed: Removed) -> None:
        self._fleet, self._removed = fleet, removed
        self.origins = Origins(())

    @contextlib.contextmanager
    def entered(self, request: web.Request) -> Iterator[Caller]:
        """The user for whom a gateway asks. LmxdError ``not_permitted`` for other members, and what they state."""
        member = None if request.transport is None else peer(request.transport)
        self._require(member, [name for name in _STATED if name in request.headers], files=_is_of_files(request))
        if request.transport is not None and self._removed.has(request.transport):
            remedy = "lmxd fleet token on the box of lmxd fleet init, then lmxd fleet join there"
            raise StatusError(403, "not_permitted", "the certificate is of a member that was removed", remedy)
        request[QUIET], request[authentication.STATED] = True, _stated(request)
        caller = request[CALLER] = _user(request)
        yield caller

    def _require(self, member: Member | None, stated: Sequence[str], *, files: bool) -> None:
        let_in = _LET_IN | ({MemberRole.NODE} if files else set())
        who = "nobody of this fleet" if member is None else member.uri
        if member is None or member.fleet != self._fleet or member.role not in let_in:
            remedy = f"only a gateway or an operator of the fleet {self._fleet} may ask here"
            raise StatusError(403, "not_permitted", f"the certificate is of {who}", remedy)
        if stated and member.role is not MemberRole.GATEWAY:
            remedy = f"leave it out: only a gateway of the fleet {self._fleet} may state it"
            raise StatusError(403, "not_permitted", f"the certificate is of {who}, which states {stated[0]}", remedy)

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


def _stated(request: web.Request) -> Stated:
    """A request as its gateway says, and its user at other nodes."""
    waited = _number(request, WAITED, _SECONDS, "seconds, such as 12.5")
    used = _number(request, USED, _USED, "byte-seconds, such as 12000000000")
    weight = _number(request, WEIGHT, _WEIGHT, "a weight from 0 to 1000, such as 2.5")
    return Stated(waited=waited or 0.0, used_elsewhere=used, weight=weight)


def _number(request: web.Request, header: str, form: re.Pattern[str], meant: str) -> float | None:
    said = request.headers.get(header)
    if said is not None and form.fullmatch(said) is None:
        raise LmxdError("invalid_params", f"{header} is {shortened(escaped(said), 80)}", f"give {meant}")
    return None if said is None else float(said)
