"""The file of a saved slot: a header, the tokens, and the cells of each stream of the cache, one stream for a slot.

llama-server reads a file only where there are as many streams as where it was written. The cells of one slot are in one
stream, and all others are empty; llama.cpp puts them into the stream of the slot that reads them, wherever they stand.
So a file fits any number of streams once the empty ones are left out or added. As read in llama.cpp's
``llama_kv_cache::state_write`` and ``llama_context::state_seq_save_file``; what does not look like that is left alone.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

_MAGIC: Final = b"qsgg"
_ROTATED: Final = {2: 0, 3: 0, 4: 8}
"""The version of a file -> the bytes behind the number of layers: those of 4 say how keys and values are rotated."""
_MOST_STREAMS: Final = 1024
_MOST_LAYERS: Final = 4096
_COUNT: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<4sII")
_CELL: Final = struct.Struct("<iIi")
"""A cell of one sequence: its position, the number of its sequences (1), and that one."""
_BARE_CELL: Final = struct.Struct("<iI")
_ROWS: Final = struct.Struct("<iQ")
"""Of a layer: the type of its numbers, and the bytes of one cell."""
_COLUMNS: Final = struct.Struct("<iII")
"""Of a layer whose values are transposed: their type, the bytes of one, and how many a cell has."""
_CHUNK: Final = 2**26


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotFile:
    """The layout of a file: ``streams``, and where its one stream with cells stands.

    ``tokens``: in it, which from version 3 on are packed with other words. ``counts_at``: where the number of streams
    stands, ``cells_at`` to ``end``: the bytes of that stream.
    """

    tokens: int
    streams: int
    empty_before: int
    counts_at: int
    cells_at: int
    end: int


def fitted(file: Path, streams: int) -> bool:
    """Make the file of a slot one for ``streams`` streams. False, and it is as it was, if its layout is another one.

    Raises OSError.
    """
    with file.open("r+b") as saved:
        found = layout(saved)
        if found is None:
            return False
        if found.streams == streams:
            return True
        if found.empty_before < streams:
            saved.seek(found.counts_at)
            saved.write(_COUNT.pack(streams))
            saved.seek(found.end)
            saved.write(bytes(_COUNT.size * (streams - found.empty_before - 1)))
            saved.truncate()
            return True
        _moved(saved, found, file, streams)
    return True


def _moved(saved: BinaryIO, found: SlotFile, file: Path, streams: int) -> None:
    """Write the file anew, with its cells at the front. Raises OSError."""
    anew = file.with_suffix(".new")
    try:
        with open(anew, "xb", opener=_for_us) as target:
            saved.seek(0)
            target.write(saved.read(found.counts_at))
            target.write(_COUNT.pack(streams))
            _copy(saved, target, found.cells_at, found.end)
            target.write(bytes(_COUNT.size * (streams - 1)))
        anew.replace(file)
    finally:
        with suppress(FileNotFoundError):
            anew.unlink()


def _for_us(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _copy(source: BinaryIO, target: BinaryIO, begin: int, end: int) -> None:
    """Copy bytes within the kernel."""
    target.flush()
    while begin < end:
        done = os.sendfile(target.fileno(), source.fileno(), begin, min(_CHUNK, end - begin))
        if not done:
            raise OSError("a saved slot became shorter while it was read")
        begin += done
    target.seek(0, os.SEEK_END)


def layout(saved: BinaryIO) -> SlotFile | None:
    """The layout of a file; None if it is not that of one slot of a plain cache, from its first byte to its last."""
    try:
        return _layout(saved, saved.seek(0, os.SEEK_END))
    except struct.error:  # it ends too early
        return None


def _layout(saved: BinaryIO, size: int) -> SlotFile | None:
    saved.seek(0)
    magic, version, count = _HEAD.unpack(saved.read(_HEAD.size))
    counts_at = _HEAD.size + _COUNT.size * count
    saved.seek(counts_at)
    streams = _count(saved)
    if magic != _MAGIC or version not in _ROTATED or not 0 < streams <= _MOST_STREAMS:
        return None
    before = 0
    while before < streams and not (cells := _count(saved)):
        before += 1
    if before == streams:
        return None
    cells_at = saved.tell() - _COUNT.size
    end = _end(saved, cells, _ROTATED[version], size)
    rest = _COUNT.size * (streams - before - 1)
    if end is None or end + rest != size or any(saved.read(rest)):
        return None
    return SlotFile(tokens=count, streams=streams, empty_before=before, counts_at=counts_at, cells_at=cells_at, end=end)


def _end(saved: BinaryIO, cells: int, rotated: int, size: int) -> int | None:
    """The end of a stream with so many cells, from behind their number; None if that is not within the file.

    ``rotated``: bytes (``_ROTATED``).
    """
    at = saved.tell()
    _, sequences = _BARE_CELL.unpack(saved.read(_BARE_CELL.size))
    at += cells * (_CELL.size if sequences else _BARE_CELL.size)
    saved.seek(at)
    transposed, layers = _count(saved), _count(saved)
    if transposed > 1 or not 0 < layers <= _MOST_LAYERS:
        return None
    kinds = [_ROWS] * layers + [_COLUMNS if transposed else _ROWS] * layers
    at = saved.seek(rotated, os.SEEK_CUR)
    for kind in kinds:
        _, *figures = kind.unpack(saved.read(kind.size))
        at += kind.size + cells * (figures[0] * figures[1] if kind is _COLUMNS else figures[0])
        if at > size:
            return None
        saved.seek(at)
    return at


def _count(saved: BinaryIO) -> int:
    found: int = _COUNT.unpack(saved.read(_COUNT.size))[0]
    return found
