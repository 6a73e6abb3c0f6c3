"""What was observed corrects what is promised: upwards where it must, and for this card, driver and build only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from lmxd.estimate import contexts
from lmxd.estimate.backends import Backend
from lmxd.estimate.estimator import Estimator, fingerprint
from lmxd.estimate.footprints import OBSERVED, estimate
from lmxd.estimate.learned import Card, Learned, Observation, kept
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model

MIB = 2**20
CARD = Card(name="NVIDIA GeForce RTX 4060", driver="580.1", build="11434")


def eight() -> Model:
    return synthetic.model(synthetic.llama_8b())


def seen(
    loaded: int, prompted: int = 0, buffers: int = 5000, predicted: int = 5020, launch: str = "x", file: str = "f"
) -> Observation:
    return Observation(
        card=CARD,
        launch=launch,
        file=file,
        model="m",
        buffers=buffers * MIB,
        predicted=predicted * MIB,
        loaded=loaded * MIB,
        prompted=prompted * MIB,
    )


def test_the_prior_is_stated_and_its_doubt_too() -> None:
    unheard = replace(CARD, name="NVIDIA Something 9000")
    found = estimate(eight(), Launch(context=4096), (unheard,))
    assert found.parts.device.overhead >= contexts.UNKNOWN
    assert found.error > 400 * MIB
    assert any("CUDA context" in note for note in found.notes)
    assert found.sure, "which is not about the buffers"


def test_a_context_is_learned_from_the_first_launch() -> None:
    before = estimate(eight(), Launch(context=4096), (CARD,))
    after = estimate(eight(), Launch(context=4096), (CARD,), learned=Learned((seen(5120),)))
    assert before.device - after.device == contexts.prior(CARD).size - 120 * MIB
    assert after.error < 64 * MIB
    assert after.notes == ()


def test_an_instance_that_was_prompted_too_soon_does_not_spoil_the_context() -> None:
    learned = Learned((seen(5120), seen(5280, launch="y"), seen(5121, launch="z")))
    assert learned.context(CARD) == (121 * MIB, 8 * MIB)


@pytest.mark.parametrize(
    "other",
    [
        replace(CARD, driver="590.2"),
        replace(CARD, build="11500"),
        replace(CARD, name="NVIDIA L4"),
        replace(CARD, backend=Backend.VULKAN),
    ],
)
def test_another_driver_build_backend_or_card_starts_anew(other: Card) -> None:
    assert Learned((seen(5120),)).context(other) is None


def test_slices_of_one_name_are_told_apart_by_their_multiprocessors() -> None:
    small, large = (replace(CARD, multiprocessors=sms) for sms in (14, 28))
    learned = Learned((replace(seen(5120), card=small),))
    assert learned.context(small) == (120 * MIB, 8 * MIB)
    assert learned.context(large) is None


def test_what_was_seen_before_multiprocessors_were_noted_still_counts() -> None:
    card = replace(CARD, multiprocessors=24, compute=(8, 9))
    learned = Learned((seen(5120),))
    assert learned.context(card) == (120 * MIB, 8 * MIB)
    (merged,) = kept(learned.observations, replace(seen(5122), card=card), 8)
    assert (merged.card, merged.count) == (card, 2), "one launch, and the card as it is known now"


def test_what_a_model_exceeded_once_is_added_to_its_next_launches() -> None:
    """The context is 120 MiB; with what was predicted it made 5,140, and 5,200 were taken."""
    learned = Learned((seen(5120, prompted=5200),))
    assert learned.shortfall(CARD, "f") == 60 * MIB
    of_it, of_another = (
        estimate(eight(), Launch(context=4096), (CARD,), learned=learned, file=file).device for file in ("f", "g")
    )
    assert of_it - of_another == 60 * MIB


def test_an_exact_repeat_takes_what_it_took(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "m.gguf", *synthetic.llama_8b())
    launch = Launch(context=4096)
    same = replace(seen(4900, prompted=5000), launch=fingerprint(path, launch))
    estimator = Estimator(learned=Learned((same,)))
    found = estimator.estimate(path, launch, (CARD,))
    assert (found.basis, found.device) == (OBSERVED, 5000 * MIB)
    assert estimator.estimate(path, replace(launch, context=8192), (CARD,)).basis != OBSERVED
    assert estimator.estimate(path, launch, (replace(CARD, driver="x"),)).basis != OBSERVED
    synthetic.write(path, *synthetic.qwen3_4b())
    assert estimator.estimate(path, launch, (CARD,)).basis != OBSERVED, "another file under the same name"


def test_without_flash_attention_longer_prompts_may_take_more(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "m.gguf", *synthetic.llama_8b())
    launch = Launch(context=32768, flash="off")
    same = replace(seen(4900, prompted=5000), launch=fingerprint(path, launch))
    found = Estimator(learned=Learned((same,))).estimate(path, launch, (CARD,))
    assert found.device > 6000 * MIB


@given(st.lists(st.tuples(st.integers(4000, 9000), st.integers(0, 9000), st.integers(0, 3)), min_size=1, max_size=12))
def test_no_correction_goes_below_what_was_measured(figures: list[tuple[int, int, int]]) -> None:
    observations: tuple[Observation, ...] = ()
    for loaded, prompted, launch in figures:
        observations = kept(observations, seen(loaded, prompted, launch=str(launch)), 8)
    learned = Learned(observations)
    context = learned.context(CARD)
    if context is None:  # a process that took less than its buffers tells nothing
        assert all(o.loaded < o.buffers for o in observations)
        return
    assert context[0] >= 0
    for o in observations:
        assert o.predicted + context[0] + learned.shortfall(CARD, "f") >= max(o.prompted, o.loaded)


def test_observations_are_merged_and_bounded() -> None:
    merged = kept((seen(5120, prompted=5130),), seen(5125, prompted=5100), 8)
    assert [(o.loaded, o.prompted, o.count) for o in merged] == [(5125 * MIB, 5130 * MIB, 2)]
    many: tuple[Observation, ...] = ()
    for n in range(20):
        many = kept(many, seen(5120, launch=str(n)), 8)
    assert [o.launch for o in many] == [str(n) for n in range(12, 20)]
