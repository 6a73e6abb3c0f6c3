"""What a llama-server says of its slots, which is not trusted."""

from __future__ import annotations

import json

import pytest
from engines.canned import engine

from lmxd.engines.carrier import SavedSlot, SlotUse
from lmxd.engines.llama_cpp import slots


def answer(body: object, status: int = 200) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(raw), raw)


async def test_the_use_of_each_slot_and_none_of_one_at_work() -> None:
    said = [{"is_processing": False, "n_prompt_tokens": 7}, {"is_processing": True, "n_prompt_tokens": 9}, {}]
    async with engine(answer(said)) as endpoint:
        assert await slots.used(endpoint) == (SlotUse(tokens=7, kept=7), None, SlotUse(tokens=0, kept=0))


async def test_of_one_that_writes_an_answer_it_is_known_what_its_prompt_found() -> None:
    figures = {"is_processing": True, "n_prompt_tokens": 300, "n_prompt_tokens_processed": 20}
    said = [{**figures, "next_token": [{"n_decoded": n}]} for n in (0, 31)]
    async with engine(answer(said)) as endpoint:
        assert await slots.used(endpoint) == (None, SlotUse(tokens=300, kept=250, busy=True))


@pytest.mark.parametrize(
    ("tokens", "processed", "decoded", "kept"),
    [
        (22, 18, 5, 0),  # as llama-server 10068 says of 18 new tokens of a prompt and 5 of an answer
        (29, 7, 5, 18),  # and of a prompt that went on from there
        (28, 24, 5, 0),
        (53, 4, 50, 0),
        (10, 99, 0, 0),
    ],
)
async def test_what_a_prompt_found_in_its_slot(tokens: int, processed: int, decoded: int, kept: int) -> None:
    figures = {"n_prompt_tokens": tokens, "n_prompt_tokens_processed": processed}
    said = [{**figures, "id_task": 8, "next_token": [{"n_decoded": decoded}]}]
    async with engine(answer(said)) as endpoint:
        assert await slots.used(endpoint) == (SlotUse(tokens=tokens, kept=kept, task=8),)


@pytest.mark.parametrize(
    "said", [b"[" * 10**5, b"no", {"error": "x"}, [1], None], ids="deep no object number null".split()
)
async def test_whatever_else_it_says_is_nothing(said: object) -> None:
    async with engine(answer(said)) as endpoint:
        assert await slots.used(endpoint) is None


async def test_what_is_done_and_what_is_not() -> None:
    asked: list[bytes] = []
    async with engine(answer({"n_saved": 7, "n_restored": 8, "n_erased": 0}), asked) as endpoint:
        assert await slots.save(endpoint, 1, "x") == SavedSlot(7, None)
        assert await slots.restore(endpoint, 2, "x") == 8
        assert await slots.erase(endpoint, 3)
    assert [line.split()[1] for line in asked] == [
        b"/slots/1?action=save", b"/slots/2?action=restore", b"/slots/3?action=erase",
    ]  # fmt: skip
    async with engine(answer({"error": "no"}, 400)) as endpoint:
        assert (await slots.save(endpoint, 0, "x"), await slots.restore(endpoint, 0, "x")) == (None, None)
        assert not await slots.erase(endpoint, 0)


@pytest.mark.parametrize(("tokens", "size", "saved"), [(7, 99, True), (7, 0, False), (0, 0, True)])
async def test_what_did_not_come_to_a_disk_that_is_full_was_not_saved(tokens: int, size: int, saved: bool) -> None:
    """Build 11434 answers with 200, with the tokens of the slot, and with no bytes."""
    async with engine(answer({"n_saved": tokens, "n_written": size})) as endpoint:
        assert await slots.save(endpoint, 0, "x") == (SavedSlot(tokens, size) if saved else None)
