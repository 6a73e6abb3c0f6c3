"""A second opinion: asked where the closed form is unsure, the larger figure counts, and disagreement is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import synthetic

from lmxd.errors import LmxdError
from lmxd.estimate.backends import Backend
from lmxd.estimate.estimator import Estimator
from lmxd.estimate.learned import Card
from lmxd.gguf.builds import FAMILIES, LATEST, family
from lmxd.gguf.launch import Launch

MIB = 2**20
H100 = Card(name="NVIDIA H100 80GB HBM3")


@dataclass
class Opinion:
    weights: int
    context: int
    compute: int


@dataclass
class Opinions:
    devices: list[Opinion]
    host: Opinion


@dataclass
class Oracle:
    """Says what it was told to say, and remembers what it was asked."""

    answer: Opinions | LmxdError
    asked: list[Sequence[str]] = field(default_factory=list)

    def ask(self, model: Path, words: Sequence[str], cards: int) -> Opinions:
        self.asked.append(words)
        if isinstance(self.answer, LmxdError):
            raise self.answer
        return self.answer

    def known(self, model: Path, words: Sequence[str], cards: int) -> Opinions | None:
        return None


def opinions(compute: int = 0, weights: int = 0, context: int = 0) -> Opinions:
    return Opinions([Opinion(weights * MIB, context * MIB, compute * MIB)], Opinion(0, 0, 0))


@pytest.fixture
def eight(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path / "m.gguf", *synthetic.llama_8b())


def test_where_the_closed_form_is_sure_nobody_is_asked(eight: Path) -> None:
    oracle = Oracle(opinions())
    found = Estimator(second=oracle).estimate(eight, Launch(context=8192), (H100,))
    assert (found.basis, oracle.asked) == ("closed-form", [])


def test_where_it_is_unsure_the_larger_figure_counts(eight: Path) -> None:
    unsure = Launch(context=65536, flash="off")
    alone = Estimator().estimate(eight, unsure, (H100,))
    larger, smaller = Oracle(opinions(compute=20000)), Oracle(opinions(compute=1))
    more = Estimator(second=larger).estimate(eight, unsure, (H100,))
    assert more.parts.device.compute == 20000 * MIB
    assert more.basis == "closed-form+dry-run"
    assert any("compute" in note and "20000.0 by the dry run" in note for note in more.notes)
    assert Estimator(second=smaller).estimate(eight, unsure, (H100,)).device == alone.device
    assert "-fa" in larger.asked[0]


@dataclass
class Memory(Oracle):
    """Knows what it was asked before."""

    def known(self, model: Path, words: Sequence[str], cards: int) -> Opinions | None:
        return self.ask(model, words, cards) if words in self.asked else None


def test_what_is_read_ahead_for_a_card_is_found_when_it_is_asked(eight: Path) -> None:
    """Weights that the CPU would rearrange are the same to a launch on a card: it rearranges none beside one."""
    memory = Memory(opinions(compute=20000))
    estimator = Estimator(second=memory)
    said = Launch(context=65536, flash="off", repack=frozenset({"q4_0"}))
    assert not estimator.settled(eight, said, (H100,))
    estimator.estimate(eight, said, (H100,))
    assert estimator.settled(eight, said, (H100,))
    assert said.beside(0).repack, "in RAM"
    assert not said.beside(1).repack


def test_more_weights_or_cache_in_the_second_source_count_too(eight: Path) -> None:
    more = Estimator(second=Oracle(opinions(weights=9000, context=3000)), always=True)
    found = more.estimate(eight, Launch(context=8192), (H100,)).parts.device
    assert found.weights == 9000 * MIB
    assert found.kv == 3000 * MIB


def test_an_unknown_build_is_asked(eight: Path) -> None:
    oracle = Oracle(opinions())
    unknown = family("99999", frozenset())
    assert not unknown.known
    found = Estimator(second=oracle, build=unknown).estimate(eight, Launch(context=8192), (H100,))
    assert len(oracle.asked) == 1
    assert any("build" in note for note in found.notes)


@pytest.mark.parametrize(
    ("version", "flags", "first", "known"),
    [
        ("11434 (9a2b3c4)", frozenset(), 11400, True),
        ("10434 (x)", frozenset(), 10068, True),
        ("10092 (x)", frozenset(), 10068, True),
        ("10067 (x)", frozenset(), 10068, False),
        ("10900 (x)", frozenset(), 10068, False),
        ("11399 (x)", frozenset(), 10068, False),
        ("0.6.0-dev (build 0, commit unknown)", frozenset({"--fit", "--kv-unified-per-slot"}), 11400, True),
        ("0.1.0-dev (build 1, commit 7e4c0a9)", frozenset({"--fit"}), 10068, True),
        ("0.1.0", frozenset(), 10068, False),
        ("12000 (y)", frozenset(), 11400, False),
    ],
)
def test_builds_are_recognised(version: str, flags: frozenset[str], first: int, known: bool) -> None:
    found = family(version, flags)
    assert (found.first, found.known) == (first, known)


def test_an_older_build_takes_less_for_its_inputs(eight: Path) -> None:
    old, new = (
        Estimator(build=build).estimate(eight, Launch(context=8192), (H100,)).device for build in (FAMILIES[0], LATEST)
    )
    assert new - old == 4 * 512 * 4096


def test_a_model_that_the_closed_form_does_not_cover(tmp_path: Path) -> None:
    metadata, tensors = synthetic.llama_8b()
    renamed = {key.replace("llama.", "qwen4exp."): value for key, value in metadata.items()}
    path = synthetic.write(tmp_path / "m.gguf", renamed | {"general.architecture": "qwen4exp"}, tensors)
    with pytest.raises(LmxdError, match="does not cover 'qwen4exp'"):
        Estimator().estimate(path, Launch(context=4096), (H100,))
    found = Estimator(second=Oracle(opinions(100, 4000, 500))).estimate(path, Launch(context=4096), (H100,))
    assert found.basis == "dry-run"
    assert found.device > 4600 * MIB
    assert [context.source for context in found.contexts] == ["prior of compute 9.0, 132 SMs"]
    vulkan = replace(H100, backend=Backend.VULKAN)
    less_sure = Estimator(second=Oracle(opinions(100, 4000, 500))).estimate(path, Launch(context=4096), (vulkan,))
    assert less_sure.error > found.error + 256 * MIB
    assert any("Vulkan" in note for note in less_sure.notes)
    failing = Oracle(LmxdError("bad_model_file", "it crashed"))
    with pytest.raises(LmxdError, match=r"qwen4exp.*it crashed"):
        Estimator(second=failing).estimate(path, Launch(context=4096), (H100,))


def test_a_second_source_that_fails_is_a_note(eight: Path) -> None:
    failing = Oracle(LmxdError("engine_missing", "built without shared libraries"))
    found = Estimator(second=failing).estimate(eight, Launch(context=65536, flash="off"), (H100,))
    assert found.basis == "closed-form"
    assert any("built without shared libraries" in note for note in found.notes)


def test_the_impatient_take_only_what_is_known(eight: Path) -> None:
    oracle = Oracle(opinions(compute=20000))
    found = Estimator(second=oracle, patient=False).estimate(eight, Launch(context=65536, flash="off"), (H100,))
    assert (found.basis, oracle.asked) == ("closed-form", [])
