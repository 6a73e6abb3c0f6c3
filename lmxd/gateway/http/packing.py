"""Packed bodies (Content-Encoding), unpacked a little at a time: a megabyte of them may be a gigabyte."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_AT_ONCE: Final = 64 * 1024
"""Bytes that one step makes at most; others have their turn after each."""
_MOST_MEMBERS: Final = 1024
"""Streams that a body is made of, one after the other: each takes a time of its own, and may be empty."""


class _Member(Protocol):
    """One stream of a packed body. ValueError, or an error of the library's, if it is none."""

    def unpack(self, data: bytes) -> bytes:
        """The next bytes that come of what was given so far and of ``data``."""

    @property
    def hungry(self) -> bool:
        """Whether nothing more comes without more data."""

    @property
    def rest(self) -> bytes | None:
        """The data after its end; None if it has not come to it."""


class _Zlib:
    """gzip and deflate, the latter with and without zlib's frame, as clients send both."""

    def __init__(self, window: int) -> None:
        self._window, self._object = window, zlib.decompressobj(window)
        self._left, self._begun = b"", False

    def unpack(self, data: bytes) -> bytes:
        if not self._begun and data:
            self._begun = True
            if self._window == zlib.MAX_WBITS and data[0] & 0x0F != zlib.DEFLATED:
                self._object = zlib.decompressobj(-zlib.MAX_WBITS)
        made = self._object.decompress(self._left + data, _AT_ONCE)
        self._left = self._object.unconsumed_tail
        self.hungry = not self._left and len(made) < _AT_ONCE
        return made

    hungry = True

    @property
    def rest(self) -> bytes | None:
        return self._object.unused_data if self._object.eof else None


class _Brotli:
    """br."""

    def __init__(self) -> None:
        self._object = brotli.Decompressor()

    def unpack(self, data: bytes) -> bytes:
        made: bytes = self._object.process(data, output_buffer_limit=_AT_ONCE)
        self.hungry = not made  # it says that it can take more while it has something to give
        return made

    hungry = True

    @property
    def rest(self) -> bytes | None:
        return b"" if self._object.is_finished() else None


class _Zstd:
    """zstd."""

    def __init__(self) -> None:
        self._object = zstd.ZstdDecompressor()

    def unpack(self, data: bytes) -> bytes:
        return self._object.decompress(data, _AT_ONCE)

    @property
    def hungry(self) -> bool:
        return self._object.needs_input

    @property
    def rest(self) -> bytes | None:
        return self._object.unused_data if self._object.eof else None


_MEMBERS: Final[dict[str, Callable[[], _Member]]] = {
    "gzip": lambda: _Zlib(16 + zlib.MAX_WBITS),
    "deflate": lambda: _Zlib(zlib.MAX_WBITS),
    "br": _Brotli,
    "zstd": _Zstd,
}
ENCODINGS: Final = ("identity", *_MEMBERS)


class Unpacking:
    """A body of one of ENCODINGS, unpacked as it comes."""

    def __init__(self, encoding: str) -> None:
        self._make = _MEMBERS.get(encoding)
        self._member: _Member | None = None
        self._members = 0

    @property
    def is_work(self) -> bool:
        """Whether each piece takes time, after which others are to have their turn."""
        return self._make is not None

    @property
    def whole(self) -> bool:
        """Whether it may end here."""
        return self._member is None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """More data unpacked, in small pieces, of which some are empty. ValueError if it is not so packed."""
        if self._make is None:
            yield data
            return
        try:
            while data or not (self._member is None or self._member.hungry):
                if self._member is None:
                    self._members += 1
                    if self._members > _MOST_MEMBERS:
                        raise ValueError(f"it has more than {_MOST_MEMBERS} streams")
                    self._member = self._make()
                made, data = self._member.unpack(data), b""
                if (rest := self._member.rest) is not None:
                    self._member, data = None, rest
                yield made
        except (zlib.error, brotli.error, zstd.ZstdError) as error:
            raise ValueError(f"it is not so packed: {error}") from error
