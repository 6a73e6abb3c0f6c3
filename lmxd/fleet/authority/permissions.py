"""The permissions of each member on NATS. Whatever is not listed is refused."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Final

from lmxd.fleet import names
from lmxd.fleet.calls import CallName, subject
from lmxd.fleet.members import Member, MemberRole

_STREAM: Final = f"KV_{names.BUCKET}"
_SERVICES: Final = "$SRV.>"
_OF_OPERATORS: Final = frozenset((CallName.DRAIN, CallName.COPY))
"""Calls that change a node for all."""
_FIND: Final = (f"$JS.API.STREAM.INFO.{_STREAM}",)
"""Subjects by which the bucket is found. One card is read by none: the server would send it, as what its node likes, to
whichever subject the asker names, past all permissions."""
_WATCH: Final = (
    f"$JS.API.CONSUMER.CREATE.{_STREAM}",
    f"$JS.API.CONSUMER.CREATE.{_STREAM}.>",
    f"$JS.API.CONSUMER.INFO.{_STREAM}.>",
    f"$JS.API.CONSUMER.DELETE.{_STREAM}.>",
    f"$JS.FC.{_STREAM}.>",
)
"""And all cards, as they come and go."""
_ANSWERS: Final = tuple(f"_INBOX.{role}.>" for role in (MemberRole.GATEWAY, MemberRole.OPERATOR))
"""Where nodes answer. Each question has a subject of its own there, which nobody else can guess (``bus``).

NATS' own way, by which who was asked may publish wherever the question says, would have a node speak for any member,
where a gateway conspires with it.
"""


def permissions(member: Member) -> dict[str, Any]:
    """The permissions of a member's user, as nats-server's configuration has them."""
    name, hears = member.name, [f"{member.inbox}.>"]
    match member.role:
        case MemberRole.NODE:
            says = [names.heartbeat(name), f"$KV.{names.BUCKET}.{name}", *_FIND]
            heard = [f"{names.calls(name)}.>", _SERVICES, names.REMOVED, *hears]
            return _allowed([*says, *_ANSWERS], heard)
        case MemberRole.GATEWAY:
            return _allowed(
                [*_called(set(CallName) - _OF_OPERATORS), _SERVICES, *_FIND, *_WATCH], [names.HEARTBEATS, *hears]
            )
        case MemberRole.OPERATOR:
            says = [*_called(set(CallName)), names.MEMBERS, _SERVICES, *_FIND, *_WATCH]
            return _allowed(says, [names.HEARTBEATS, *hears])
        case MemberRole.BROKER:
            says = [f"$JS.API.STREAM.*.{_STREAM}", names.REMOVED, f"_INBOX.{MemberRole.OPERATOR}.>"]
            return _allowed(says, [names.MEMBERS, *hears])


def _called(calls: Set[CallName]) -> list[str]:
    return [subject("*", call) for call in sorted(calls)]


def _allowed(says: list[str], hears: list[str]) -> dict[str, Any]:
    return {"publish": {"allow": says}, "subscribe": {"allow": hears}}
