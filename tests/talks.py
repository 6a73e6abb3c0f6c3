"""Conversations that a daemon takes to have been seen, without the hours that they take."""

from __future__ import annotations

import os
from typing import Final

from house import House

from lmxd.core.decisions import ForgetInstance, GrantLease
from lmxd.core.words import NO_CONNECTION, InstanceId, LeaseId, Owner, TicketId

ME: Final = os.getuid()


def talked(house: House, tokens: int, uid: int = ME, *, model: str = "m", times: int = 8) -> None:
    """Conversations of a user that were so long, and are over."""
    learning, owner = house.daemon.learning, Owner(uid=uid, pid=1, connection=NO_CONNECTION)
    for n in range(times):
        at = InstanceId(f"{model}#before-{n}")
        granted = GrantLease(
            ticket=TicketId("t"), lease=LeaseId("l"), instance=at, profile=model, owner=owner, waited=0.0, why=""
        )
        learning.observe(granted)
        learning.conversations.used(at, model, (tokens,))
        learning.observe(ForgetInstance(instance=at))
