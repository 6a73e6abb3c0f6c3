"""Blocking work that nobody waits for any more."""

from __future__ import annotations

import asyncio
import threading

import pytest
from waiting import GENEROUS, until

from lmxd.fleet.aside import aside


def test_a_program_ends_before_its_question_is_answered() -> None:
    """As a broker that was told to end, while the authority let it wait for another roll."""
    answer, answered, asked = threading.Event(), list[bool](), threading.Event()

    def ask() -> None:
        asked.set()
        answered.append(answer.wait(GENEROUS))

    async def program() -> None:
        asking = asyncio.create_task(aside(ask))
        await until(asked.is_set)
        asking.cancel()
        await asyncio.wait((asking,))
        assert asking.cancelled()

    asyncio.run(program())
    assert answered == []
    answer.set()


async def test_what_comes_of_it_is_told() -> None:
    assert await aside(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        await aside(lambda: 1 // 0)
