"""The slots of a llama-server: what each has, and files of it. What it answers is not trusted."""

from __future__ import annotations

import json
from typing import Any, Final

from lmxd.engines.carrier import SavedSlot, SlotUse
from lmxd.engines.engine import Endpoint
from lmxd.engines.http import get, post

_TIMEOUT: Final = 30.0
"""Seconds for one slot's cache to be written to disk, or read: it may have gigabytes."""


async def used(endpoint: Endpoint) -> tuple[SlotUse | None, ...] | None:
    """The use of each slot; None in place of that of one that is at a prompt. None if it does not say."""
    status, text = await get(endpoint, "/slots")
    found = _parsed(text) if status == 200 else None
    if not isinstance(found, list) or not all(isinstance(slot, dict) for slot in found):
        return None
    return tuple(_use(slot) for slot in found)


def _use(slot: dict[str, Any]) -> SlotUse | None:
    """The last token of an answer is not in its slot. A build that does not say what it processed kept all."""
    tokens, step = _number(slot, "n_prompt_tokens"), slot.get("next_token")
    answered, busy = _number(step[0], "n_decoded") if isinstance(step, list) and step else 0, slot.get("is_processing")
    if busy and not answered:
        return None
    kept = tokens if "n_prompt_tokens_processed" not in slot else tokens - max(0, answered - 1)
    kept -= _number(slot, "n_prompt_tokens_processed")
    return SlotUse(tokens=tokens, kept=max(0, min(tokens, kept)), task=_number(slot, "id_task"), busy=bool(busy))


async def save(endpoint: Endpoint, slot: int, file: str) -> SavedSlot | None:
    """Write what a slot has to a file, once it is done with what it is at. None: it was not saved.

    On a disk that is full llama-server calls it a success, with as many tokens as ever and no bytes.
    """
    said = await _done(endpoint, slot, "save", {"filename": file})
    if said is None:
        return None
    saved = SavedSlot(_number(said, "n_saved"), _number(said, "n_written") if "n_written" in said else None)
    return None if saved.tokens and saved.size == 0 else saved


async def restore(endpoint: Endpoint, slot: int, file: str) -> int | None:
    """Read a file into a slot. The tokens; None: it was not read."""
    said = await _done(endpoint, slot, "restore", {"filename": file})
    return None if said is None else _number(said, "n_restored")


async def erase(endpoint: Endpoint, slot: int) -> bool:
    """Empty a slot; whether it says that it did."""
    return await _done(endpoint, slot, "erase", {}) is not None


async def _done(endpoint: Endpoint, slot: int, action: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """The answer to an action; None if it was not done."""
    status, text = await post(endpoint, f"/slots/{slot}?action={action}", body, _TIMEOUT)
    if status != 200:
        return None
    said = _parsed(text)
    return said if isinstance(said, dict) else {}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _number(said: Any, name: str) -> int:
    found = said.get(name) if isinstance(said, dict) else None
    return found if isinstance(found, int) else 0
