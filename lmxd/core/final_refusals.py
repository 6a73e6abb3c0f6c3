"""Refusals that are the same for everybody: they need no figures."""

from __future__ import annotations

from typing import Final

from lmxd.core.answers import Refusal
from lmxd.core.reasons import RefusalCode

DRAINING: Final = Refusal(
    code=RefusalCode.DRAINING, message="lmxd is draining: nothing new is admitted", remedy="ask again later"
)
STOPPED: Final = Refusal(
    code=RefusalCode.STOPPED, message="the instance was stopped while it was starting", remedy="ask again"
)
CANCELLED: Final = Refusal(code=RefusalCode.CANCELLED, message="the request was cancelled")
ASKED_AGAIN: Final = Refusal(code=RefusalCode.CANCELLED, message="it was asked again on another connection")
LEASE_ENDED: Final = Refusal(code=RefusalCode.CANCELLED, message="the lease that was to grow has ended")
CLIENT_LEFT: Final = Refusal(code=RefusalCode.CLIENT_LEFT, message="the client closed its connection")
