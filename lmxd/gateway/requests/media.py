"""Pictures, sound and films in requests: they are in the body itself, and of a kind that the model takes.

Engines fetch what a request names by an address, from wherever the machine reaches: a client of the gateway could look
around in its network so. Names of kinds are those of OpenAI's, Anthropic's, llama-server's and vLLM's APIs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from lmxd.errors import LmxdError
from lmxd.gateway.requests.formats import pixels_of
from lmxd.gateway.requests.wanted import bounded
from lmxd.rpc.books import ModelInfo
from lmxd.text import escaped, shortened

_KINDS: Final = {
    name: kind
    for kind in ("image", "audio", "video")
    for name in (kind, f"{kind}_url", f"input_{kind}", f"input_{kind}_url")
}
"""Type of a part, or the key of its content -> its kind."""
_CALLED: Final = {"image": "pictures", "audio": "sound", "video": "films", "data": "pictures and sound"}
_LISTS: Final = {"images": "image", "multimodal_data": "data"}
"""Keys of which each item is a content, in llama-server's requests for decisions and in its prompts -> its kind."""
_MOST_PIXELS: Final = 2**26
_MOST_TOGETHER: Final = 2**28
"""Pixels of a picture, and of all those of a request: engines take three bytes and more for each."""
_SIGNS: Final = re.compile(rb"image|audio|video|multimodal|\\u00")
"""Words without which a body has no such part; the last of them may hide one."""
_MARK: Final = b"\xef\xbb\xbf"
_SPACES: Final = b" \t\r\n"
"""Bytes that engines skip before an object."""
_ADDRESS: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://")
_WEB: Final = ("http", "https")
_REMEDY: Final = "send them in the request, as data:…;base64,…"
_ALLOWED: Final = "an administrator may let engines fetch them: gateway.remote_media"
_CONTENT: Final = frozenset(("url", "data", *_KINDS))
"""Keys of the content itself, or of its address."""
_NO_PARTS: Final = ("tools", "functions", "response_format", "json_schema")
"""Parameters that describe objects, and are none of a message."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a request that is no text: its kind, and the strings that are its content or its address."""

    kind: str
    contents: tuple[str, ...]


def require_media(body: bytes, model: ModelInfo, *, remote: bool) -> None:
    """LmxdError for parts that the model cannot take, or that are elsewhere. ``remote``: engines may fetch by HTTP.

    ``invalid_request`` where nobody can tell: engines read much that is no JSON.
    """
    if not _SIGNS.search(body):
        return
    try:
        found = msgspec.json.decode(bounded(body))
    except (ValueError, RecursionError) as error:
        what = f"the body may have pictures or sound, and is neither JSON in UTF-8 nor a form: {error}"
        raise LmxdError("invalid_request", what, "send an object, or multipart/form-data") from error
    pixels = 0
    for part in parts(found):
        _require_here(part, remote=remote)
        if model.media is not None:
            _require_taken(part, model)
            pixels += _pixels(part)
    if pixels > _MOST_TOGETHER:
        what = f"the pictures of the request have {pixels // 10**6} million pixels together"
        raise LmxdError("invalid_params", what, f"send fewer, or smaller ones: {_MOST_TOGETHER // 10**6} are the most")


def may_be_object(body: bytes) -> bool:
    """Whether engines may read a body as an object, whatever its type is said to be."""
    return body.removeprefix(_MARK).lstrip(_SPACES)[:1] == b"{"


def parts(found: Any) -> Iterator[Part]:
    """The parts of a request that are no text, at whatever depth."""
    if isinstance(found, dict):
        found = {key: value for key, value in found.items() if key not in _NO_PARTS}
    level = [found]
    while level:
        each = level.pop()
        if isinstance(each, list):
            level.extend(each)
        elif isinstance(each, dict):
            if (kind := _kind(each)) is not None:
                yield Part(kind, tuple(_contents(each)))  # there may be others below it: messages can look like one
            for key, kind in _LISTS.items():
                if isinstance(listed := each.get(key), list):
                    yield from (Part(kind, (item,)) for item in listed if isinstance(item, str))
            level.extend(each.values())


def _kind(part: dict[str, Any]) -> str | None:
    """The kind of a part by its type, else by the key of its content; None if it is none."""
    said = part.get("type")
    if isinstance(said, str) and said in _KINDS:
        return _KINDS[said]
    return next((_KINDS[key] for key in part if key in _KINDS and key not in _CALLED and part[key]), None)


def _contents(part: dict[str, Any]) -> Iterator[str]:
    """All strings of a part that may be its content."""
    level: list[Any] = [part]
    while level:
        for key, value in level.pop().items():
            if isinstance(value, dict):
                level.append(value)
            elif isinstance(value, str) and value and key in _CONTENT:
                yield value


def _require_here(part: Part, *, remote: bool) -> None:
    """LmxdError ``invalid_params`` for what is elsewhere."""
    for content in part.contents:
        match = _ADDRESS.match(content)
        if match is None or (remote and match[1].lower() in _WEB):
            continue
        allowed = f"; {_ALLOWED}" if match[1].lower() in _WEB else ""
        what = f"{_CALLED[part.kind]} are not fetched from elsewhere: {escaped(shortened(content.strip(), 80))}"
        raise LmxdError("invalid_params", what, f"{_REMEDY}{allowed}")


def _require_taken(part: Part, model: ModelInfo) -> None:
    """LmxdError ``invalid_params`` for what the model cannot take, or that is not there."""
    taken, called = model.media or (), _CALLED[part.kind]
    if not taken or (part.kind in ("image", "audio") and part.kind not in taken):
        words = f"its projector (mmproj) is for {_CALLED[taken[0]]} alone" if taken else "it has no projector (mmproj)"
        remedy = "name one that does, of /v1/models; an administrator gives a model a projector by the key mmproj"
        raise LmxdError("invalid_params", f"{model.model} takes no {called}: {words}", remedy)
    if not part.contents:
        raise LmxdError("invalid_params", f"a part for {called} has neither a url nor data", _REMEDY)


def _pixels(part: Part) -> int:
    """The pixels of a part's pictures. LmxdError ``invalid_params`` if they are too many, or it cannot be read."""
    together = 0
    for content in part.contents:
        if _ADDRESS.match(content):
            continue
        if (pixels := pixels_of(content)) is None:
            what = f"{_CALLED[part.kind]} are in no known format: {escaped(shortened(content.strip(), 80))}"
            raise LmxdError("invalid_params", what, "send PNG, JPEG, GIF, BMP or WebP; WAV, MP3 or FLAC; MP4 or WebM")
        if pixels > _MOST_PIXELS:
            what = f"a picture has {pixels // 10**6} million pixels"
            raise LmxdError("invalid_params", what, f"send a smaller one: {_MOST_PIXELS // 10**6} are the most")
        together += pixels
    return together
