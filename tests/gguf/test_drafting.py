"""Drafting by a model's own layers against what build 11434 printed for real loads in RAM (bench/data/drafting)."""

from __future__ import annotations

import functools
import json
import lzma
from typing import Any

import pytest
import synthetic
from recorded import DATA, named, shape

from lmxd.errors import LmxdError
from lmxd.estimate.arguments import parse
from lmxd.estimate.extras import Extras, added
from lmxd.estimate.footprints import estimate
from lmxd.estimate.learned import Card
from lmxd.gguf.builds import FAMILIES, LATEST
from lmxd.gguf.footprint import Footprint, footprint
from lmxd.gguf.launch import Launch

MIB = 2**20


@functools.cache
def loads() -> list[dict[str, Any]]:
    with lzma.open(DATA / "drafting.jsonl.xz", "rt") as file:
        return [json.loads(line) for line in file]


def launch_of(load: dict[str, Any]) -> Launch:
    return parse(load["flags"]).resolved(named(load["model"]).context).launch


def in_ram(load: dict[str, Any]) -> tuple[Footprint, Footprint]:
    """(the model's own context, that and the context of its drafting layers)."""
    found, launch = named(load["model"]), launch_of(load)
    alone = footprint(found, launch, 0)
    return alone, added(alone, found, launch, 0, Extras(), LATEST) if launch.mtp else alone


def test_there_is_enough_to_compare_with() -> None:
    assert len({load["model"] for load in loads()}) >= 11
    assert {"-fa off", "-ub 2048", "-np 4", "-ctkd q8_0", "-n-max 1"} <= {
        flag for load in loads() for flag in ("-fa off", "-ub 2048", "-np 4", "-ctkd q8_0", "-n-max 1")
        if flag in load["flags"]
    }  # fmt: skip


@pytest.mark.parametrize("load", loads(), ids=lambda load: f"{load['model']} {load['flags']}")
def test_two_contexts_are_what_is_printed(load: dict[str, Any]) -> None:
    alone, both = in_ram(load)
    own, *drafting = load["contexts"]
    launch, found = launch_of(load), named(load["model"])
    assert alone.host.weights / MIB == pytest.approx(load["loaded"]["CPU_Mapped.model"], abs=0.04)
    assert alone.host.kv / MIB == pytest.approx(own.get("CPU.KV", 0.0), abs=0.04)
    assert alone.host.state / MIB == pytest.approx(own.get("CPU.RS", 0.0), abs=0.04)
    output = 4 * launch.slots * (1 + launch.drafted) * found.vocabulary
    error = (alone.host.compute - output) / MIB - own["CPU.compute"]
    if drafting:
        assert (both.host.kv - alone.host.kv) / MIB == pytest.approx(drafting[0]["CPU.KV"], abs=0.04)
        buffer = both.host.compute - alone.host.compute - 4 * launch.slots * found.vocabulary
        error += buffer / MIB - drafting[0]["CPU.compute"]
    assert abs(error) <= 24, "far within 64 MiB"


@pytest.mark.parametrize("load", loads(), ids=lambda load: f"{load['model']} {load['flags']}")
def test_the_error_bar_covers_it(load: dict[str, Any]) -> None:
    found = estimate(named(load["model"]), launch_of(load))
    said = load["loaded"]["CPU_Mapped.model"] + sum(
        size for context in load["contexts"] for kind, size in context.items() if kind != "CPU_Mapped.model"
    )
    launch = launch_of(load)
    outputs = 4 * launch.slots * (1 + launch.drafted + launch.mtp) * named(load["model"]).vocabulary
    buffers = found.host - found.parts.host.overhead - outputs
    assert abs(buffers / MIB - said) <= found.error / MIB
    assert found.sure or "-fa off" in load["flags"] or "-ub 2048" in load["flags"], "nobody waits for a dry run"


@pytest.mark.parametrize(
    ("name", "flags", "own", "drafting"),
    [
        ("glm4moe@mtp", "-c 8192 -np 1", 72.0, 72.0),
        ("glm4moe@mtp", "-c 8192 -np 1 -ctkd q8_0 -ctvd q8_0", 72.0, 38.25),
        ("deepseek2@mtp", "-c 4096 -np 1", 40.5, 40.5),
        ("qwen35@mtp", "-c 8192 -np 4", 16.0, 8.0),
    ],
)
def test_older_builds_cache_all_layers_in_both_contexts(name: str, flags: str, own: float, drafting: float) -> None:
    """As build 10434 printed; 11434 caches 64 and 8 MiB of the first."""
    found, older = named(name), FAMILIES[0]
    launch = parse(f"{flags} --spec-type draft-mtp").resolved(found.context).launch
    alone = footprint(found, launch, 0, older)
    both = added(alone, found, launch, 0, Extras(), older)
    assert (alone.host.kv / MIB, (both.host.kv - alone.host.kv) / MIB) == pytest.approx((own, drafting), abs=0.01)


def test_only_its_own_layers_make_a_model_keep_more_states() -> None:
    """Printed by build 11434: RS 25.12 MiB with two slots, with a draft model beside it and without."""
    hybrid = named("qwen35@mtp")
    drafting, plain = Launch(context=4096, slots=2, drafted=3), Launch(context=4096, slots=2)
    assert footprint(hybrid, drafting, 0).host.state == footprint(hybrid, plain, 0).host.state
    assert footprint(hybrid, plain, 0).host.state / MIB == pytest.approx(25.12, abs=0.01)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("llama31-8b-q4_0", "no layers of its own for drafting"),
        ("exaone-moe@unused", "does not draft with the layers of exaone-moe models"),
    ],
)
def test_a_model_that_cannot_draft_is_refused(name: str, said: str) -> None:
    if name == "exaone-moe@unused":
        metadata, tensors = shape("exaone-moe@small")
        metadata = metadata | {"exaone-moe.block_count": 8, "exaone-moe.nextn_predict_layers": 1}
        found = synthetic.model((metadata, tensors))
    else:
        found = named(name)
    with pytest.raises(LmxdError, match=said) as caught:
        estimate(found, Launch(context=4096, mtp=True, drafted=3))
    assert caught.value.code == "invalid_params"


def test_older_builds_that_drafting_would_end_are_refused_by_name() -> None:
    launch = Launch(context=4096, mtp=True, drafted=1)
    older, newer = FAMILIES[0], FAMILIES[-1]
    with pytest.raises(LmxdError, match="before build 11400 ends itself when glm4moe models draft") as caught:
        estimate(named("glm4moe@mtp"), launch, build=older)
    assert caught.value.code == "invalid_params"
    assert estimate(named("glm4moe@mtp"), launch, build=newer).host > 0
    assert estimate(named("qwen35@mtp"), launch, build=older).host > 0


def test_a_draft_model_may_bring_the_drafting_layers() -> None:
    """``-md HEAD.gguf --spec-type draft-mtp``: the target has none."""
    launch = Launch(context=4096, mtp=True, drafted=3)
    extras = Extras(draft=named("llama32-1b-q8_0"), draft_launch=Launch(context=4096))
    assert estimate(named("llama31-8b-q4_0"), launch, extras=extras).host > 0


def test_on_a_card_drafting_has_a_pool_of_its_own_and_scores_without_flash_attention() -> None:
    card = Card(name="NVIDIA H100 80GB HBM3")

    def fetched(**how: object) -> int:
        launch = Launch(context=8192, **how)  # type: ignore[arg-type]
        return estimate(named("qwen35@mtp"), launch, (card,)).parts.devices[0].overhead

    pool = fetched(mtp=True, drafted=3) - fetched()
    scores = 2 * 8192 * 512 * max(named("qwen35@mtp").heads)
    assert 0 < pool < 32 * MIB
    assert fetched(mtp=True, drafted=3, flash="off") - fetched(flash="off") == pool + scores


def test_three_drafting_layers_are_placed_too() -> None:
    """Each is loaded, each has a cache."""
    metadata, tensors = shape("step35@mtp")
    more = [(name.replace("blk.8.", f"blk.{n}."), dims, kind) for n in (9, 10) for name, dims, kind in tensors
            if name.startswith("blk.8.")]  # fmt: skip
    metadata = metadata | {"step35.block_count": 11, "step35.nextn_predict_layers": 3}
    three = synthetic.model((metadata, [*tensors, *more]))
    launch = Launch(context=4096, mtp=True, drafted=3, gpu_layers=4)
    one = added(footprint(named("step35@mtp"), launch, 1), named("step35@mtp"), launch, 1, Extras(), LATEST)
    found = added(footprint(three, launch, 1), three, launch, 1, Extras(), LATEST)
    assert found.device.kv + found.host.kv == one.device.kv + one.host.kv + 2 * 4 * MIB
    assert found.device.weights + found.host.weights > one.device.weights + one.host.weights
