"""Lists of models: one that cannot be used is named with its fault, and takes nothing away from the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from gateway.front import opened
from house import House, card, model

from lmxd.catalog.resolved import Resolved
from lmxd.engines.llama_cpp.binary import Binary
from lmxd.engines.llama_cpp.dry_run import DryRunner
from lmxd.errors import LmxdError

BAD = {
    "gone": {"path": "/nowhere/x.gguf"},
    "junk": {"path": "junk.gguf"},
    "directory": {"path": "directory.gguf"},
    "loop": {"path": "loop.gguf"},
    "part": {"path": "part-00001-of-00002.gguf"},
    "stretched": {"context_length": 2**20},
    "word": {"path": "/nowhere/y.gguf", "estimated_memory_gb": 1},
}


def house(directory: Path, nvml: FakeNvml) -> House:
    (directory / "junk.gguf").write_bytes(b"junk")
    (directory / "directory.gguf").mkdir()
    (directory / "loop.gguf").symlink_to("loop.gguf")
    model(directory, "part-00001-of-00002")
    model(directory, "good")
    made = House(directory, nvml, models={})
    model(directory, "stretched")
    made.write(models={"good": {}} | BAD)
    return made


@pytest.mark.parametrize("cards", [0, 1, 2])
async def test_every_list_has_the_good_ones_and_names_the_bad(tmp_path: Path, cards: int) -> None:
    made = house(tmp_path, FakeNvml(*(card(uuid=f"GPU-{n}") for n in range(cards))))
    async with opened(made) as front, made.client() as client:
        listed = {m.model: m for m in (await client.models()).models}
        assert listed.keys() == {"good"} | BAD.keys()
        assert (listed["good"].problem, bool(listed["good"].bytes)) == (None, True)
        assert all(listed[name].problem for name in BAD if name != "part"), listed
        ids = {x["id"] for x in json.loads((await front.ask("/v1/models", method="GET")).text)["data"]}
        tags = {x["name"] for x in json.loads((await front.ask("/api/tags", method="GET")).text)["models"]}
        assert ids == tags == set(listed)
        for name in listed:
            assert (await front.ask("/api/show", {"model": name})).status == 200
            assert (await front.ask(f"/v1/models/{name}", method="GET")).status == 200
        assert (await front.chat("good")).status == 200


class _FailingDisk:
    """Reads no header: its disk fails, as nobody foresaw."""

    def __init__(self, resolved: Resolved) -> None:
        self._resolved = resolved

    def __getattr__(self, name: str) -> Any:
        return getattr(self._resolved, name)

    def is_warm(self) -> bool:
        raise OSError(5, "Input/output error")


async def test_a_fault_that_nobody_foresaw_is_that_model_s_alone(tmp_path: Path) -> None:
    made = House(tmp_path, models={"a": {}, "b": {}})
    async with made.open(), made.client() as client:
        catalog = made.daemon.present.catalog
        resolve = catalog.resolve
        catalog.resolve = lambda name, *more: (  # type: ignore[method-assign,assignment]
            _FailingDisk(resolve(name, *more)) if name == "a" else resolve(name, *more)
        )
        a, b = (await client.models()).models
        assert a.problem is not None
        assert "Input/output error" in a.problem
        assert b.problem is None


def test_a_dry_run_whose_binary_or_model_is_gone_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    gone = DryRunner(Binary(tmp_path / "llama-server", "1", frozenset()))
    with pytest.raises(LmxdError, match="No such file") as error:
        gone.known(model(tmp_path, "m"), (), 0)
    assert (error.value.code, bool(error.value.remedy)) == ("engine_missing", True)
