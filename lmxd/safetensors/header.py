"""Reads the header of a file of safetensors: the names, types and places of its tensors, never the tensors.

The file is untrusted: its sizes are checked against limits and against the file before anything is read or kept.
Format: 8 bytes of length, that much JSON, then the data without a hole (safetensors' README, "Format").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeGuard

from lmxd.safetensors.documents import DirectoryError, json_object

MAX_HEADER: Final = 32 * 2**20
"""Bytes. The largest header of a real shard has 2 MB; safetensors itself takes 100 MB, which is seconds of work."""
MAX_TENSORS: Final = 131_072
"""Tensors of one file. Kimi K2's shards have 5,000, a whole model in one file 60,000."""
MAX_SHAPE: Final = 8
_LENGTH: Final = struct.Struct("<Q")
_POINTER: Final = b"version "
"""The beginning of what git leaves in the place of a large file where git-lfs is not installed."""
_PAGE: Final = b"<"
"""The beginning of an error that was saved in the place of a file."""

BITS: Final[dict[str, int]] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("BF16", "F16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of an element, by the type's name."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file: its type by name, its shape and its bytes."""

    name: str
    type: str
    shape: tuple[int, ...]
    nbytes: int


def read_header(file: BinaryIO, file_size: int, name: str) -> tuple[StoredTensor, ...]:
    """The tensors in ``file``, which holds ``file_size`` bytes; ``name`` is for messages.

    DirectoryError for anything malformed, cut short, overlapping, or beyond the limits above.
    """
    begin = file.read(_LENGTH.size)
    if len(begin) < _LENGTH.size:
        raise DirectoryError(f"{name} has {len(begin)} bytes, which is no file of safetensors")
    (length,) = _LENGTH.unpack(begin)
    if length > min(MAX_HEADER, file_size - _LENGTH.size):
        if begin == _POINTER:
            raise DirectoryError(f"{name} is a pointer of Git LFS, not the weights", "run git lfs pull where it is")
        if begin.startswith(_PAGE):
            raise DirectoryError(f"{name} is a page of HTML or XML, not the weights")
        where = f"the file has {file_size}" if length > file_size - _LENGTH.size else f"{MAX_HEADER} is the most"
        raise DirectoryError(f"{name} says that its header has {length} bytes, but {where}")
    text = file.read(length)
    if len(text) < length:
        raise DirectoryError(f"{name} ends in its header")
    return _tensors(json_object(text, name), file_size - _LENGTH.size - length, name)


def _tensors(entries: dict[str, Any], data: int, name: str) -> tuple[StoredTensor, ...]:
    entries.pop("__metadata__", None)
    if len(entries) > MAX_TENSORS:
        raise DirectoryError(f"{name} has {len(entries)} tensors: {MAX_TENSORS} at most")
    placed = [_tensor(key, entry, name) for key, entry in entries.items()]
    end = 0
    for begin, tensor in sorted(placed, key=lambda item: (item[0], item[1].nbytes)):
        if begin != end:
            fault = "overlaps another" if begin < end else "leaves a hole before it"
            raise DirectoryError(f"{name}: tensor {tensor.name[:128]!r} {fault}, at byte {begin} of the data")
        end = begin + tensor.nbytes
    if end != data:
        fault = "is cut short" if end > data else "goes on after its tensors"
        raise DirectoryError(f"{name} {fault}: its tensors take {end} bytes, the file has {data}")
    return tuple(tensor for _, tensor in placed)


def _tensor(key: str, entry: object, name: str) -> tuple[int, StoredTensor]:
    """(where it begins in the data, the tensor)."""
    where = f"{name}: tensor {key[:128]!r}"
    if not isinstance(entry, dict):
        raise DirectoryError(f"{where} is described by no object")
    kind, shape, offsets = (entry.get(part) for part in ("dtype", "shape", "data_offsets"))
    if not isinstance(kind, str) or kind not in BITS:
        raise DirectoryError(f"{where} has the type {kind!r:.64}, which is not known here", "set estimated_memory_gb")
    if not _whole(shape) or not _whole(offsets) or len(shape) > MAX_SHAPE or len(offsets) != 2:
        raise DirectoryError(f"{where} has the shape {shape!r:.64} at {offsets!r:.64}, which cannot be")
    count = 1
    for n in shape:
        count *= n
    begin, end = offsets
    if end - begin != -(-count * BITS[kind] // 8):
        raise DirectoryError(f"{where} of {count} x {kind} does not take {end - begin} bytes")
    return begin, StoredTensor(key, kind, tuple(shape), end - begin)


def _whole(numbers: object) -> TypeGuard[list[int]]:
    """Whether it is a list of whole numbers that sizes can be."""
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 2**48 for n in numbers)
