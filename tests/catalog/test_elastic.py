"""Elastic contexts in the catalog: the launch of a step, the size that a lease grows to, and what is charged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
from house import model

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.layout import Layout
from lmxd.catalog.model_files import ModelFiles
from lmxd.catalog.size import Size
from lmxd.config.file import parse
from lmxd.config.values import NEVER
from lmxd.core.words import FOREVER, Ask, DeviceId
from lmxd.devices.measurement import DeviceKind
from lmxd.errors import LmxdError
from lmxd.estimate.starts import ConversationSizes, KnownStarts

GIB = 2**30
CARD = DeviceId("GPU-a")
GPU = Layout({CARD: DeviceKind.GPU})
TWELVE = "{context_length: 32768, slots: 12, elastic: {start: 4096, steps: [16384]}}"


def catalog(tmp_path: Path, profile: str = TWELVE) -> Catalog:
    model(tmp_path, "m")  # it was trained for 32,768 tokens
    return Catalog(parse(f"model_dir: {tmp_path}\nmodels: {{m: {profile}}}", "test"))


def asked(made: Catalog, size: Size = Size()) -> Ask:
    return made.resolve("m", size).ask(GPU)


def charged(ask: Ask) -> int:
    (option,) = ask.options
    return option.demand[CARD]


def test_a_lease_starts_small_and_any_context_is_a_step(tmp_path: Path) -> None:
    made = catalog(tmp_path)
    assert made.steps("m") == (4096, 16384, 32768)
    found = [(ask.context, ask.spread) for ask in (asked(made, Size(ctx=n)) for n in (None, 1, 4096, 4097, 20000))]
    assert found == [(4096, 12), (4096, 12), (4096, 12), (16384, 3), (32768, 1)]
    assert asked(made).elastic


def test_an_instance_of_a_larger_step_has_no_more_cells_than_one_of_the_first(tmp_path: Path) -> None:
    made = catalog(tmp_path)
    launches = [made.resolve("m", Size(ctx=n)).launch for n in made.steps("m")]
    cells = [launch.cells * launch.streams for launch in launches]
    assert cells == [12 * 4096, 3 * 16384, 32768]
    fixed = catalog(tmp_path, "{context_length: 32768, slots: 12}")
    assert charged(asked(fixed)) > max(charged(asked(made, Size(ctx=n))) for n in made.steps("m"))


def test_a_lease_of_several_slots_has_them_at_each_step(tmp_path: Path) -> None:
    ask = asked(catalog(tmp_path), Size(ctx=30000, slots=2))
    assert (ask.context, ask.slots, ask.spread) == (32768, 2, 2)


def test_instances_of_a_fixed_and_of_an_elastic_context_can_serve_each_others_leases(tmp_path: Path) -> None:
    elastic, fixed = asked(catalog(tmp_path)), asked(catalog(tmp_path, "{context_length: 32768, slots: 12}"))
    assert elastic.kind == fixed.kind
    assert not fixed.elastic


def test_a_need_is_grown_to_the_least_step_that_has_it(tmp_path: Path) -> None:
    made, had = catalog(tmp_path), Size(slots=1, priority=3, share=False)
    assert made.grown("m", had, 5000) == replace(had, ctx=16384)
    assert made.grown("m", had, 32768) == replace(had, ctx=32768)
    with pytest.raises(LmxdError, match=r"ctx is 32769, but m grows to 32768 tokens at most") as refused:
        made.grown("m", had, 32769)
    assert refused.value.code == "invalid_params"
    assert "raise context_length of models.m" in (refused.value.remedy or "")


def test_a_fixed_context_does_not_grow(tmp_path: Path) -> None:
    made = catalog(tmp_path, "{context_length: 32768}")
    assert made.steps("m") == ()
    with pytest.raises(LmxdError, match="the context of m is fixed: its leases do not grow") as refused:
        made.grown("m", Size(), 5000)
    assert "set context: elastic in models.m" in (refused.value.remedy or "")


def test_an_instance_is_started_at_the_size_that_it_was_admitted_with_whatever_the_steps_are_now(
    tmp_path: Path,
) -> None:
    admitted = asked(catalog(tmp_path), Size(ctx=16384))
    later = catalog(tmp_path, "{context_length: 32768, slots: 20, elastic: {start: 8192}}")
    launch = later.resolve("m", Size.of(admitted)).launch
    assert (launch.context, launch.slots) == (16384, 3)


def test_a_declared_size_is_that_of_the_start_and_larger_steps_add_the_difference(tmp_path: Path) -> None:
    word = catalog(tmp_path, "{context_length: 32768, context: elastic, estimated_memory_gb: 2}")
    formula = catalog(tmp_path, "{context_length: 32768, context: elastic}")
    more = charged(asked(formula, Size(ctx=32768))) - charged(asked(formula))
    assert charged(asked(word)) == 2 * GIB
    assert more > 0
    assert charged(asked(word, Size(ctx=32768))) == 2 * GIB + more


def test_the_top_may_be_what_the_model_was_trained_for(tmp_path: Path) -> None:
    assert catalog(tmp_path, "{context_length: 0, context: elastic}").steps("m") == (4096, 16384, 32768)


@pytest.mark.parametrize(
    ("profile", "warning"),
    [
        (
            "{context_length: 0, elastic: {start: 32768}}",
            "models.m.elastic: nothing grows, for the model was trained for 32768 tokens: set a smaller start, or take",
        ),
        ("{context_length: 65536, context: elastic}", "models.m: ctx is 65536, but m was trained for 32768 tokens"),
    ],
)
def test_what_only_the_file_tells_is_warned_of(tmp_path: Path, profile: str, warning: str) -> None:
    (found,) = catalog(tmp_path, profile).warnings([CARD])
    assert found.startswith(warning)


def test_a_good_profile_is_not_warned_of(tmp_path: Path) -> None:
    assert catalog(tmp_path).warnings([CARD]) == []


def test_what_goes_with_the_model_decides_whether_a_conversation_is_carried(tmp_path: Path) -> None:
    assert catalog(tmp_path).resolve("m").not_carried is None
    beside = catalog(tmp_path, f"{{context_length: 32768, context: elastic, draft: {tmp_path / 'm.gguf'}}}")
    assert "drafts" in (beside.resolve("m").not_carried or "")
    (tmp_path / "m.gguf").write_bytes(b"no model")
    assert "does not tell" in (Catalog(beside.config).resolve("m").not_carried or "")


def test_a_file_of_one_cache_fits_any_number_of_slots(tmp_path: Path) -> None:
    """That of a model with windows, too, whose layout is none that lmxd could change."""
    profile = "context_length: 32768, swa_full: true, slots: 4, elastic: {start: 4096}"
    apart, one = (catalog(tmp_path, f"{{{profile}, kv_unified: {said}}}") for said in ("false", "true"))
    synthetic.write(tmp_path / "m.gguf", *synthetic.gemma3_12b())
    assert "as many slots" in (apart.resolve("m").not_carried or "")
    assert one.resolve("m").not_carried is None


@pytest.mark.parametrize(
    ("now", "used", "found"),
    [
        (32768, (), 4096),
        (32768, (3200,), 4096),
        (32768, (3277,), 16384),  # with a quarter more it has no room in 4,096
        (32768, (100, 13107, 5), 16384),
        (32768, (13108,), None),
        (16384, (3000,), 4096),
        (16384, (4000,), None),
        (4096, (1,), None),
    ],
)
def test_an_instance_may_be_as_small_as_its_conversations_and_a_quarter_more(
    tmp_path: Path, now: int, used: tuple[int, ...], found: int | None
) -> None:
    had = Size(ctx=now, slots=2, share=False)
    size = None if found is None else replace(had, ctx=found, exact=True)
    assert catalog(tmp_path).smaller("m", had, used, None) == size


@pytest.mark.parametrize(
    ("now", "used", "found"),
    [
        (16, (), 4),
        (16, (1000, 0, 2000, 200), 4),
        (16, (1000, 0, 2000, 300), 8),  # with a quarter more they have no room in 4,096
        (16, (10,) * 5, 8),  # each needs a slot
        (16, (9000, 4000), None),
        (4, (10,), None),
    ],
)
def test_one_cache_for_all_may_be_as_small_as_its_conversations_together(
    tmp_path: Path, now: int, used: tuple[int, ...], found: int | None
) -> None:
    had = Size(ctx=1024 * now, slots=now)
    made = catalog(tmp_path, "{context_length: 16384, kv_unified: true, slots: 4, elastic: {start: 1024}}")
    size = None if found is None else replace(had, ctx=1024 * found, slots=found, exact=True)
    assert made.smaller("m", had, used, None) == size


def test_one_cache_for_all_may_have_more_tokens_than_the_model_was_trained_for(tmp_path: Path) -> None:
    """llama-server caps each of its slots at that."""
    shares = "kv_unified: true, slots: 32, elastic: {start: 1024}"
    made = catalog(tmp_path, f"{{context_length: 32768, {shares}}}")
    larger = asked(made, Size(bounded=True, beside=63))
    assert (larger.context, larger.spread) == (65536, 64)
    assert charged(larger) > charged(asked(made))
    (warning,) = catalog(tmp_path, f"{{context_length: 65536, {shares}}}").warnings([CARD])
    assert warning.startswith("models.m: ctx is 65536, but m was trained for 32768 tokens")


def test_it_is_not_smaller_than_what_its_user_starts_with(tmp_path: Path) -> None:
    made, alice = catalog(tmp_path), (1, "alice")
    sizes = ConversationSizes(buckets={27: 8.0}, count=8, start=16384)
    made.starts = KnownStarts({("m", alice): sizes})
    assert made.start("m", alice) == 16384
    assert made.smaller("m", Size(ctx=32768), (100,), alice) == Size(ctx=16384, exact=True)
    assert made.smaller("m", Size(ctx=16384), (100,), alice) is None
    assert made.smaller("m", Size(ctx=32768), (100,), (1, "bob")) == Size(ctx=4096, exact=True)
    assert made.renewed(made.config).start("m", alice) == 16384


def test_a_fixed_context_has_no_start_and_nothing_smaller(tmp_path: Path) -> None:
    made = catalog(tmp_path, "{context_length: 32768}")
    assert made.start("m", None) is None
    assert made.smaller("m", Size(ctx=32768), (100,), None) is None


def test_steps_that_are_said_are_known_without_a_look_at_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    find = ModelFiles.find

    def watched(files: ModelFiles, name: str, path: Path | None) -> Path | LmxdError:
        looked.append(name)
        return find(files, name, path)

    monkeypatch.setattr(ModelFiles, "find", watched)
    said, trained = catalog(tmp_path), catalog(tmp_path, "{context_length: 0, context: elastic}")
    assert said.steps("m") == (4096, 16384, 32768)
    assert looked == []
    assert trained.steps("m") == (4096, 16384, 32768)
    assert looked == ["m"]


@pytest.mark.parametrize(
    ("keys", "seconds"),
    [
        ("context: elastic", 120),
        ("elastic: {start: 4096}", 120),
        ("elastic: {idle_shrink: 10m}", 600),
        ("elastic: {idle_shrink: never}", NEVER),
        ("context: fixed", FOREVER),
    ],
)
def test_an_idle_instance_gives_back_what_it_does_not_use_after_a_while(
    tmp_path: Path, keys: str, seconds: float
) -> None:
    made = catalog(tmp_path, f"{{context_length: 32768, {keys}}}")
    assert asked(made).idle_shrink == seconds
    assert asked(made).kind == asked(catalog(tmp_path)).kind, "it changes nothing of how it is launched"
