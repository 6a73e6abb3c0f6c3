"""Formats of pictures, sound and films, and the pixels of a picture before anybody unpacks it.

llama-server takes memory for as many pixels as a picture says it has: gigabytes for one of 54 bytes. All that is in no
format that it reads goes to ffmpeg, if that is there, which may look for files and addresses that are in it.
"""

from __future__ import annotations

import contextlib
import re
import struct
from binascii import a2b_base64
from typing import Final

_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*")
_HEAD: Final = 2**16
"""Characters of a content that are decoded first: it is mostly all that is needed."""
_MOST_SEGMENTS: Final = 1000
"""Segments of a picture before the one with its size."""
_MOST_FILLED: Final = 2**10
"""Bytes between two segments of a JPEG, where some encoders leave a few."""
_FRAMES: Final = (0xC0, 0xC1, 0xC2)
"""Segments of a JPEG with its size: baseline, extended, progressive."""
_MARKER: Final = re.compile(rb"\xff[^\xff]", re.DOTALL)
"""The beginning of a JPEG's segment."""
_NO_PICTURE: Final = re.compile(
    rb"RIFF(.{4}(WAVE|WEBP|AVI )|.{0,7}\Z)|fLaC|ID3|\xff[\xe0-\xff]|.{4}ftyp|\x1aE\xdf\xa3|OggS|FLV", re.DOTALL
)
"""The beginning of sound (WAV, FLAC, MP3), of films (MP4, Matroska, AVI, Ogg, FLV), and of WebP, which ffmpeg reads."""


def pixels_of(content: str) -> int | None:
    """The pixels that the content of a part has, in base64 or as a data: URL. 0: it is no picture, or has no end.

    None for what is in no format that is known, and for a picture that hides its size.
    """
    begin = content.find(",") + 1 if content.startswith("data:") else 0
    for end in (begin + _HEAD, len(content)):
        with contextlib.suppress(struct.error):  # its size may be further on
            return _pixels(_decoded(content, begin, end))
    return 0


def _decoded(content: str, begin: int, end: int) -> bytes:
    """The bytes as far as they are base64, for so far engines read them."""
    text = _BASE64.match(content, begin, end)
    said = text[0] if text else ""
    return a2b_base64((said[:-1] if len(said) % 4 == 1 else said) + "==")


def _pixels(data: bytes) -> int | None:
    """As ``pixels_of``. struct.error if the size is not in it."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _of_png(data)
    if data.startswith(b"\xff\xd8"):
        return _of_jpeg(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _area("<HH", data, 6)
    if data.startswith(b"BM"):
        return _area("<HH" if data[14:15] == b"\x0c" else "<ii", data, 18)
    return 0 if _NO_PICTURE.match(data) else None


def _area(sides: str, data: bytes, at: int) -> int:
    one, other = struct.unpack_from(sides, data, at)
    return abs(int(one) * int(other))


def _of_png(data: bytes) -> int | None:
    at = 8
    for _ in range(_MOST_SEGMENTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IHDR":
            return _area(">II", data, at + 8)
        at += 12 + length
    return None


def _of_jpeg(data: bytes) -> int | None:
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if (marker := _MARKER.search(data, at, at + _MOST_FILLED)) is None:
            if len(data) > at + _MOST_FILLED:
                return None
            raise struct.error("it ends before its size")
        at = marker.end()
        if data[at - 1] in _FRAMES:
            return _area(">HH", data, at + 3)
        at += max(2, struct.unpack_from(">H", data, at)[0])
    return None
