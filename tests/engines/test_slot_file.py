"""Files of slots, as llama.cpp lays them out: fitted to as many streams as another instance has, or left alone."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmxd.engines.llama_cpp.slot_file import fitted, layout


def file_of(
    tokens: int, streams: int, slot: int, *, layers: int = 2, width: int = 3, transposed: bool = False, version: int = 2
) -> bytes:
    """As ``llama_state_seq_save_file`` writes it."""
    head = struct.pack("<4sII", b"qsgg", version, tokens) + struct.pack(f"<{tokens}I", *range(tokens))
    cells = b"".join(struct.pack("<iIi", at, 1, slot) for at in range(tokens))
    rows = struct.pack("<iQ", 1, width) + bytes([7]) * (width * tokens)
    columns = struct.pack("<iII", 1, 2, width) + bytes([8]) * (2 * width * tokens)
    values = columns if transposed else rows
    rotated = struct.pack("<II", 64, 128) if version > 3 else b""
    data = struct.pack("<II", int(transposed), layers) + rotated + rows * layers + values * layers
    stream = struct.pack("<I", tokens) + cells + data
    return head + struct.pack("<I", streams) + bytes(4 * slot) + stream + bytes(4 * (streams - slot - 1))


@given(
    st.integers(1, 9), st.integers(1, 6), st.integers(0, 5), st.integers(1, 6), st.booleans(), st.integers(1, 3),
    st.sampled_from([2, 3, 4]),
)  # fmt: skip
def test_a_file_is_made_for_any_number_of_streams(
    tmp_path_factory: pytest.TempPathFactory,
    tokens: int,
    had: int,
    slot: int,
    wanted: int,
    turned: bool,
    layers: int,
    version: int,
) -> None:
    slot %= had
    file = tmp_path_factory.mktemp("slots") / "x.bin"
    how: dict[str, Any] = {"layers": layers, "transposed": turned, "version": version}
    file.write_bytes(file_of(tokens, had, slot, **how))
    assert fitted(file, wanted)
    anywhere = [file_of(tokens, wanted, at, **how) for at in range(wanted)]
    cells = struct.pack("<iIi", 0, 1, slot)
    made = file.read_bytes()
    assert len(made) == len(anywhere[0])
    assert cells in made
    with file.open("rb") as saved:
        found = layout(saved)
    assert found is not None
    assert (found.tokens, found.streams) == (tokens, wanted)
    assert made[found.cells_at : found.end] in file_of(tokens, had, slot, **how)
    assert list(file.parent.iterdir()) == [file], "and nothing is left beside it"


WHOLE = file_of(5, 3, 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        WHOLE[:10],
        WHOLE[:-1],
        WHOLE + b"\0",
        WHOLE[:-4] + b"\1\0\0\0",
        b"GGUF" + WHOLE[4:],
        file_of(5, 3, 1, version=5),
        file_of(5, 3, 1)[:4] + b"\4" + file_of(5, 3, 1)[5:],
        WHOLE + WHOLE[32:],
        file_of(0, 2, 0)[:16] + bytes(8),
        file_of(5, 1, 0, layers=0),
    ],
    ids="empty head cut longer two-streams magic version not-rotated two-caches no-tokens no-layers".split(),
)
def test_another_layout_is_left_alone(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(raw)
    assert not fitted(file, 2)
    assert file.read_bytes() == raw


@given(st.binary(max_size=200), st.integers(0, len(WHOLE)))
def test_whatever_a_file_has_it_is_read_to_its_end_at_most(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    file = tmp_path_factory.mktemp("slots") / "x.bin"
    raw = WHOLE[:at] + noise + WHOLE[at + len(noise) :]
    file.write_bytes(raw)
    if not fitted(file, 2):
        assert file.read_bytes() == raw
    else:
        with file.open("rb") as saved:
            assert (found := layout(saved)) is not None
        assert found.streams == 2
