"""Yields: bytes of a device that are kept free for others, until a time."""

from __future__ import annotations

from lmxd.core.books.accounts import Account
from lmxd.core.books.alarms import AlarmKind
from lmxd.core.books.state import State
from lmxd.core.words import Yielded, YieldId


def begin_yield(state: State, account: Account, id: YieldId, kept: Yielded) -> None:
    account.yields[id] = kept
    _changed(state, account, id)
    state.alarms.set((AlarmKind.YIELD, id), kept.until)


def end_yield(state: State, id: YieldId) -> None:
    """End a yield, if there is one."""
    for account in state.ledger.accounts.values():
        if account.yields.pop(id, None) is not None:
            _changed(state, account, id)
            state.alarms.clear((AlarmKind.YIELD, id))


def _changed(state: State, account: Account, id: YieldId) -> None:
    account.balance()
    state.reach.touch((account.device,))
    state.step.touched.yields.add(id)
