"""The header reader: what it reads, and what hostile or broken files cost (an error, never more)."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc

import pytest
import synthetic
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from lmxd.gguf import header as h
from lmxd.gguf.facts import Unsupported, model_of
from lmxd.gguf.footprint import footprint
from lmxd.gguf.header import Array, Header, HeaderError, read_header
from lmxd.gguf.launch import Launch


def read(data: bytes, size: int | None = None) -> Header:
    return read_header(io.BytesIO(data), len(data) if size is None else size)


def small() -> tuple[bytes, int]:
    return synthetic.header(
        {
            "general.architecture": "llama",
            "a.number": 7,
            "a.flag": True,
            "a.float": 0.5,
            "a.layers": [1, 2, 3],
            "a.words": ["one", "two"],
        },
        [("token_embd.weight", (64, 10), "q8_0"), ("blk.0.attn_q.weight", (64, 64), "f16")],
    )


def test_metadata_and_tensors() -> None:
    data, size = small()
    found = read(data, size)
    assert found.metadata["general.architecture"] == "llama"
    assert found.metadata["a.number"] == 7
    assert found.metadata["a.flag"] is True
    assert found.metadata["a.float"] == 0.5
    assert found.metadata["a.layers"] == Array(3, (1, 2, 3))
    assert found.metadata["a.words"] == Array(2, None)
    assert [(t.name, t.shape, t.type.name, t.nbytes) for t in found.tensors] == [
        ("token_embd.weight", (64, 10), "q8_0", 640 // 32 * 34),
        ("blk.0.attn_q.weight", (64, 64), "f16", 8192),
    ]
    assert found.size == size


def test_a_large_vocabulary_is_counted_not_kept() -> None:
    words = [f"word{i}" for i in range(100_000)]
    data, size = synthetic.header({"general.architecture": "llama", "tokenizer.ggml.tokens": words}, [])
    assert read(data, size).metadata["tokenizer.ggml.tokens"] == Array(100_000, None)


def test_version_2_is_read() -> None:
    data, size = synthetic.header({"general.architecture": "llama"}, [], version=2)
    assert read(data, size).metadata["general.architecture"] == "llama"


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_a_file_that_ends_in_the_header(cut: int) -> None:
    data, _ = small()
    with pytest.raises(HeaderError):
        read(data[: min(cut, len(data) - 1)])


def test_a_file_that_ends_in_its_tensors() -> None:
    data, size = small()
    with pytest.raises(HeaderError, match="cut short"):
        read(data, size - 1)


def _with(kv: bytes, n_keys: int = 1, n_tensors: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys) + kv


def _key(name: str) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode()


HOSTILE = {
    "not a GGUF file: it begins with 'PK": b"PK\x03\x04" + bytes(60),
    "version 1 is not": _with(b"", version=1),
    "big-endian": b"GGUF" + struct.pack(">I", 3) + bytes(16),
    "more than": _with(b"", n_keys=2**63),
    "keys and": _with(b"", n_tensors=2**40, n_keys=0),
    "name of": _with(struct.pack("<Q", 2**60)),
    "not UTF-8": _with(struct.pack("<Q", 2) + b"\xff\xfe" + struct.pack("<I", 0) + b"\0"),
    "unknown value type": _with(_key("k") + struct.pack("<I", 99)),
    "unsupported type": _with(_key("k") + struct.pack("<IIQ", 9, 9, 3)),
    "past the end": _with(_key("k") + struct.pack("<IQ", 8, 2**62)),
    "too much in one header": _with(_key("k") + struct.pack("<IIQ", 9, 8, 2**50)),
    "ends past": _with(_key("k") + struct.pack("<IIQ", 9, 4, 2**61)),
    "runs past": _with(_key("k") + struct.pack("<IIQ", 9, 4, 8000)),
    "a string of": _with(_key("k") + struct.pack("<IIQ", 9, 8, 2) + struct.pack("<Q", 2**63) + bytes(8)),
    "occurs twice": _with(2 * (_key("k") + struct.pack("<IB", 0, 1)), n_keys=2),
    "no alignment": _with(_key("general.alignment") + struct.pack("<II", 4, 0)),
    "dimensions": _with(_key("t") + struct.pack("<I", 9), n_keys=0, n_tensors=1),
    "does not know": _with(_key("t") + struct.pack("<IQIQ", 1, 32, 4711, 0), n_keys=0, n_tensors=1),
    "cannot have the shape": _with(_key("t") + struct.pack("<IQIQ", 1, 33, 8, 0), n_keys=0, n_tensors=1),
    "cannot have": _with(_key("t") + struct.pack("<IQIQ", 1, 0, 0, 0), n_keys=0, n_tensors=1),
    "not a multiple": _with(_key("t") + struct.pack("<IQIQ", 1, 32, 0, 7), n_keys=0, n_tensors=1),
}


@pytest.mark.parametrize("message", HOSTILE)
def test_hostile_headers_are_named(message: str) -> None:
    with pytest.raises(HeaderError, match=message):
        read(HOSTILE[message])


@pytest.mark.parametrize("message", HOSTILE)
def test_hostile_headers_cost_no_memory(message: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(HeaderError):
            read(HOSTILE[message], 2**40)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_header_without_end_is_given_up() -> None:
    """A file that claims to be huge and delivers strings for ever costs no more than the limit of strings."""

    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return bytes(size or 0)

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

    start = _with(_key("k") + struct.pack("<IIQ", 9, 8, h.MAX_WORK - 100), n_keys=h.MAX_KEYS)

    class Hostile(Endless):
        first = True

        def read(self, size: int | None = -1) -> bytes:
            if self.first:
                self.first = False
                return start
            return super().read(size)

    with pytest.raises(HeaderError):
        read_header(Hostile(), 2**50)


@given(st.data())
@settings(max_examples=examples(400))
def test_any_damage_ends_in_an_error_or_a_header(data: st.DataObject) -> None:
    good, size = small()
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 6))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(bad), size)
    except HeaderError:
        return
    assert all(t.nbytes >= 0 for t in found.tensors)


@given(st.binary(max_size=300))
@settings(max_examples=examples(200))
def test_any_bytes_end_in_an_error_or_a_header(tail: bytes) -> None:
    with contextlib.suppress(HeaderError):
        read(b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + tail)


REAL_ENOUGH = synthetic.header(*synthetic.speaking(synthetic.llama_8b()))
"""Of a real model's size: 291 tensors, a vocabulary of 128,256."""


@given(
    st.lists(st.tuples(st.integers(0, len(REAL_ENOUGH[0]) - 1), st.integers(0, 255)), min_size=1, max_size=8), st.data()
)
@settings(max_examples=examples(60))
def test_a_damaged_real_header_ends_in_an_error_or_a_model(changes: list[tuple[int, int]], data: st.DataObject) -> None:
    good, size = REAL_ENOUGH
    bad = bytearray(good)
    for at, byte in changes:
        bad[at] = byte
    cut = data.draw(st.sampled_from([len(bad), len(bad) // 2, 1000]))
    tracemalloc.start()
    try:
        with contextlib.suppress(HeaderError, Unsupported):
            footprint(model_of(read(bytes(bad[:cut]), size)), Launch(context=4096), 1)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("message", HOSTILE)
def test_every_error_says_where(message: str) -> None:
    with pytest.raises(HeaderError, match=r"byte \d+"):
        read(HOSTILE[message])


def test_more_than_any_real_header_has_is_given_up() -> None:
    """Strings without end, keys without end, tensors without end: work is counted, whatever it is spent on."""
    strings = struct.pack("<IIQ", 9, 8, h.MAX_WORK) + struct.pack("<Q", 0) * h.MAX_WORK
    with pytest.raises(HeaderError, match="too much in one header"):
        read(_with(_key("k") + strings))
    tensors = b"".join(_key(f"t{n}") + struct.pack("<IQIQ", 1, 1, 0, 0) for n in range(13_000))
    with pytest.raises(HeaderError, match="too much in one header"):
        read(_with(tensors, n_keys=0, n_tensors=13_000))


def test_arrays_are_kept_only_as_far_as_they_can_be_meant() -> None:
    array = struct.pack("<IIQ", 9, 4, h.MAX_KEPT_ARRAY) + bytes(4 * h.MAX_KEPT_ARRAY)
    many = b"".join(_key(f"k{n}") + array for n in range(64))
    found = read(_with(many + bytes(64), n_keys=64, n_tensors=0))
    kept = [a for a in found.metadata.values() if isinstance(a, Array) and a.values is not None]
    assert len(kept) == h.MAX_KEPT // h.MAX_KEPT_ARRAY
