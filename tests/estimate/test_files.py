"""Model files on disk: split ones, hostile ones, and how a profile finds its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import synthetic

from lmxd.catalog.model_files import find_model
from lmxd.errors import LmxdError
from lmxd.estimate.files import is_read, read_model
from lmxd.gguf.footprint import footprint
from lmxd.gguf.launch import Launch


def parts() -> tuple[dict[str, Any], list[synthetic.Shape]]:
    return synthetic.decoder(
        "llama", layers=4, embedding=64, heads=4, kv_heads=2, feed_forward=128, vocabulary=100, head=32
    )


def split(directory: Path, count: int = 3, **changes: Any) -> Path:
    metadata, tensors = parts()
    for number in range(count):
        mine = tensors[number::count]
        about = {"split.no": number, "split.count": count, "split.tensors.count": len(tensors)} | changes
        head = metadata if number == 0 else {}
        synthetic.write(directory / f"m-{number + 1:05}-of-{count:05}.gguf", head | about, mine)
    return directory / f"m-00001-of-{count:05}.gguf"


def test_a_split_model_is_the_same_as_a_whole_one(tmp_path: Path) -> None:
    whole = read_model(synthetic.write(tmp_path / "whole.gguf", *parts()))
    found = read_model(split(tmp_path))
    launch = Launch(context=4096)
    assert footprint(found, launch, 1).devices == footprint(whole, launch, 1).devices
    no_map = Launch(context=4096, mmap=False)
    assert footprint(found, no_map, 0) == footprint(whole, no_map, 0)


def test_split_models_that_do_not_add_up(tmp_path: Path) -> None:
    first = split(tmp_path)
    with pytest.raises(LmxdError, match="not the first part"):
        read_model(tmp_path / "m-00002-of-00003.gguf")
    first.rename(tmp_path / "renamed.gguf")
    with pytest.raises(LmxdError, match="its name is not NAME-00001-of-00003"):
        read_model(tmp_path / "renamed.gguf")
    (tmp_path / "renamed.gguf").rename(first)
    (tmp_path / "m-00003-of-00003.gguf").unlink()
    with pytest.raises(LmxdError, match="m-00003-of-00003") as caught:
        read_model(first)
    assert caught.value.code == "model_file_missing"


def test_a_part_of_another_model_is_noticed(tmp_path: Path) -> None:
    first = split(tmp_path, **{"split.tensors.count": 99})
    with pytest.raises(LmxdError, match="not 99: a part belongs to another model"):
        read_model(first)


def test_what_is_not_a_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.gguf")
    for path in (tmp_path / "fifo.gguf", tmp_path, Path("/dev/zero")):
        with pytest.raises(LmxdError, match="not a regular file"):
            read_model(path)
    (tmp_path / "loop.gguf").symlink_to(tmp_path / "loop.gguf")
    for name in ("none.gguf", "loop.gguf", "x" * 300):
        with pytest.raises(LmxdError) as caught:
            read_model(tmp_path / name)
        assert caught.value.code == "model_file_missing"


@pytest.mark.parametrize("content", [b"", b"GGUF", b"hello" * 100, b"GGUF" + bytes(5000)])
def test_what_is_not_a_model_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(LmxdError, match=r"m\.gguf") as caught:
        read_model(tmp_path / "m.gguf")
    assert caught.value.code == "bad_model_file"


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "m.gguf", *parts())
    assert not is_read(path)
    first = read_model(path)
    assert is_read(path)
    assert read_model(path) is first
    metadata, tensors = parts()
    synthetic.write(path, metadata | {"llama.context_length": 8192}, tensors)
    os.utime(path, (1, 1))
    assert read_model(path).context == 8192


def test_how_a_profile_finds_its_file(tmp_path: Path) -> None:
    for name in (
        "Llama-3.1-8B-Q4_K_M",
        "qwen-a",
        "qwen-b",
        "big-00001-of-00002",
        "big-00002-of-00002",
        "exact",
        "exact-2",
    ):
        (tmp_path / f"{name}.gguf").touch()
    assert find_model(tmp_path, "llama-3.1-8b").name == "Llama-3.1-8B-Q4_K_M.gguf"
    assert find_model(tmp_path, "big").name == "big-00001-of-00002.gguf"
    assert find_model(tmp_path, "exact").name == "exact.gguf"
    (tmp_path / "best-of-breed.gguf").touch()
    assert find_model(tmp_path, "best").name == "best-of-breed.gguf", "no part of a split, whatever it sounds like"
    with pytest.raises(LmxdError, match=r"could be qwen-a.gguf, qwen-b.gguf"):
        find_model(tmp_path, "qwen")
    with pytest.raises(LmxdError, match=r"there is no nope.gguf"):
        find_model(tmp_path, "nope")
    with pytest.raises(LmxdError, match="No such file"):
        find_model(tmp_path / "none", "m")
