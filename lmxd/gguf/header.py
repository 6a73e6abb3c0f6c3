"""Reads the header of a GGUF file: metadata and tensor table, never the tensors.

The file is untrusted. Every length is checked against a limit before anything is read or
kept, and work is counted, so a hostile header costs a tenth of a second and a few megabytes,
and ends in a ``HeaderError`` that says where and why. Format: ggml's docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeAlias

from lmxd.gguf.types import TENSOR_TYPES, TensorType

MAX_HEADER: Final = 128 * 2**20
"""Bytes. These limits are far above any real file's: a hostile one is refused before it costs much."""
MAX_WORK: Final = 1_000_000
"""In strings passed over, a tenth of a microsecond each. The largest real headers have 780,000."""

MAX_KEYS: Final = 8_192
MAX_TENSORS: Final = 16_384
MAX_KEPT: Final = 262_144
"""Figures kept of all arrays together."""

MAX_KEPT_ARRAY: Final = 8_192
MAX_KEPT_STRING: Final = 65_536
MAX_NAME: Final = 1_024
_KEY_WORK: Final = 30
_TENSOR_WORK: Final = 80
_LENGTH: Final = struct.Struct("<Q")
_CHUNK: Final = 256 * 1024

Scalar: TypeAlias = int | float | bool | str


class HeaderError(ValueError):
    """The error for a file that is no usable GGUF file. The message says where, why and what to do."""


@dataclass(frozen=True, slots=True)
class Array:
    """An array of the metadata: its length, and its values if they are few and numeric (per-layer figures are)."""

    length: int
    values: tuple[int | float | bool, ...] | None


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file: its name, shape, type and place."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int
    part: int = 0
    """The file of a split model that it is in, counted from 0."""

    @property
    def nbytes(self) -> int:
        """Bytes of its data. Row length is a multiple of the block (checked on reading)."""
        count = 1
        for n in self.shape:
            count *= n
        return count // self.type.block * self.type.size


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a GGUF file: its metadata and its tensors.

    ``size`` is the least that the file must hold: header and all tensor data, in bytes.
    """

    metadata: Mapping[str, Scalar | Array]
    tensors: tuple[Tensor, ...]
    size: int


# type number -> struct code, for the fixed-size value types
_FIXED: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING: Final = 8
_ARRAY: Final = 9


def read_header(file: BinaryIO, file_size: int) -> Header:
    """Parse the header at the start of ``file``, which holds ``file_size`` bytes.

    Raises HeaderError for anything malformed, cut short, or beyond the limits above.
    """
    cursor = _Cursor(file, file_size)
    try:
        return _read(cursor)
    except HeaderError as error:
        if "byte" in str(error):
            raise
        raise HeaderError(f"{error} (at byte {cursor.offset})") from error
    except (struct.error, OverflowError) as error:
        raise HeaderError(f"malformed header at byte {cursor.offset}: {error}") from error


def _read(c: _Cursor) -> Header:
    if (magic := c.take(4)) != b"GGUF":
        raise HeaderError(f"not a GGUF file: it begins with {repr(magic)[1:]}, not with 'GGUF'")
    (version,) = c.unpack("<I")
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        if swapped in (2, 3):
            raise HeaderError("a big-endian GGUF file: convert it to little-endian")
        raise HeaderError(f"GGUF version {version} is not supported (2 and 3 are): convert the file anew")
    n_tensors, n_keys = c.unpack("<QQ")
    if n_keys > MAX_KEYS or n_tensors > MAX_TENSORS:
        raise HeaderError(f"{n_keys} keys and {n_tensors} tensors are more than {MAX_KEYS} and {MAX_TENSORS}")
    metadata = _metadata(c, n_keys)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 2**20:
        raise HeaderError(f"general.alignment is {alignment!r}, which is no alignment")
    tensors = _tensors(c, n_tensors, alignment)
    start = -(-c.offset // alignment) * alignment
    end = start + max((t.offset + t.nbytes for t in tensors), default=0)
    if end > c.file_size:
        raise HeaderError(f"the file is cut short: its tensors end at byte {end}, the file at {c.file_size}")
    return Header(metadata=metadata, tensors=tensors, size=end)


def _metadata(c: _Cursor, n_keys: int) -> dict[str, Scalar | Array]:
    metadata: dict[str, Scalar | Array] = {}
    for _ in range(n_keys):
        c.spend(_KEY_WORK)
        key = c.name("key")
        if key in metadata:
            raise HeaderError(f"key {key!r} occurs twice")
        (kind,) = c.unpack("<I")
        metadata[key] = _array(c, key) if kind == _ARRAY else _scalar(c, key, kind)
    return metadata


def _scalar(c: _Cursor, key: str, kind: int) -> Scalar:
    if kind == _STRING:
        (length,) = c.unpack("<Q")
        if length > MAX_KEPT_STRING:
            c.skip(length, f"the value of {key!r}")
            return ""
        return c.take(length).decode("utf-8", "replace")
    if kind not in _FIXED:
        raise HeaderError(f"key {key!r} has the unknown value type {kind}")
    value: Scalar = c.unpack("<" + _FIXED[kind])[0]
    return value


def _array(c: _Cursor, key: str) -> Array:
    kind, length = c.unpack("<IQ")
    if kind == _STRING:
        c.skip_strings(length, key)
        return Array(length, None)
    if kind not in _FIXED:
        raise HeaderError(f"key {key!r} is an array of the unsupported type {kind}")
    item = struct.calcsize("<" + _FIXED[kind])
    if length > MAX_KEPT_ARRAY or not c.keeps(length):
        c.skip(length * item, f"the array {key!r}")
        return Array(length, None)
    return Array(length, c.unpack(f"<{length}{_FIXED[kind]}"))


def _tensors(c: _Cursor, count: int, alignment: int) -> tuple[Tensor, ...]:
    tensors = []
    names: set[str] = set()
    for _ in range(count):
        c.spend(_TENSOR_WORK)
        name = c.name("tensor")
        if name in names:
            raise HeaderError(f"tensor {name!r} occurs twice")
        names.add(name)
        tensors.append(_tensor(c, name, alignment))
    return tuple(tensors)


def _tensor(c: _Cursor, name: str, alignment: int) -> Tensor:
    (n_dims,) = c.unpack("<I")
    if not 1 <= n_dims <= 4:
        raise HeaderError(f"tensor {name!r} has {n_dims} dimensions: 1 to 4 are possible")
    shape = c.unpack(f"<{n_dims}Q")
    number, offset = c.unpack("<IQ")
    if number not in TENSOR_TYPES:
        raise HeaderError(
            f"tensor {name!r} has type {number}, which this lmxd does not know: set estimated_memory_gb for the model"
        )
    kind = TENSOR_TYPES[number]
    if any(not 0 < n < 2**40 for n in shape) or shape[0] % kind.block:
        raise HeaderError(f"tensor {name!r} cannot have the shape {shape} in {kind.name}")
    if offset % alignment:
        raise HeaderError(f"tensor {name!r} begins at {offset}, which is not a multiple of {alignment}")
    return Tensor(name, shape, kind, offset)


class _Cursor:
    """A forward reader over a file that keeps one chunk and counts what it has consumed."""

    def __init__(self, file: BinaryIO, file_size: int) -> None:
        self.file_size = file_size
        self._file = file
        self._buffer = b""
        self._at = 0
        self._base = 0
        self._work = 0
        self._kept = 0

    @property
    def offset(self) -> int:
        return self._base + self._at

    def spend(self, work: int) -> None:
        """Count what reading costs, and give up where it is more than any real file does."""
        self._work += work
        if self._work > MAX_WORK:
            raise HeaderError(f"too much in one header: given up at byte {self.offset}, after {MAX_WORK} strings or so")

    def keeps(self, figures: int) -> bool:
        """Returns whether so many more figures may be kept."""
        self._kept += figures
        return self._kept <= MAX_KEPT

    def take(self, n: int) -> bytes:
        self._need(n)
        taken = self._buffer[self._at : self._at + n]
        self._at += n
        return taken

    def unpack(self, code: str) -> tuple[int, ...]:
        return struct.unpack(code, self.take(struct.calcsize(code)))

    def name(self, what: str) -> str:
        (length,) = self.unpack("<Q")
        if length > MAX_NAME:
            raise HeaderError(f"a {what} name of {length} bytes at byte {self.offset}: {MAX_NAME} at most")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise HeaderError(f"a {what} name at byte {self.offset} is not UTF-8") from error

    def skip(self, n: int, what: str) -> None:
        if n > self.file_size - self.offset:
            raise HeaderError(f"{what} ends past the end of the file (byte {self.file_size})")
        ahead = len(self._buffer) - self._at
        if n <= ahead:
            self._at += n
            return
        self._base, self._buffer, self._at = self.offset + n, b"", 0
        self._file.seek(n - ahead, 1)

    def skip_strings(self, count: int, key: str) -> None:
        """Pass over an array of strings. A vocabulary has 262,144 of them: this loop is the cost of a cold read."""
        self.spend(count)
        while count:
            self._need(8)
            passed, at = _pass_over(self._buffer, self._at, count)
            count -= passed
            self.skip(at - self._at, f"a string of {key!r}")

    def _need(self, n: int) -> None:
        """Have ``n`` bytes in the buffer, or say that the file ends."""
        missing = n - (len(self._buffer) - self._at)
        if missing <= 0:
            return
        if self.offset + n > min(self.file_size, MAX_HEADER):
            where = "of the file" if self.offset + n > self.file_size else "that a header may take"
            raise HeaderError(f"the header runs past the end {where}, at byte {self.offset}")
        fresh = self._file.read(max(missing, _CHUNK))
        self._base, self._buffer, self._at = self.offset, self._buffer[self._at :] + fresh, 0
        if len(self._buffer) < n:
            raise HeaderError(f"the file ends in the header, at byte {self._base + len(self._buffer)}")


def _pass_over(buffer: bytes, at: int, most: int) -> tuple[int, int]:
    """(strings passed over, where the next begins), as far as ``buffer`` goes."""
    passed = 0
    try:
        for passed in range(most):  # noqa: B007 (it is how far the loop got)
            at += 8 + _LENGTH.unpack_from(buffer, at)[0]
    except (struct.error, OverflowError):
        return passed, at
    return most, at
