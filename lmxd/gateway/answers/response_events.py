"""The events of a stream of the Responses API, made whole: llama-server leaves out what OpenAI's own clients need.

Those clients put an answer together by the numbers of its parts, and begin with the response that is created.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Final

import msgspec

from lmxd.gateway.answers.stream_events import StreamEvents

_DATA: Final = b"data:"
_MAX_READ: Final = 2**20
"""Bytes of an event that is looked into: longer ones go on as they came."""
_MAX_ITEMS: Final = 1024
"""Parts of an answer that are numbered."""
_MAX_ID: Final = 256
"""Characters of an id that are kept: an engine may say as much as it likes."""
_OF_A_PART: Final = ("response.content_part.", "response.output_text.", "response.reasoning_text.", "response.refusal.")
_OF_AN_ITEM: Final = (*_OF_A_PART, "response.output_item.", "response.function_call_arguments.", "response.reasoning_")
_OF_TEXT: Final = ("response.output_text.delta", "response.output_text.done")


class ResponseEvents(StreamEvents):
    """A stream of the Responses API. ``model``: the one that was asked."""

    begins = frozenset((b"response.created", b"error"))
    once = frozenset((b"response.created", b"response.in_progress"))

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model, self._created = model, int(time.time())
        self._number = 0
        self._id: str | None = None
        """The id of a response that began here: clients want the same in all of its events."""
        self._items: dict[str, int] = {}
        """The numbers of the parts of the answer that have begun, by their ids."""

    def beginning(self) -> dict[str, Any]:
        self._id = f"resp_{uuid.uuid4().hex}"
        response = {"id": self._id, "object": "response", "status": "in_progress"}
        return {"type": "response.created", "response": response}

    def whole(self, line: bytes) -> bytes:
        if not line.startswith(_DATA) or len(line) > _MAX_READ:
            return line
        try:
            event = msgspec.json.decode(line.removeprefix(_DATA), type=dict[str, Any])
            return _DATA + b" " + msgspec.json.encode(self._known(event) | event | self._inside(event))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return line  # such as [DONE]

    def _known(self, event: dict[str, Any]) -> dict[str, Any]:
        """All that can be said of an event from its place in the stream."""
        kind = str(event.get("type", ""))
        known: dict[str, Any] = {"sequence_number": self._number}
        self._number += 1
        if kind.startswith(_OF_AN_ITEM):
            known["output_index"] = self._index(event)
        if kind.startswith(_OF_A_PART):
            known["content_index"] = 0
        if kind in _OF_TEXT:
            known["logprobs"] = []
        return known

    def _inside(self, event: dict[str, Any]) -> dict[str, Any]:
        """The parts of an event with what they lack."""
        made: dict[str, Any] = {}
        if isinstance(response := event.get("response"), dict):
            made["response"] = self._of_response() | response | ({"id": self._id} if self._id else {})
            if isinstance(items := response.get("output"), list):
                made["response"]["output"] = [_named(item) for item in items]
        if "item" in event:
            made["item"] = _named(event["item"])
        if isinstance(part := event.get("part"), dict) and part.get("type") == "output_text":
            made["part"] = {"annotations": [], "logprobs": []} | part
        return made

    def _index(self, event: dict[str, Any]) -> int:
        """The number of the part that an event is about. One that nobody knows is the next."""
        item = _named(event.get("item"))
        found = str(item.get("id") if isinstance(item, dict) else event.get("item_id"))[:_MAX_ID]
        if found not in self._items and len(self._items) < _MAX_ITEMS:
            self._items[found] = len(self._items)
        return self._items.get(found, len(self._items))

    def _of_response(self) -> dict[str, Any]:
        return {
            "created_at": self._created,
            "model": self._model,
            "output": [],
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
        }


def _named(item: Any) -> Any:
    """An item with an id: a call of a function has one alone by which it is answered."""
    if isinstance(item, dict) and "id" not in item and "call_id" in item:
        return {"id": item["call_id"]} | item
    return item
