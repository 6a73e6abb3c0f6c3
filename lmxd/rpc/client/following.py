"""The leases of one connection, and where each of them is now: one that grows moves to another instance."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from lmxd.errors import LmxdError
from lmxd.rpc.holds import Held
from lmxd.rpc.messages import Granted, Renewed
from lmxd.rpc.notifications import Moved, Notification

GrantedT = TypeVar("GrantedT", bound=Granted)


class FollowedLeases(Generic[GrantedT]):
    """The leases that a connection was granted.

    ``held``: the ids of those that end with it, of leases and of holds.
    """

    def __init__(self) -> None:
        self.held: set[str] = set()
        self._present: dict[str, GrantedT] = {}

    def took(self, granted: GrantedT | Held) -> None:
        """A request was granted, or a lease has grown."""
        if granted.hold == "connection":
            self.held.add(granted.lease)
        if not isinstance(granted, Held):
            self._present[granted.lease] = granted

    def present(self, lease: str) -> GrantedT:
        """A lease as it is now, as far as this connection was told. LmxdError ``unknown_lease``."""
        if (found := self._present.get(lease)) is None:
            what = f"lease {lease} is none that this connection was granted, or it has ended"
            raise LmxdError("unknown_lease", what, "lmxctl ps lists them")
        return found

    def has(self, lease: str) -> bool:
        """Whether it was granted here, and has not ended."""
        return lease in self._present

    def ended(self, lease: str) -> None:
        self.held.discard(lease)
        self._present.pop(lease, None)

    def renewal(self, lease: str) -> dict[str, Any]:
        """The parameters of a ``renew`` whose answer says whether the lease has moved meanwhile."""
        before = self._present.get(lease)
        return {"lease": lease} | ({} if before is None else {"instance": before.instance})

    def renewed(self, renewed: Renewed) -> Moved | None:
        """The answer to that: the notification of a move that was missed. None if there was no such move."""
        before = self._present.get(renewed.lease)
        if before is None or renewed.moved is None or renewed.moved.instance == before.instance:
            return None
        self._move(renewed.lease, renewed.moved)
        return Moved(
            lease=renewed.lease, granted=renewed.moved, before=before.instance, why=_why(before.ctx, renewed.moved.ctx)
        )

    def heed(self, message: dict[str, Any]) -> None:
        """A message of the daemon, which may be about one of them."""
        params = message.get("params", {})
        match message.get("method"):
            case Notification.LEASE_ENDED:
                self.ended(params.get("lease"))
            case Notification.MOVED:
                moved = Moved.model_validate(params)
                self._move(moved.lease, moved.granted)

    def _move(self, lease: str, granted: Granted) -> None:
        if (before := self._present.get(lease)) is not None:
            self._present[lease] = before.model_copy(update=dict(granted))


def _why(before: int, ctx: int) -> Literal["grown", "shrunk", "returned"]:
    """The reason of a move that was missed, by the tokens before it and behind."""
    if ctx == before:
        return "returned"
    return "grown" if ctx > before else "shrunk"
