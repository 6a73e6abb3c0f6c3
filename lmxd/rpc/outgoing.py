"""Answers on their way to a client, and the end of a client that does not read them."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from lmxd.rpc.budgets import Budget

MAX_UNREAD = 16 * 1024
"""Bytes of answers that wait for a client, beyond what the kernel keeps, before no more of its calls are begun."""
PATIENCE = 5.0
"""Seconds that a client has to read them, before it is disconnected."""
MOST_UNREAD: Final = 1024 * MAX_UNREAD

log = logging.getLogger(__name__)


class Outgoing:
    """The answers to one client. Its budget is that of its user, once that is known."""

    def __init__(self, transport: asyncio.Transport, who: str) -> None:
        """``who``: the client as the log names it."""
        self.budget: Budget | None = None
        self._transport = transport
        self._who = who
        self._unread: asyncio.TimerHandle | None = None
        transport.set_write_buffer_limits(high=MAX_UNREAD)

    @property
    def size(self) -> int:
        """Bytes that wait for the client."""
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()

    @property
    def stuck(self) -> bool:
        """Whether the client is to read before any more of its calls are begun."""
        return self._unread is not None

    def send(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        too_much = self.size > MOST_UNREAD or (self.budget is not None and self.budget.unread_too_much())
        if self.stuck and too_much:  # asked before it is sent: one long answer may exceed the limits
            self._cut_off()
            return
        self._transport.write(data)
        if self.budget is not None:
            self.budget.wrote(len(data))

    def pause(self) -> None:
        """Be patient with a client that has much to read."""
        self._unread = asyncio.get_running_loop().call_later(PATIENCE, self._cut_off)

    def resume(self) -> None:
        """Go on, for the client has read it all, or has gone."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _cut_off(self) -> None:
        """Disconnect a client that does not read, rather than leave out a part of its notifications."""
        log.warning("%s does not read its answers: cut off", self._who)
        self._transport.abort()
