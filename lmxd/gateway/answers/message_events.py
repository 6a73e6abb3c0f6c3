"""The events of a stream of Anthropic's API: its clients take one without a begin for an empty answer."""

from __future__ import annotations

import uuid
from typing import Any

from lmxd.gateway.answers.stream_events import StreamEvents


class MessageEvents(StreamEvents):
    """A stream of Anthropic's API. ``model``: the one that was asked."""

    begins = frozenset((b"message_start", b"error", b"ping"))
    once = frozenset((b"message_start",))

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model

    def beginning(self) -> dict[str, Any]:
        message: dict[str, Any] = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self._model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return {"type": "message_start", "message": message}
