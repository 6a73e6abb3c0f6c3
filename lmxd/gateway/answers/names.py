"""The name of a model in the answers of an engine that knows it by another: clients read what they have asked for."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from lmxd.gateway.answers.stream_events import StreamLines

_DATA: Final = b"data:"
_INSIDE: Final = ("response", "message")
"""The parts of events that have a name of their own: of the Responses API, and of Anthropic's."""


def called(data: bytes, model: str) -> bytes:
    """An answer, or one event, in which the model has that name. All else stays as it came."""
    try:
        return _called(data, Raw(msgspec.json.encode(model)), _INSIDE)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return data  # such as [DONE]


def _called(data: bytes | Raw, name: Raw, inside: tuple[str, ...]) -> bytes:
    fields = msgspec.json.decode(data, type=dict[str, Raw])
    own = {"model": name} if "model" in fields else {}
    parts = {
        part: Raw(_called(fields[part], name, ())) for part in inside if bytes(fields.get(part, Raw()))[:1] == b"{"
    }
    return msgspec.json.encode(fields | own | parts) if own or parts else bytes(data)


class NamedLines(StreamLines):
    """A stream whose model has the name that its client knows. ``within``: what makes its events whole."""

    def __init__(self, model: str, within: StreamLines | None) -> None:
        super().__init__()
        self._model = model
        self._within = within

    def before(self, line: bytes) -> bytes:
        return b"" if self._within is None else self._within.before(line)

    def whole(self, line: bytes) -> bytes:
        if self._within is not None:
            line = self._within.whole(line)
        if not line.startswith(_DATA):
            return line
        return _DATA + b" " + called(line.removeprefix(_DATA).strip(), self._model)
