"""Profiles with files beside the model: their bytes, their flags, and where they are looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import synthetic
import vision
from adapters import adapter
from house import model

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.layout import Layout
from lmxd.catalog.resolved import Resolved
from lmxd.catalog.size import Size
from lmxd.config.file import parse
from lmxd.core.words import DeviceId
from lmxd.devices.measurement import DeviceKind
from lmxd.engines.llama_cpp.repack import repacked_types
from lmxd.errors import LmxdError
from lmxd.gguf.overrides import experts_in_ram, feed_forward_in_ram

CARD = DeviceId("GPU-a")
GPU = Layout({CARD: DeviceKind.GPU})
MIB = 2**20


def resolved(tmp_path: Path, profile: str = "{}", **size: Any) -> Resolved:
    """A profile of a small Llama in ``tmp_path``, where its files are, too."""
    if not (tmp_path / "m.gguf").exists():
        model(tmp_path, "m")
    return Catalog(parse(f"model_dir: {tmp_path}\nmodels: {{m: {profile}}}", "test")).resolve("m", Size(**size))


def bytes_of(found: Resolved) -> int:
    (option,) = found.ask(GPU).options
    return option.demand[CARD]


def test_a_projector_is_on_the_card_unless_it_is_to_be_in_ram(tmp_path: Path) -> None:
    size = vision.projector(tmp_path / "p.gguf", 64).stat().st_size
    alone = bytes_of(resolved(tmp_path))
    assert bytes_of(resolved(tmp_path, "{mmproj: p.gguf}")) > alone + size // 2
    kept = resolved(tmp_path, "{mmproj: p.gguf, mmproj_offload: false}")
    assert bytes_of(kept) == alone
    assert kept.sizing.charge(kept.launch, ())[1] > resolved(tmp_path).sizing.charge(kept.launch, ())[1] + size // 2


def test_an_adapter_and_a_draft_are_counted(tmp_path: Path) -> None:
    alone = bytes_of(resolved(tmp_path))
    adapter(tmp_path / "a.gguf", 64)
    assert bytes_of(resolved(tmp_path, "{lora: a.gguf}")) > alone
    drafting = resolved(tmp_path, "{draft: m.gguf}")
    assert bytes_of(drafting) > 1.05 * alone
    assert drafting.launch.drafted == 3
    assert bytes_of(resolved(tmp_path, "{draft: m.gguf}", ctx=16384)) - bytes_of(drafting) > 1.5 * (
        bytes_of(resolved(tmp_path, ctx=16384)) - alone
    ), "the draft has the context of the model"


def test_what_is_proposed_from_the_text_itself_has_its_outputs_counted(tmp_path: Path) -> None:
    alone = resolved(tmp_path)
    found = resolved(tmp_path, "{ngram: mod}")
    assert found.words == ("--spec-type", "ngram-mod", "--spec-ngram-mod-n-max", "64")
    more = found.sizing.charge(found.launch, ())[1] - alone.sizing.charge(alone.launch, ())[1]
    assert more == 16 * 2**20 + 4 * 64 * 100, "its table, and a row of logits for each of 64 tokens"
    assert resolved(tmp_path, "{ngram: simple}").launch.drafted == 48


def test_experts_stay_in_ram(tmp_path: Path) -> None:
    parts = synthetic.decoder(
        "qwen3moe", layers=4, embedding=1024, heads=8, kv_heads=2, feed_forward=512, vocabulary=512, head=128,
        experts=(64, 2, 1024), qk_norm=True,
    )  # fmt: skip
    synthetic.write(tmp_path / "m.gguf", *parts)
    sizes = [bytes_of(resolved(tmp_path, f"{{n_cpu_moe: {n}}}")) for n in (0, 2, "all")]
    assert sizes[0] > sizes[1] > sizes[2]
    assert bytes_of(resolved(tmp_path, "{override_tensor: exps=CPU}")) == sizes[2]
    assert resolved(tmp_path, "{n_cpu_moe: all}").launch.overrides == (experts_in_ram(),)


def test_feed_forward_matrices_of_a_dense_model_stay_in_ram(tmp_path: Path) -> None:
    parts = synthetic.decoder(
        "llama", layers=4, embedding=1024, heads=8, kv_heads=2, feed_forward=16384, vocabulary=512, head=128
    )
    synthetic.write(tmp_path / "m.gguf", *parts)
    found = [resolved(tmp_path, f"{{n_cpu_ffn: {n}}}") for n in (0, 1, 2)]
    assert bytes_of(found[0]) > bytes_of(found[1]) > bytes_of(found[2])
    assert found[2].launch.overrides == (feed_forward_in_ram(2),)


@pytest.mark.parametrize(
    ("profile", "flags", "mapped"),
    [
        ("{}", (), True),
        ("{load_mode: mlock}", ("--load-mode", "mlock"), False),
        ("{load_mode: mmap+mlock}", ("--load-mode", "mmap+mlock"), True),
        ("{engine_flags: [--no-mmap]}", ("--no-mmap",), False),
        ("{engine_flags: [--mlock]}", ("--mlock",), True),
    ],
)
def test_the_estimate_counts_the_file_as_it_is_read(
    tmp_path: Path, profile: str, flags: tuple[str, ...], mapped: bool
) -> None:
    found = resolved(tmp_path, profile)
    assert (found.words, found.launch.mmap) == (flags, mapped)


def test_slots_that_share_a_cache_take_one(tmp_path: Path) -> None:
    own, shared = (bytes_of(resolved(tmp_path, f"{{slots: 4, kv_unified: {word}}}")) for word in ("false", "true"))
    assert shared < own


def test_weights_are_rearranged_in_ram_alone(tmp_path: Path) -> None:
    found = resolved(tmp_path)
    assert found.launch.repack == repacked_types()
    assert resolved(tmp_path, "{repack: false}").launch.repack == frozenset()


def test_the_flags_of_keys(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    said = resolved(
        tmp_path,
        "{rerank: true, pooling: rank, rope: {scaling: yarn, scale: 4}, chat_template_file: t.jinja, jinja: true,"
        " reasoning: off, cache_reuse: 256, samplers: {temperature: 0.7, top_k: 40, order: [top_k, temperature]},"
        " chat_template_kwargs: {a: 1}, props: true, engine_flags: [--no-warmup]}",
    ).words
    assert " ".join(said) == (
        f"--reranking --props --pooling rank --reasoning off --cache-reuse 256 --rope-scaling yarn --rope-scale 4"
        f' --temp 0.7 --top-k 40 --samplers top_k;temperature --chat-template-kwargs {{"a": 1}} --jinja'
        f" --chat-template-file {tmp_path / 't.jinja'} --no-warmup"
    )


def test_rope_lets_a_context_beyond_the_trained_one(tmp_path: Path) -> None:
    with pytest.raises(LmxdError, match=r"or set rope of models\.m"):
        resolved(tmp_path, ctx=65536).ask(GPU)
    assert resolved(tmp_path, "{rope: {scaling: yarn}}", ctx=65536).ask(GPU).context == 65536


@pytest.mark.parametrize("key", ["mmproj", "draft", "lora", "chat_template_file", "grammar_file"])
def test_a_file_beside_a_model_is_looked_for_where_models_are(tmp_path: Path, key: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with pytest.raises(LmxdError) as caught:
        resolved(home, f"{{{key}: gone.gguf}}").ask(GPU)
    assert (caught.value.code, "gone.gguf" in caught.value.message) == ("model_file_missing", True)
    (tmp_path / "secret.gguf").write_bytes(b"GGUF")
    (home / "link.gguf").symlink_to(tmp_path / "secret.gguf")
    with pytest.raises(LmxdError) as caught:
        resolved(home, f"{{{key}: link.gguf}}").ask(GPU)
    assert caught.value.code == "model_file_forbidden"


def test_other_files_are_another_launch(tmp_path: Path) -> None:
    vision.projector(tmp_path / "p.gguf", 64)
    assert resolved(tmp_path, "{mmproj: p.gguf}").variant != resolved(tmp_path).variant


@pytest.mark.parametrize(("key", "file", "what"), [("mmproj", "a.gguf", "projector"), ("lora", "p.gguf", "adapter")])
def test_a_file_of_another_kind_is_refused_by_its_key(tmp_path: Path, key: str, file: str, what: str) -> None:
    vision.projector(tmp_path / "p.gguf", 64)
    adapter(tmp_path / "a.gguf", 64)
    with pytest.raises(LmxdError, match=f"{file} is no {what}, as its header says") as caught:
        resolved(tmp_path, f"{{{key}: {file}}}").ask(GPU)
    assert (caught.value.code, key in caught.value.remedy) == ("bad_model_file", True)


@pytest.mark.parametrize("where", ["path", "draft"])
@pytest.mark.parametrize(("file", "key"), [("p.gguf", "mmproj"), ("a.gguf", "lora")])
def test_a_file_that_goes_beside_a_model_is_none(tmp_path: Path, where: str, file: str, key: str) -> None:
    vision.projector(tmp_path / "p.gguf", 64)
    adapter(tmp_path / "a.gguf", 64)
    with pytest.raises(LmxdError, match=f"{file} is an? .*, no model, as its header says") as caught:
        resolved(tmp_path, f"{{{where}: {file}}}").ask(GPU)
    assert caught.value.code == "bad_model_file"
    assert caught.value.remedy == f"name it by the key {key} of the model that it is for"


@pytest.mark.parametrize("key", ["mmproj", "lora", "draft", "chat_template_file", "grammar_file"])
def test_a_file_that_is_missing_is_told_by_its_key(tmp_path: Path, key: str) -> None:
    with pytest.raises(LmxdError, match=f"^{key}: .*/none.gguf: No such file") as caught:
        resolved(tmp_path, f"{{{key}: none.gguf}}").ask(GPU)
    assert caught.value.code == "model_file_missing"
    assert caught.value.remedy.startswith(f"set {key}, or put the file into model_dir")


def test_a_projector_of_another_model_is_warned_of(tmp_path: Path) -> None:
    own, other = (vision.projector(tmp_path / f"{width}.gguf", width) for width in (64, 128))
    for path, words in ((own, []), (other, ["mmproj", "128.gguf seems to be another model's"])):
        found = resolved(tmp_path, f"{{mmproj: {path.name}}}")
        warnings = "".join(found.sizing.warnings(found.launch, ()))
        assert [word for word in ("mmproj", "128.gguf seems to be another model's") if word in warnings] == words


def test_embeddings_without_a_pooling_are_warned_of(tmp_path: Path) -> None:
    for more, warned in (("", True), (", pooling: last", False)):
        found = resolved(tmp_path, f"{{embedding: true{more}}}")
        assert ("set pooling" in "".join(found.sizing.warnings(found.launch, ()))) is warned


@pytest.mark.parametrize(
    ("pooling", "key", "does"), [(3, "embedding", "embeds texts"), (4, "rerank", "ranks documents")]
)
def test_a_model_that_writes_no_text_and_is_not_told_is_warned_of(
    tmp_path: Path, pooling: int, key: str, does: str
) -> None:
    synthetic.write(tmp_path / "m.gguf", *pooled(pooling))
    for profile, warned in (
        ("{}", True),
        (f"{{{key}: true}}", False),
        (f"{{engine_flags: [--{key.replace('rank', 'ranking')}]}}", False),
    ):
        found = resolved(tmp_path, profile)
        warnings = "".join(found.sizing.warnings(found.launch, ()))
        assert (f"models.m.{key}: m.gguf {does}, as its header says" in warnings) is warned, profile


def pooled(pooling: int) -> tuple[dict[str, Any], list[synthetic.Shape]]:
    return synthetic.decoder(
        "llama", layers=2, embedding=64, heads=4, kv_heads=2, feed_forward=128, vocabulary=100, head=16,
        extra={"pooling_type": pooling},
    )  # fmt: skip


def warned(tmp_path: Path, profile: str) -> str:
    found = resolved(tmp_path, profile)
    return "".join(found.sizing.warnings(found.launch, ()))


def test_an_adapter_of_another_model_is_warned_of(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "m.gguf", *pooled(0))
    for name, width in (("own", 64), ("wide", 128)):
        adapter(tmp_path / f"{name}.gguf", width)
    metadata = {"general.architecture": "gemma3", "general.type": "adapter", "adapter.type": "lora"}
    synthetic.write(tmp_path / "gemma.gguf", metadata, [("blk.0.attn_q.weight.lora_a", (64, 4), "f32")])
    assert "lora" not in warned(tmp_path, "{lora: own.gguf}")
    assert "wide.gguf seems to be another model's: its blk.0.attn_q.weight does not" in warned(
        tmp_path, "{lora: [own.gguf, wide.gguf]}"
    )
    assert "it is for 'gemma3', m.gguf is 'llama'" in warned(tmp_path, "{lora: gemma.gguf}")


@pytest.mark.parametrize(("tokens", "kind", "other"), [(400, "gpt2", False), (500, "gpt2", True), (300, "llama", True)])
def test_a_draft_of_another_vocabulary_is_warned_of(tmp_path: Path, tokens: int, kind: str, other: bool) -> None:
    for name, size, more in (("m", 300, {}), ("d", tokens, {"tokenizer.ggml.model": kind})):
        metadata, tensors = synthetic.speaking(
            synthetic.decoder(
                "llama", layers=1, embedding=64, heads=4, kv_heads=2, feed_forward=128, vocabulary=size, head=16
            )
        )
        synthetic.write(tmp_path / f"{name}.gguf", metadata | more, tensors)
    said = f"d.gguf would be loaded and propose nothing: it has another vocabulary than m.gguf, with {tokens} tokens"
    assert (said in warned(tmp_path, "{draft: d.gguf}")) is other


def test_experts_that_are_none_are_warned_of(tmp_path: Path) -> None:
    assert "n_cpu_moe: m.gguf has no experts" in warned(tmp_path, "{n_cpu_moe: 2}")
    assert "n_cpu_moe" not in warned(tmp_path, "{n_cpu_ffn: 2}")


@pytest.mark.parametrize(("more", "doubtful"), [([], True), ([("cls.output.weight", (64, 1), "f32")], False)])
def test_a_model_that_was_not_made_to_rank_is_warned_of(
    tmp_path: Path, more: list[synthetic.Shape], doubtful: bool
) -> None:
    metadata, tensors = pooled(0)
    synthetic.write(tmp_path / "m.gguf", metadata, [*tensors, *more])
    assert ("rerank: m.gguf was not made to rank" in warned(tmp_path, "{rerank: true}")) is doubtful
