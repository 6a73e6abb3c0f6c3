"""Calls begin by turns, so that nobody waits for all the calls of somebody else."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from lmxd.rpc.budgets import Budget

_MOST: Final = 8
"""The most users whose calls begin in one round: between two rounds the loop does what else there is."""


class Turns:
    """Rounds in which each user that waits begins one call: the first administrators, then the first others."""

    def __init__(self) -> None:
        self._waiting: tuple[OrderedDict[Budget, None], ...] = (OrderedDict(), OrderedDict())
        self._due: asyncio.Handle | None = None

    def wait(self, budget: Budget) -> None:
        """Let a user have a turn in a next round, if it has a call that may begin."""
        if budget.has_turn:
            self._waiting[not budget.privileged].setdefault(budget)
            if self._due is None:
                self._due = asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        try:
            for users in self._waiting:
                for budget in list(users)[:_MOST]:
                    del users[budget]
                    if budget.has_turn:
                        users[budget] = None
                        budget.take_turn()
        finally:
            again = any(self._waiting)
            self._due = asyncio.get_running_loop().call_soon(self._round) if again else None
