"""llama-server's own words turned into a Launch: what of a command line decides about memory.

Source: llama.cpp build 11434, common/arg.cpp and tools/server. Flags that are not known here are
named in ``Arguments.ignored``; they are never taken for something else.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError
from lmxd.estimate.companions import Adapter, Companions, DraftModel
from lmxd.gguf.launch import Launch, padded
from lmxd.gguf.overrides import Override, experts_in_ram, feed_forward_in_ram, overrides
from lmxd.gguf.overrides import words as override_words
from lmxd.gguf.types import CACHE_TYPES

_AUTO_SLOTS: Final = 4
"""Without ``-np`` the server has four slots that share one cache."""

_DRAFTED: Final = 3
"""Tokens drafted ahead: llama-server's default of ``--spec-draft-n-max``."""
_ALL_LAYERS: Final = 999
"""``-ngl`` from here on means all layers: no model has so many."""

_NOT_COVERED: Final = {
    "row": "build 11434 splits by rows on SYCL alone, and ends itself with CUDA",
    "tensor": "it makes one device of all cards, and llama-server does not say what each of them takes",
}
_VALUES: Final = {
    alias: names[0].lstrip("-")
    for names in (
        ("--ctx-size", "-c"),
        ("--batch-size", "-b"),
        ("--ubatch-size", "-ub"),
        ("--parallel", "-np"),
        ("--cache-type-k", "-ctk"),
        ("--cache-type-v", "-ctv"),
        ("--flash-attn", "-fa"),
        ("--n-gpu-layers", "--gpu-layers", "-ngl"),
        ("--n-cpu-moe", "-ncmoe"),
        ("--n-cpu-ffn", "-ncffn"),
        ("--override-tensor", "-ot"),
        ("--tensor-split", "-ts"),
        ("--split-mode", "-sm"),
        ("--main-gpu", "-mg"),
        ("--device", "-dev"),
        ("--load-mode", "-lm"),
        ("--mmproj", "-mm"),
        ("--lora",),
        ("--lora-scaled",),
        ("--spec-draft-model", "--model-draft", "-md"),
        ("--spec-draft-ngl", "--n-gpu-layers-draft", "--gpu-layers-draft", "-ngld"),
        ("--spec-draft-type-k", "--cache-type-k-draft", "-ctkd"),
        ("--spec-draft-type-v", "--cache-type-v-draft", "-ctvd"),
        ("--spec-draft-n-max", "--draft-max", "--draft", "--draft-n"),
        ("--spec-type",),
    )
    for alias in names
}
_SWITCHES: Final = {
    alias: names[0].lstrip("-")
    for names in (
        ("--cpu-moe", "-cmoe"),
        ("--kv-unified", "-kvu"),
        ("--no-kv-unified", "-no-kvu"),
        ("--swa-full",),
        ("--no-kv-offload", "-nkvo"),
        ("--no-op-offload",),
        ("--no-repack", "-nr"),
        ("--no-mmap",),
        ("--no-mmproj-offload",),
        ("--embeddings", "--embedding"),
        ("--reranking", "--rerank"),
    )
    for alias in names
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments:
    """Parsed flags of llama-server.

    ``context`` 0: as much as the model was trained for. ``cards``: how many devices may be used at most.
    """

    launch: Launch
    context: int
    in_ram: bool
    one_card: bool
    companions: Companions
    ignored: tuple[str, ...]

    def resolved(self, trained: int) -> Arguments:
        """The arguments with the context that a model trained for so many tokens gets."""
        return replace(self, launch=_sized(self.launch, self.context or trained))


def parse(flags: str, repack: frozenset[str] = frozenset()) -> Arguments:
    """Parse the words of ``flags``. ``repack``: types of weights that the CPU at hand rearranges.

    Raises LmxdError ``invalid_params``: a value is missing or impossible.
    """
    try:
        words = shlex.split(flags)
    except ValueError as error:
        raise _wrong(f"--flags {flags!r}: {error}") from error
    given, moved, adapters, ignored = _Given(), list[Override](), list[Adapter](), list[str]()
    for name, value in _pairs(words):
        match name:
            case "override-tensor":
                moved += _overrides(value)
            case "lora" | "lora-scaled":
                adapters += [_adapter(item, scaled=name == "lora-scaled") for item in value.split(",")]
            case _ if name.startswith("-"):
                ignored.append(name)
            case _:
                given[name] = value
    moved += _kept_in_ram(given)
    return _arguments(given, tuple(moved), tuple(adapters), tuple(ignored), repack)


def _wrong(what: str) -> LmxdError:
    return LmxdError("invalid_params", what, "correct --flags")


class _Given(dict[str, str]):
    """Flags by their long name, and their values read with errors that name both."""

    def number(self, name: str, default: int, least: int = 0, most: int = 2**31) -> int:
        text = self.get(name)
        if text is None:
            return default
        if not re.fullmatch(r"-?\d{1,10}", text) or not least <= int(text) <= most:
            raise _wrong(f"--{name} {text!r} is not a number from {least} to {most}")
        return int(text)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        text = self.get(name, default)
        if text not in choices:
            raise _wrong(f"--{name} {text!r} is none of {', '.join(choices)}")
        return text


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    """(long name, value) of known flags; unknown ones keep their dashes."""
    at = 0
    while at < len(words):
        word, _, attached = words[at].partition("=")
        at += 1
        if word in _SWITCHES:
            yield _SWITCHES[word], ""
        elif word in _VALUES:
            if not attached and at == len(words):
                raise _wrong(f"{word} needs a value")
            yield _VALUES[word], attached or words[at]
            at += 0 if attached else 1
        elif word.startswith("-"):
            yield word, ""
            if at < len(words) and not re.match(r"-+[A-Za-z]", words[at]):
                at += 1
        else:
            raise _wrong(f"{word!r} is no flag of llama-server")


def _adapter(item: str, *, scaled: bool) -> Adapter:
    path, _, scale = item.rpartition(":") if scaled else (item, "", "1")
    try:
        return Adapter(path=Path(path or scale), scale=float(scale) if path else 1.0)
    except ValueError as error:
        raise _wrong(f"--lora-scaled {item!r} is not FILE:SCALE") from error


def _overrides(rules: str) -> Iterator[Override]:
    try:
        yield from overrides(rules)
    except ValueError as error:
        raise _wrong(f"--override-tensor {error}") from error


def _kept_in_ram(given: _Given) -> Iterator[Override]:
    if "cpu-moe" in given:
        yield experts_in_ram()
    if count := given.number("n-cpu-moe", 0, most=4096):
        yield experts_in_ram(count)
    if count := given.number("n-cpu-ffn", 0, most=4096):
        yield feed_forward_in_ram(count)


def _arguments(
    given: _Given, moved: tuple[Override, ...], adapters: tuple[Adapter, ...], ignored: tuple[str, ...],
    repack: frozenset[str],
) -> Arguments:  # fmt: skip
    mode = given.choice("split-mode", "layer", ("layer", "none", "row", "tensor"))
    if mode in _NOT_COVERED:
        raise _wrong(f"the estimator does not cover --split-mode {mode}: {_NOT_COVERED[mode]}")
    slots = given.number("parallel", -1, least=-1, most=256)
    drafting = "spec-draft-model" in given or "mtp" in given.get("spec-type", "")
    launch = Launch(
        context=0,
        slots=_AUTO_SLOTS if slots < 1 else slots,
        unified="kv-unified" in given or (slots < 1 and "no-kv-unified" not in given),
        ubatch=given.number("ubatch-size", 512, least=1, most=2**20),
        batch=given.number("batch-size", 2048, least=1, most=2**20),
        cache_type_k=given.choice("cache-type-k", "f16", tuple(CACHE_TYPES)),
        cache_type_v=given.choice("cache-type-v", "f16", tuple(CACHE_TYPES)),
        flash=_flash(given),
        gpu_layers=_layers(given, "n-gpu-layers"),
        outputs_all="embeddings" in given or "reranking" in given,
        swa_full="swa-full" in given,
        cache_on_device="no-kv-offload" not in given,
        op_offload="no-op-offload" not in given,
        overrides=moved,
        split=_split(given),
        mmap="no-mmap" not in given and given.get("load-mode", "auto") not in ("none", "mlock"),
        repack=frozenset() if "no-repack" in given else repack,
        drafted=given.number("spec-draft-n-max", _DRAFTED, most=256) if drafting else 0,
        mtp="mtp" in given.get("spec-type", ""),
        mtp_cache_type_k=given.choice("spec-draft-type-k", "f16", tuple(CACHE_TYPES)),
        mtp_cache_type_v=given.choice("spec-draft-type-v", "f16", tuple(CACHE_TYPES)),
    )
    return Arguments(
        launch=launch,
        context=given.number("ctx-size", 0, most=2**27),
        in_ram=given.get("device") == "none",
        one_card=mode == "none",
        companions=Companions(
            projector=Path(given["mmproj"]) if "mmproj" in given else None,
            projector_on_device="no-mmproj-offload" not in given,
            adapters=adapters,
            draft=_draft(given),
        ),
        ignored=ignored,
    )


def _draft(given: _Given) -> DraftModel | None:
    if "spec-draft-model" not in given:
        return None
    return DraftModel(
        path=Path(given["spec-draft-model"]),
        gpu_layers=_layers(given, "spec-draft-ngl"),
        cache_type_k=given.choice("spec-draft-type-k", "f16", tuple(CACHE_TYPES)),
        cache_type_v=given.choice("spec-draft-type-v", "f16", tuple(CACHE_TYPES)),
    )


def _flash(given: _Given) -> str:
    return given.choice("flash-attn", "auto", ("auto", "on", "off"))


def _layers(given: _Given, name: str) -> int | None:
    if given.get(name) in (None, "auto", "all", "-1", "-2"):
        return None
    layers = given.number(name, 0, most=2**20)
    return None if layers >= _ALL_LAYERS else layers


def _split(given: _Given) -> tuple[float, ...]:
    text = given.get("tensor-split", "")
    if not text:
        return ()
    shares = re.split(r"[,/]", text)
    if not all(re.fullmatch(r"\d{1,9}(\.\d{1,9})?", share) for share in shares):
        raise _wrong(f"--tensor-split {text!r} is no list of shares")
    return tuple(map(float, shares))


def _sized(launch: Launch, context: int) -> Launch:
    """The context of a slot: slots that share one cache have it all, others an equal part of it, rounded up."""
    whole = padded(context)
    return replace(launch, context=whole if launch.unified else padded(max(whole // launch.slots, 1)))


def words(launch: Launch) -> list[str]:
    """A Launch in llama-server's words: the inverse of ``parse``, as far as its own no-alloc pass goes."""
    found = ["-c", str(launch.context * launch.streams), "-np", str(launch.slots)]
    found += ["-b", str(launch.batch), "-ub", str(launch.ubatch), "-fa", launch.flash]
    found += ["-ctk", launch.cache_type_k, "-ctv", launch.cache_type_v]
    found += ["-ngl", str(_ALL_LAYERS) if launch.gpu_layers is None else str(launch.gpu_layers)]
    found += ["--kv-unified"] if launch.unified else ["--no-kv-unified"]
    for wanted, flag in (
        (launch.outputs_all, "--embedding"),
        (launch.swa_full, "--swa-full"),
        (not launch.cache_on_device, "--no-kv-offload"),
        (not launch.op_offload, "--no-op-offload"),
        (not launch.repack, "--no-repack"),
    ):
        found += [flag] if wanted else []
    found += ["-ts", ",".join(f"{share:g}" for share in launch.split)] if launch.split else []
    return found + override_words(launch.overrides)
