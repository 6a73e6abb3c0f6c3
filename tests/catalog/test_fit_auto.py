"""``fit: auto``: the most of a model that goes on the GPU now, the rest in RAM, within what profile and request say."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.layout import RAM_ID, Layout
from lmxd.catalog.options import Room
from lmxd.catalog.size import Size
from lmxd.config.file import parse
from lmxd.core.words import Ask, DeviceId, Option
from lmxd.devices.measurement import DeviceKind
from lmxd.errors import ConfigError, LmxdError

GIB = 2**30
CARD = DeviceId("GPU-a")
LAYOUT = Layout({CARD: DeviceKind.GPU, RAM_ID: DeviceKind.HOST})


def catalog(tmp_path: Path, profile: str, sparse: bool = False) -> Catalog:
    synthetic.write(tmp_path / "m.gguf", *(synthetic.qwen3_30b_a3b() if sparse else synthetic.llama_8b()))
    return Catalog(parse(f"model_dir: {tmp_path}\nmodels: {{m: {profile}}}", "test"))


def room(free: float, ceiling: float = 80) -> Room:
    return Room(free={CARD: int(free * GIB), RAM_ID: 100 * GIB}, ceiling={CARD: int(ceiling * GIB), RAM_ID: 100 * GIB})


def ask(made: Catalog, free: float, least: int | None = None, ceiling: float = 80) -> Ask:
    return made.resolve("m", Size(min_gpu_layers=least)).ask(LAYOUT, room(free, ceiling))


def best(found: Ask, free: float) -> Option | None:
    fitting = [o for o in found.options if o.demand[CARD] <= free * GIB]
    return min(fitting, key=lambda o: o.spills, default=None)


@pytest.mark.parametrize("free", [1.2, 1.5, 2.75, 4.0])
def test_the_most_layers_that_fit_now_go_on_the_gpu(tmp_path: Path, free: float) -> None:
    resolved = catalog(tmp_path, "{fit: auto}").resolve("m")
    chosen = best(resolved.ask(LAYOUT, room(free)), free)
    assert chosen is not None
    better = resolved.offloads()[chosen.spills - 1]
    more = resolved.placed(Option(demand={CARD: 0}, gpu_layers=better.layers, in_ram=better.in_ram))
    assert resolved.sizing.charge(more, (CARD,))[0][0] > free * GIB >= chosen.demand[CARD], "a matrix more does not fit"
    assert chosen.gpu_layers is not None
    assert chosen.demand[RAM_ID] > (33 - chosen.gpu_layers) * 100 * 2**20, "the others are charged in RAM"


@pytest.mark.parametrize("free", [3.0, 8.0, 14.0])
def test_experts_make_way_before_layers(tmp_path: Path, free: float) -> None:
    chosen = best(ask(catalog(tmp_path, "{fit: auto}", sparse=True), free), free)
    assert chosen is not None
    assert chosen.gpu_layers == 49
    assert "exps" in chosen.in_ram


def test_all_of_it_is_the_first_choice_and_alone_without_fit_auto(tmp_path: Path) -> None:
    found = ask(catalog(tmp_path, "{fit: auto}"), 40)
    assert best(found, 40) == found.options[0]
    assert (found.options[0].spills, found.options[0].gpu_layers) == (0, None)
    assert [o.spills for o in ask(catalog(tmp_path, "{}"), 1).options] == [0]


def test_what_could_ever_fit_is_a_choice_too(tmp_path: Path) -> None:
    found = ask(catalog(tmp_path, "{fit: auto}"), 0, ceiling=3.1)
    possible = best(found, 3.1)
    assert possible is not None
    assert 3.1 * GIB - possible.demand[CARD] < 200 * 2**20, "no layer more would fit"


def test_a_request_may_bound_it_from_below(tmp_path: Path) -> None:
    made = catalog(tmp_path, "{fit: auto, min_gpu_layers: 10}")
    for least, bound in ((None, 10), (5, 10), (20, 20), (33, 33), (999, 33)):
        found = ask(made, 0.8, least)
        assert min(33 if o.gpu_layers is None else o.gpu_layers for o in found.options) == bound
        assert len(made.resolve("m", Size(min_gpu_layers=least)).offloads()) == found.spills + 1
    sparse = catalog(tmp_path, "{fit: auto}", sparse=True)
    assert sparse.resolve("m", Size(min_gpu_layers=40)).offloads()[-1].experts == 9
    assert {o.gpu_layers for o in ask(sparse, 3, 40).options} == {None, 49}


def test_a_bound_that_cannot_be_is_said(tmp_path: Path) -> None:
    made = catalog(tmp_path, "{gpu_layers: 12}")
    assert len(ask(made, 40, 12).options) == 1
    with pytest.raises(LmxdError, match=r"min_gpu_layers is 13, but models\.m has 12 on a GPU") as refused:
        ask(made, 40, 13)
    assert (refused.value.code, refused.value.remedy) == ("invalid_params", "ask for 12 at most")
    with pytest.raises(ConfigError, match=r"min_gpu_layers is for fit: auto"):
        catalog(tmp_path, "{min_gpu_layers: 3}")
    with pytest.raises(ConfigError, match=r"fit"):
        catalog(tmp_path, "{fit: some}")


def test_ram_that_is_not_counted_is_warned_of(tmp_path: Path) -> None:
    made = catalog(tmp_path, "{fit: auto}")
    assert made.warnings([CARD]) == []
    only = Catalog(parse(f"model_dir: {tmp_path}\ngpu: {{device: 0}}\nmodels: {{m: {{fit: auto}}}}", "test"))
    assert only.warnings([CARD]) == ["models.m.fit: what runs in RAM is not counted: add host to gpu.devices"]


def test_an_instance_serves_whom_it_is_fast_enough_for(tmp_path: Path) -> None:
    made = catalog(tmp_path, "{fit: auto}")
    slow, patient, demanding = (ask(made, 1.5, least) for least in (None, 2, 30))
    chosen = best(slow, 1.5)
    assert chosen is not None
    assert demanding.spills < chosen.spills <= patient.spills


def test_a_declared_size_is_divided_as_the_estimate_is(tmp_path: Path) -> None:
    chosen = best(ask(catalog(tmp_path, "{fit: auto, estimated_memory_gb: 30}", sparse=True), 8), 8)
    assert chosen is not None
    assert "exps" in chosen.in_ram


def test_what_would_fit_counts_what_may_run_in_ram(tmp_path: Path) -> None:
    made = catalog(tmp_path, "{fit: auto, context_length: 131072}")
    found = ask(made, 0, ceiling=2)
    assert made.what_would_fit(found, {CARD: 2 * GIB, RAM_ID: 2 * GIB}, LAYOUT) is None
    fits = made.what_would_fit(found, {CARD: 2 * GIB, RAM_ID: 12 * GIB}, LAYOUT)
    assert fits is not None
    assert 256 <= fits < 131072


def test_layers_on_a_gpu_are_not_promised_in_ram(tmp_path: Path) -> None:
    made, ram = catalog(tmp_path, "{fit: auto, min_gpu_layers: 3}"), Layout({RAM_ID: DeviceKind.HOST})
    assert made.resolve("m", Size()).ask(ram).options, (
        "a profile that is served where there is a GPU is served here, too"
    )
    with pytest.raises(LmxdError, match="min_gpu_layers is 3, but m runs in RAM alone here") as refused:
        made.resolve("m", Size(min_gpu_layers=3)).ask(ram)
    assert (refused.value.code, refused.value.remedy) == ("invalid_params", "leave it out")
