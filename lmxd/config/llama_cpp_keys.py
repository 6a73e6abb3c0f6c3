"""The keys of a profile that only llama-server has: files beside the model, placement, templates, sampling."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PlainValidator, field_validator, model_validator

from lmxd.config.elastic_keys import ElasticKeys
from lmxd.config.section import Section, UsablePath, on_off
from lmxd.engines.llama_cpp.load_mode import LoadMode
from lmxd.engines.llama_cpp.ngrams import Ngram
from lmxd.gguf.overrides import overrides
from lmxd.gguf.types import CACHE_TYPES

_ALL: Final = "all"
_TEXTS: Final = frozenset(("chat_template", "chat_template_kwargs", "grammar", "samplers"))
"""Keys that are about what is said, and may be long."""
_SEPARATORS: Final = re.compile("[,:]")
"""Characters that llama-server separates the paths of adapters and their scales by."""


def layers_on_gpu(value: object) -> int | None:
    """A number of layers; None for all."""
    if value == _ALL:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError("give a number of layers from 0 up, or all")


def _experts_in_ram(value: object) -> int | Literal["all"]:
    if value == _ALL:
        return "all"
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 4096:
        return value
    raise ValueError("give a number of layers from 0 to 4096, or all")


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, (str, dict)) else value


def _path_alone(value: object) -> object:
    """A bare path stands for a file with the usual settings."""
    return {"path": value} if isinstance(value, str) else value


def cache_type(value: str) -> str:
    """ValueError if llama.cpp has no such type of cache."""
    if value not in CACHE_TYPES:
        raise ValueError(f"possible are {', '.join(CACHE_TYPES)}")
    return value


_Layers: TypeAlias = Annotated[int, Field(ge=0)] | Literal["all"]
GpuLayers: TypeAlias = Annotated[int | None, PlainValidator(layers_on_gpu, json_schema_input_type=_Layers)]
_OnOff: TypeAlias = Literal["auto", "on", "off"]
OnOffAuto: TypeAlias = Annotated[_OnOff, BeforeValidator(on_off, json_schema_input_type=_OnOff | bool)]


class LoraConfig(Section):
    """One adapter, and how much of it is added to the model."""

    path: UsablePath = Field(description="GGUF file of the adapter")
    scale: float = Field(1, ge=-100, le=100, description="1 adds all of it; a request can choose otherwise")

    @field_validator("path")
    @classmethod
    def _separable(cls, value: UsablePath) -> UsablePath:
        if _SEPARATORS.search(str(value)):
            raise ValueError("llama-server reads , and : as separators: give the file another name")
        return value


_Lora: TypeAlias = Annotated[LoraConfig, BeforeValidator(_path_alone, json_schema_input_type=LoraConfig | str)]


class DraftConfig(Section):
    """A small model whose tokens the model itself checks, several at a time."""

    path: UsablePath = Field(description="GGUF file of a model with the same vocabulary")
    tokens: int = Field(3, ge=1, le=256, description="how many it proposes at once")
    gpu_layers: GpuLayers = Field(None, description="how many of its layers go to the GPU; all by default")
    cache_type_k: str = Field("f16", description="as the model's own")
    cache_type_v: str = Field("f16", description="likewise")

    _types = field_validator("cache_type_k", "cache_type_v")(cache_type)


class RopeConfig(Section):
    """The scaling of positions, for contexts beyond the trained one."""

    scaling: Literal["none", "linear", "yarn"] | None = Field(None, description="by default as the model says")
    scale: float | None = Field(None, gt=0, le=10**6, description="the context is longer by this factor")
    freq_base: float | None = Field(None, gt=0, le=10**12, description="base frequency")
    freq_scale: float | None = Field(None, gt=0, le=10**6, description="1/scale")
    original_context: int | None = Field(None, ge=1, le=2**27, description="yarn: tokens that it was trained for")


_SAMPLERS: Final = (
    "dry", "top_k", "typ_p", "top_p", "top_n_sigma", "min_p", "temperature", "xtc", "infill", "penalties", "adaptive_p",
)  # fmt: skip
_SHORT_NAMES: Final = ("temp", "typ", "nucleus", *(name.replace("_", "") for name in _SAMPLERS))
"""The names of samplers, and others that llama-server reads as these: common/sampling.cpp of build 11434."""


class SamplersConfig(Section):
    """The sampling that a request gets unless it says otherwise."""

    temperature: float | None = Field(None, ge=0, le=100, description="by default llama-server's own, or the model's")
    top_k: int | None = Field(None, ge=0, le=2**31 - 1, description="0: no limit")
    top_p: float | None = Field(None, ge=0, le=1, description="1: no limit")
    min_p: float | None = Field(None, ge=0, le=1, description="0: no limit")
    typical_p: float | None = Field(None, ge=0, le=1, description="1: no limit")
    repeat_penalty: float | None = Field(None, ge=0, le=100, description="1: none")
    repeat_last_n: int | None = Field(None, ge=0, le=2**31 - 1, description="tokens that are looked back at")
    presence_penalty: float | None = Field(None, ge=-100, le=100, description="0: none")
    frequency_penalty: float | None = Field(None, ge=-100, le=100, description="0: none")
    seed: int | None = Field(None, ge=-1, le=2**32 - 1, description="-1: another one each time")
    max_tokens: int | None = Field(None, ge=-1, le=2**31 - 1, description="of an answer; -1: as many as there is room")
    order: tuple[str, ...] = Field((), description="the samplers in their order, such as [top_k, temperature]")

    @field_validator("order")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in value if name not in (*_SAMPLERS, *_SHORT_NAMES)]:
            there = ", ".join(_SAMPLERS)
            raise ValueError(f"{wrong[0]!r} is no name of a sampler, and llama-server would leave it out: {there}")
        return value


class LlamaCppKeys(ElasticKeys):
    """The keys of a profile that only llama-server has, beside its size."""

    mmproj: UsablePath | None = Field(None, description="GGUF file of the projector, for images or sound")
    mmproj_offload: bool = Field(True, description="false: the projector runs in RAM")
    draft: Annotated[
        DraftConfig | None, BeforeValidator(_path_alone, json_schema_input_type=DraftConfig | str | None)
    ] = Field(None, description="a small model that proposes tokens: its path, or path and settings")
    mtp: int = Field(0, ge=0, le=256, description="tokens that the model's own drafting layers propose at once")
    ngram: Ngram | None = Field(
        None, description="tokens are proposed that followed the same ones earlier, without a second model; mod, mostly"
    )
    lora: Annotated[
        tuple[_Lora, ...], BeforeValidator(_one_or_more, json_schema_input_type=tuple[_Lora, ...] | LoraConfig | str)
    ] = Field((), description="adapters: paths, or path and scale of each")
    n_cpu_moe: Annotated[int | Literal["all"], PlainValidator(_experts_in_ram, json_schema_input_type=_Layers)] = Field(
        0, description="layers, from the first, whose experts stay in RAM; all is possible"
    )
    n_cpu_ffn: int = Field(0, ge=0, le=4096, description="the same of matrices that are no experts, of dense models")
    override_tensor: Annotated[
        tuple[str, ...], BeforeValidator(_one_or_more, json_schema_input_type=tuple[str, ...] | str)
    ] = Field((), description="PATTERN=CPU: tensors whose name has the pattern stay in RAM; no group of it is repeated")
    load_mode: LoadMode = Field(
        "auto",
        description="how the file is read: auto maps it; mlock keeps it in RAM, if RLIMIT_MEMLOCK lets it; dio: past"
        " the page cache",
    )
    kv_unified: bool = Field(
        False,
        description="slots share one cache of context_length tokens in all; with an elastic context each conversation"
        " has of it what it needs",
    )
    swa_full: bool = Field(False, description="sliding windows keep the whole context, so that prompts can be reused")
    repack: bool = Field(
        True, description="in RAM: weights are rearranged for the CPU, which is faster; a second copy of most of them"
    )
    embedding: bool = Field(False, description="its server embeds texts, and is to be asked for nothing else")
    rerank: bool = Field(False, description="its server ranks documents, likewise")
    pooling: Literal["none", "mean", "cls", "last", "rank"] | None = Field(
        None, description="how a text's embeddings become one; by default as the model says"
    )
    rope: RopeConfig = Field(RopeConfig(), description="scaling of positions")
    chat_template: str | None = Field(None, max_length=2**16, description="in place of the model's own")
    chat_template_file: UsablePath | None = Field(None, description="likewise, from a file")
    chat_template_kwargs: dict[str, Any] = Field({}, description="what the template gets beside the messages")
    jinja: bool | None = Field(None, description="whether the template is read as Jinja; by default it is")
    reasoning: OnOffAuto | None = Field(None, description="whether it thinks; by default as the template says")
    reasoning_format: Literal["none", "deepseek", "deepseek-legacy", "auto"] | None = Field(
        None, description="where its thoughts are in an answer"
    )
    reasoning_budget: int | None = Field(None, ge=-1, le=2**31 - 1, description="tokens of thought; -1: no limit")
    cache_reuse: int | None = Field(
        None, ge=0, le=2**27, description="tokens that a part of an earlier prompt must have to be reused by shifting"
    )
    samplers: SamplersConfig = Field(SamplersConfig(), description="sampling, unless a request says otherwise")
    grammar: str | None = Field(None, max_length=2**16, description="GBNF grammar that all answers follow")
    grammar_file: UsablePath | None = Field(None, description="likewise, from a file")
    props: bool = Field(False, description="holders of leases may change the server's global properties")

    @field_validator("override_tensor")
    @classmethod
    def _overrides(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for rules in value:
            if any(rule.device is not None for rule in overrides(rules)):
                raise ValueError(f"{rules!r} names a GPU, which lmxd chooses: only PATTERN=CPU is possible")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> LlamaCppKeys:
        """ValueError with a line for each two keys that exclude each other."""
        if problems := list(self._contradictions()):
            raise ValueError("\n".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        for a, b in (
            ("draft", "mtp"),
            ("draft", "ngram"),
            ("mtp", "ngram"),
            ("chat_template", "chat_template_file"),
            ("grammar", "grammar_file"),
            ("embedding", "rerank"),
        ):
            if getattr(self, a) and getattr(self, b):
                yield f"{a} and {b} exclude each other: take one of them out"
        if self.rerank and self.pooling not in (None, "rank"):
            yield f"pooling: rerank needs rank, not {self.pooling}: take it out"
        if not self.mmproj_offload and self.mmproj is None:
            yield "mmproj_offload is for a profile with mmproj"
        if self.pools and (self.draft or self.mtp or self.ngram):
            yield "ngram, draft and mtp are for models that write text: take out embedding and rerank, or these"

    @property
    def pools(self) -> bool:
        """Whether it computes an output for each token, as embedding and reranking servers do."""
        return self.embedding or self.rerank

    @property
    def stretches(self) -> bool:
        """Whether positions are scaled, so that a context beyond the trained one is meant."""
        return self.rope != RopeConfig()

    def without_texts(self) -> dict[str, Any]:
        """The keys that it sets, as JSON, but for those that are about what is said."""
        keys = set(LlamaCppKeys.model_fields) - _TEXTS
        return self.model_dump(mode="json", include=keys, exclude_defaults=True)

    @property
    def files(self) -> tuple[UsablePath, ...]:
        """The files that it names beside the model."""
        found = (
            self.mmproj,
            self.draft.path if self.draft is not None else None,
            self.chat_template_file,
            self.grammar_file,
        )
        return (*(path for path in found if path is not None), *(lora.path for lora in self.lora))
