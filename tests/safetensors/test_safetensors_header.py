"""Headers of safetensors: what is written is read; what is malformed, cut short or hostile is refused, quickly."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest
from hf_directory import LLAMA, llama_tensors, safetensors
from hypothesis import given
from hypothesis import strategies as st

from lmxd.safetensors.documents import DirectoryError
from lmxd.safetensors.header import BITS, MAX_HEADER, MAX_TENSORS, StoredTensor, read_header


def read(data: bytes, size: int | None = None) -> tuple[StoredTensor, ...]:
    return read_header(io.BytesIO(data), len(data) if size is None else size, "m.safetensors")


def file(header: object, data: int = 0, *, length: int | None = None) -> bytes:
    """A file with a header of any shape, and so many bytes of data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data)


def entry(begin: int = 0, end: int = 8, shape: object = (2, 2), kind: object = "BF16") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def test_what_is_written_is_read() -> None:
    wanted = llama_tensors()
    found = {tensor.name: tensor for tensor in read(safetensors(wanted))}
    assert {name: (tensor.type, tensor.shape) for name, tensor in found.items()} == wanted
    assert found["model.embed_tokens.weight"].nbytes == 2 * LLAMA["vocab_size"] * LLAMA["hidden_size"]


@pytest.mark.parametrize("kind", sorted(BITS))
def test_each_type_has_its_bytes(kind: str) -> None:
    size = -(-6 * BITS[kind] // 8)
    (found,) = read(file({"t": entry(0, size, (2, 3), kind)}, size))
    assert (found.type, found.nbytes) == (kind, size)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "has 0 bytes"),
        (b"\x00" * 7, "has 7 bytes"),
        (file({}, length=2**63), "the file has"),
        (file({}, length=100), "the file has"),
        (file(b"[]"), "is a list, not an object"),
        (file(b"{"), "cannot be read"),
        (file(b"\xff\xff"), "cannot be read"),
        (file(b'{"a": 1, "a": 2}'), "key 'a' occurs twice"),
        (file(b"[" * 200_000), "nested too deeply"),
        (file(b'{"t": ' + b"9" * 5_000 + b"}"), "a number of 5000 digits"),
        (file({"t": 1}), "described by no object"),
        (file({"t": entry(kind="F9")}, 8), "the type 'F9'"),
        (file({"t": entry(kind=["F32"])}, 8), "the type ['F32']"),
        (file({"t": entry(kind="F" * 10_000)}, 8), "which is not known here (set estimated_memory_gb)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d",
            "a pointer of Git LFS, not the weights (run git lfs",
        ),
        (b"<!DOCTYPE html><html>", "a page of HTML or XML, not the weights (fetch the model again)"),
        (file({"t" * 10_000: entry(4, 12)}, 12), "leaves a hole"),
        (file({"t": entry(shape=(-2, -2))}, 8), "cannot be"),
        (file({"t": entry(shape=(True, 4))}, 8), "cannot be"),
        (file({"t": entry(shape=(2.0, 2))}, 8), "cannot be"),
        (file({"t": entry(shape=(1,) * 9)}, 8), "cannot be"),
        (file({"t": entry(shape=(2**48, 2))}, 8), "cannot be"),
        (file({"t": entry(0, 7)}, 8), "does not take 7 bytes"),
        (file({"t": entry(8, 0)}, 8), "does not take -8 bytes"),
        (file({"a": entry(), "b": entry(4, 12)}, 12), "'b' overlaps another"),
        (file({"a": entry(), "b": entry()}, 8), "overlaps another"),
        (file({"a": entry(), "b": entry(16, 24)}, 24), "'b' leaves a hole before it"),
        (file({"a": entry()}, 4), "is cut short"),
        (file({"a": entry()}, 9), "goes on after its tensors"),
        (file({str(n): entry(0, 0, (0,)) for n in range(MAX_TENSORS + 1)}), "at most"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_none_says_why(data: bytes, sentence: str) -> None:
    with pytest.raises(DirectoryError) as caught:
        read(data)
    assert sentence in str(caught.value)
    assert "m.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 400, "a hostile file fills no log"


def test_a_header_beyond_the_limit_is_not_read() -> None:
    class Counting(io.BytesIO):
        most = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.most = max(self.most, size or 0)
            return super().read(size)

    there = Counting(struct.pack("<Q", MAX_HEADER + 1))
    with pytest.raises(DirectoryError, match="is the most"):
        read_header(there, 2**40, "m.safetensors")
    assert there.most <= 8


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    try:
        found = read(data)
    except DirectoryError:
        return
    assert sum(tensor.nbytes for tensor in found) < len(data)


@given(st.data())
def test_a_changed_byte_is_refused_or_tells_of_the_same_bytes(data: st.DataObject) -> None:
    """A header of which one byte is another, or that ends early: its tensors still fill the file and no more."""
    whole = safetensors({"a": ("F32", (3, 5)), "b": ("BF16", (4,)), "c": ("I8", (7,))})
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] = data.draw(st.integers(0, 255))
    cut = bytes(changed[: data.draw(st.sampled_from([len(whole), at]))])
    try:
        found = read(cut)
    except DirectoryError:
        return
    (length,) = struct.unpack("<Q", cut[:8])
    assert sum(tensor.nbytes for tensor in found) == len(cut) - 8 - length
