"""One entry of ``models``: what a client may ask for by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lmxd.config import kinds
from lmxd.config.elastic_keys import Steps, steps, wrong_elastic
from lmxd.config.engine import EngineSettings
from lmxd.config.filters import SetParameters, StripParameters, Variants, wrong_adapters
from lmxd.config.llama_cpp_keys import GpuLayers, LlamaCppKeys, OnOffAuto, cache_type
from lmxd.config.names import composed
from lmxd.config.section import Gigabytes, UsablePath, on_off
from lmxd.config.values import IdleSeconds, Seconds, all_filled
from lmxd.engines import templates
from lmxd.engines.engine import EngineKind, own_engine
from lmxd.engines.environment import is_passable
from lmxd.engines.llama_cpp import flags
from lmxd.engines.llama_cpp.flag_values import THREADS
from lmxd.gguf.types import CACHE_TYPES
from lmxd.text import shortened

_POLICY: Final = {
    "engine",
    "program",
    "aliases",
    "set",
    "strip",
    "variants",
    "context",
    "elastic",
    "context_length",
    "slots",
    "estimated_memory_gb",
    "priority",
    "share",
    "split",
    "fit",
    "min_gpu_layers",
    "pin",
    "keep",
    "preload",
    "suspend",
    "memory_max_gb",
    "idle_timeout",
    "load_timeout",
    "stop_timeout",
    "endpoint",
    "open",
}
"""Settings that two interchangeable launches need not share; of the engine, more than its name counts."""


class Profile(LlamaCppKeys):
    """One entry of ``models``: what a client may ask for by name."""

    path: UsablePath | None = Field(
        None, description="GGUF file (the first of a split), or directory for vLLM; else looked up in model_dir"
    )
    engine: str | None = Field(
        None, min_length=1, description="vllm, sglang, tgi, or one of engines; by default llama.cpp, as engine says"
    )
    program: UsablePath | None = Field(None, description="its engine's program, in place of the engine's own path")
    aliases: tuple[str, ...] = Field((), description="other names that it may be asked for by")
    set: SetParameters = Field({})
    strip: StripParameters = Field(())
    variants: Variants = Field({})
    context_length: int | None = Field(
        None,
        ge=0,
        le=2**27,
        description="tokens that one slot can hold; 0: as many as the model was trained for; by default 4096 of them",
    )
    slots: int = Field(1, ge=1, le=256, description="leases that an instance can carry at once")
    gpu_layers: GpuLayers = Field(
        None, description="how many layers go to the GPU, the output layer counted first; all by default"
    )
    batch_size: int = Field(2048, ge=1, le=2**20, description="as -b")
    ubatch_size: int = Field(
        512,
        ge=1,
        le=2**20,
        description="as -ub: larger is faster with long prompts, and takes more; for embeddings the context at least",
    )
    cache_type_k: str = Field("f16", description="of " + ", ".join(CACHE_TYPES))
    cache_type_v: str = Field("f16", description="likewise; a quantized one needs flash attention")
    flash_attention: OnOffAuto = Field("auto", description="auto: where the GPU has a kernel for the model's heads")
    threads: int | None = Field(None, ge=1, le=THREADS, description="as -t; by default the engine's choice")
    estimated_memory_gb: Gigabytes | None = Field(None, description="your word for the bytes; else the estimator's")
    engine_flags: tuple[str, ...] = Field((), description="further flags of its engine, from an allow-list")
    gpus: int = Field(1, ge=1, le=64, description="vLLM: GPUs that it is divided over, in equal shares")
    kv_tokens: int | None = Field(
        None, ge=1, le=2**31, description="vLLM: tokens of its cache; by default context_length for each of slots"
    )
    sleep: bool = Field(
        False, description="vLLM: idle, and in the way of others, it moves its weights to RAM instead of being ended"
    )
    priority: int = Field(
        0, ge=-100, le=100, description="class of requests, unless they say one; the lower is evicted first"
    )
    share: Literal["compatible", "never"] = Field(
        "compatible", description="whether leases share an instance's slots, or each user's have one alone in turn"
    )
    split: bool = Field(True, description="over several GPUs, if it fits no single one")
    fit: Literal["whole", "auto"] = Field(
        "whole", description="auto: if no GPU has room for all of it now, experts and layers run in RAM, the fewest"
    )
    min_gpu_layers: int = Field(0, ge=0, le=4096, description="with fit: auto, the fewest that are whole on the GPU")
    pin: bool = Field(False, description="once started, neither evicted nor reaped")
    keep: int = Field(0, ge=0, le=64, description="instances that always run, as long as there is room")
    preload: bool = Field(False, description="one instance is started with lmxd")
    suspend: bool = Field(
        False, description="each user has an instance alone, whose prompt cache is kept on disk for the user's next one"
    )
    endpoint: Literal["unix", "tcp"] | None = Field(None, description="overrides that of its engine")
    command: tuple[str, ...] | None = Field(
        None, description="another engine's command line, with {socket} {device} {memory_fraction} and more filled in"
    )
    env: dict[str, str] = Field({}, description="environment of command; {key} is the instance's API key")
    open: bool = Field(False, description="command has no key, and every user of the machine may use its port")
    health: str = Field("/health", pattern="^/", description="where command answers 200 once it serves")
    upstream_name: str | None = Field(
        None, min_length=1, max_length=256, description="the name that command knows its model by; the gateway says it"
    )
    memory_max_gb: Gigabytes | None = Field(
        None,
        description="bound on an instance's RAM, where systemd delegates control groups; the kernel ends it beyond",
    )
    idle_timeout: IdleSeconds | None = Field(None, description="overrides the global idle_timeout; never is possible")
    load_timeout: Seconds | None = Field(None, description="overrides that of its engine")
    stop_timeout: Seconds | None = Field(None, description="likewise")

    @field_validator("engine")
    @classmethod
    def _engine(cls, value: str | None) -> str | None:
        return None if value is None else composed(value)

    @field_validator("aliases")
    @classmethod
    def _aliases(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(composed(alias) for alias in value)

    _types = field_validator("cache_type_k", "cache_type_v")(cache_type)

    @field_validator("engine_flags", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        """YAML's numbers and switches are as good as their text."""
        if isinstance(value, list):
            return [str(w) if isinstance(w := on_off(v), (int, float)) else w for v in value]
        return value

    @field_validator("command", "env", "engine_flags", "chat_template", "grammar")
    @classmethod
    def _passable(cls, value: Any) -> Any:
        """Words that the kernel would not pass on are told here, not at each launch."""
        words = (*value, *value.values()) if isinstance(value, dict) else [value] if isinstance(value, str) else value
        if found := [word for word in words or () if not is_passable(word)]:
            raise ValueError(f"{shortened(found[0], 60)!r} has a character that no program can be given")
        if isinstance(value, dict) and (wrong := [name for name in value if not name or "=" in name]):
            raise ValueError(f"{wrong[0]!r} is no name of a variable")
        return value

    @field_validator("engine_flags")
    @classmethod
    def _flags(cls, value: tuple[str, ...], found: ValidationInfo) -> tuple[str, ...]:
        """An engine that has a name of its own is known to the whole configuration only, which asks then."""
        kind = found.data.get("engine") or EngineKind.LLAMA_CPP
        declared = found.data.get("estimated_memory_gb") is not None
        if kind in list(EngineKind) and (wrong := kinds.wrong_flags(value, EngineKind(kind), declared=declared)):
            raise ValueError("\n".join(wrong))
        return value

    @field_validator("command", "env", mode="before")
    @classmethod
    def _variables(cls, value: object) -> object:
        return all_filled(value)

    @field_validator("command")
    @classmethod
    def _template(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or not value[0].startswith("/")):
            raise ValueError("begin with the program's whole path")
        templates.check(value or (), templates.IN_COMMAND)
        return value

    @field_validator("env")
    @classmethod
    def _env(cls, value: dict[str, str]) -> dict[str, str]:
        templates.check(tuple(value.values()), templates.IN_ENV)
        return value

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "flags" not in value:
            return value
        if "engine_flags" in value:
            raise ValueError("flags is short for engine_flags: give one of them")
        return {"engine_flags" if key == "flags" else key: said for key, said in value.items()}

    @property
    def own_kind(self) -> EngineKind | None:
        """The kind of engine that runs it; None if only the whole configuration tells, for its engine has a name."""
        if self.command is not None:
            return EngineKind.COMMAND
        name = self.engine or EngineKind.LLAMA_CPP
        return EngineKind(name) if name in list(EngineKind) else None

    @model_validator(mode="after")
    def _of_its_kind(self) -> Profile:
        if (kind := self.own_kind) is not None and (found := list(self.problems(kind))):
            raise ValueError("\n".join(found))
        return self

    def problems(self, kind: EngineKind) -> Iterator[str]:
        """A sentence for each key that it cannot have, run by a kind of engine."""
        yield from kinds.wrong_keys(self, kind, _DEFAULTS)
        if self.own_kind is None:  # else they were looked at with the key itself
            for problem in kinds.wrong_flags(self.engine_flags, kind, declared=self.estimated_memory_gb is not None):
                yield f"engine_flags: {problem}"
        if kind is EngineKind.COMMAND:
            yield from kinds.wrong_command(self)
        if kind is EngineKind.LLAMA_CPP:
            yield from wrong_elastic(self)

    @property
    def pools(self) -> bool:
        """Likewise, also by a flag of its own."""
        return super().pools or flags.computes_all_outputs(self.engine_flags)

    @model_validator(mode="after")
    def _adapters(self) -> Profile:
        """A request for adapters that are not there would have none, and nobody would be told."""
        filters = {"": self.set, **{f"variants.{tag}.": variant.set for tag, variant in self.variants.items()}}
        for where, changes in filters.items() if self.own_kind is not EngineKind.COMMAND else ():
            if "lora" in changes and (why := wrong_adapters(changes["lora"], len(self.lora))):
                raise ValueError(f"{where}set.lora: {why}")
        return self

    @model_validator(mode="after")
    def _bounded(self) -> Profile:
        if self.min_gpu_layers and self.fit == "whole":
            raise ValueError("min_gpu_layers is for fit: auto: with fit: whole all layers are on the GPU")
        return self

    @model_validator(mode="after")
    def _flash(self) -> Profile:
        if self.flash_attention == "off" and CACHE_TYPES[self.cache_type_v].quantized:
            raise ValueError(f"cache_type_v: {self.cache_type_v} needs flash attention, but flash_attention is off")
        return self

    @property
    def engine_name(self) -> str:
        """The name of the engine that runs it. Those without a name are called by their kinds.

        A program of its own is an engine of its own.
        """
        if self.own_kind is EngineKind.COMMAND:
            return EngineKind.COMMAND
        name = self.engine or EngineKind.LLAMA_CPP
        return name if self.program is None else own_engine(name, self.program)

    @property
    def shares_cache(self) -> bool:
        """Whether all slots share one cache, of which each lease has a part that may grow."""
        return self.is_elastic and self.kv_unified

    def steps(self, top: int) -> Steps:
        """The contexts that its leases can have, up to ``top``, if it is elastic."""
        return steps(self.elastic, top, self.slots, unified=self.kv_unified)

    @property
    def uses_ram(self) -> bool:
        """Whether a part of it runs in RAM beside a GPU, or may, or sleeps there."""
        split = self.gpu_layers or self.n_cpu_moe or self.n_cpu_ffn or self.override_tensor
        return self.fit == "auto" or self.sleep or bool(split)

    def variant(self, engine: EngineSettings) -> str:
        """Names what two launches must share to be interchangeable: engine, and all settings but context and policy."""
        said = self.model_dump(mode="json", exclude=_POLICY)
        settings = {key: value for key, value in said.items() if key not in kinds.SINCE_0_4 or value != _DEFAULTS[key]}
        settings |= {"engine": engine.identity} if engine.identity else {}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


_DEFAULTS: Final = {name: field.get_default() for name, field in Profile.model_fields.items()}
