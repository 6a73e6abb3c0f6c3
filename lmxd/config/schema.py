"""The keys of the configuration, with defaults and limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, PlainValidator, PrivateAttr, field_validator, model_validator

from lmxd.config.called import meant, wrong_names
from lmxd.config.engine import EngineConfig, EngineSettings, NamedEngineConfig, by_kind, by_name
from lmxd.config.gateway import GatewayConfig, MetricsConfig
from lmxd.config.names import RULE, composed, is_name
from lmxd.config.profile import Profile
from lmxd.config.quotas import GroupConfig, KeyConfig, UserConfig
from lmxd.config.section import Gigabytes, Section, UsablePath
from lmxd.config.values import IdleSeconds, Seconds
from lmxd.engines.engine import PROGRAMS, EngineKind

_HOLDS = "hold"
"""The name under which holds have their ids and figures."""


def _device_ref(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value:
        return int(value) if re.fullmatch("[0-9]{1,9}", value) else value
    raise ValueError("name a GPU by index (0), UUID (GPU-…) or PCI id (0000:01:00.0), or RAM as host")


DeviceRef = Annotated[int | str, PlainValidator(_device_ref)]


class DeviceConfig(Section):
    """One device to use, with its own limit and margin."""

    device: DeviceRef = Field(description="index (in PCI order at the start), UUID or PCI id of a GPU, or host for RAM")
    max_memory_gb: Gigabytes | None = Field(None, description="the most that lmxd may use of it")
    margin_gb: float | None = Field(None, ge=0, description="never promised to anybody")


class GpuConfig(Section):
    """The devices to use. Without any: all cards, also later ones; else the processor's GPU; else RAM."""

    device: DeviceRef | None = Field(None, description="the one device to use")
    devices: tuple[DeviceConfig, ...] | None = Field(None, description="several devices, by name or with own limits")
    max_memory_gb: Gigabytes | None = Field(None, description="the most that lmxd may use of each device")
    margin_gb: float | None = Field(
        None,
        ge=0,
        description="never promised; by default a tenth of a GPU, from 0.5 to 2; for RAM, and a GPU that shares it, the"
        " larger of 1 and 5 %",
    )

    @field_validator("devices", mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        """A bare name stands for a device without limits of its own."""
        if isinstance(value, list):
            return [v if isinstance(v, (dict, DeviceConfig)) else {"device": v} for v in value]
        return value

    @model_validator(mode="after")
    def _one_way(self) -> GpuConfig:
        if self.device is not None and self.devices is not None:
            raise ValueError("give either device or devices, not both")
        if self.devices is not None and not self.devices:
            raise ValueError("devices is empty: leave it out to use all")
        return self

    def wanted(self) -> tuple[DeviceConfig, ...] | None:
        """The devices asked for, with limit and margin filled in; None for "whatever there is"."""
        devices = self.devices
        if devices is None:
            devices = None if self.device is None else (DeviceConfig(device=self.device),)
        return None if devices is None else tuple(self.complete(own) for own in devices)

    @property
    def refs(self) -> tuple[int | str, ...] | None:
        """The names of the devices asked for; None for "whatever there is"."""
        wanted = self.wanted()
        return None if wanted is None else tuple(own.device for own in wanted)

    def complete(self, own: DeviceConfig) -> DeviceConfig:
        """``own`` with what it leaves open taken from here."""
        return DeviceConfig(
            device=own.device,
            max_memory_gb=self.max_memory_gb if own.max_memory_gb is None else own.max_memory_gb,
            margin_gb=self.margin_gb if own.margin_gb is None else own.margin_gb,
        )


class AdmissionConfig(Section):
    """The rules of the queue: its depth, and how places in it follow from waiting, class and use."""

    enabled: bool = Field(True, description="off: everything starts at once and only the books are kept")
    queue_depth: int = Field(512, ge=0, le=100_000, description="requests that may wait; the next one is refused")
    aging: Seconds = Field(60, description="seconds of waiting that are worth one class of priority")
    fairness: float = Field(
        60, ge=0, le=10**6, description="seconds by which who used all stands behind who used nothing"
    )
    half_life: Seconds = Field(3600, description="seconds after which use counts half")
    quantum_loads: float = Field(
        2.65,
        ge=0,
        le=1000,
        description="an instance that others wait for goes on serving for so many times what both models take to load",
    )
    preempt: bool = Field(True, description="a higher class may ask the holders of a lower one to yield")
    grace: Seconds = Field(60, description="seconds that who is asked to yield has for it")
    cut_generations: bool = Field(False, description="after the grace, end what is being generated, too")
    waited_elsewhere: Seconds = Field(
        300, description="the most seconds that waiting at other nodes of a fleet counts here as waiting"
    )


def _open(name: str) -> str:
    return f"models.{name} is open: every user of this machine can use its port without a key, and see what it answers"


class Config(Section):
    """The whole configuration file."""

    model_config = ConfigDict(json_schema_extra={"patternProperties": {"^x-": {}}})

    gpu: GpuConfig = Field(GpuConfig(), description="which devices to use, and how much of them")
    admission_control: AdmissionConfig = Field(AdmissionConfig(), description="the queue")
    engine: EngineConfig = Field(EngineConfig(), description="llama-server")
    engines: dict[str, NamedEngineConfig] = Field({}, description="name -> an engine that profiles choose by it")
    metrics: MetricsConfig = Field(MetricsConfig(), description="Prometheus")
    gateway: GatewayConfig = Field(GatewayConfig(), description="OpenAI's API and the dashboard")
    users: dict[str, UserConfig] = Field({}, description="user name, uid or default -> what that user may have at once")
    groups: dict[str, GroupConfig] = Field({}, description="group name or gid -> what its members may have together")
    keys: dict[str, KeyConfig] = Field({}, description="name of a key, or default -> what that key may have at once")
    idle_timeout: IdleSeconds = Field(
        300, description="seconds (or 10m, 1h30m, never) without a request after which an instance ends"
    )
    model_dir: UsablePath = Field(Path("/var/lib/lmxd/models"), description="where model files are looked up")
    model_dirs: tuple[UsablePath, ...] = Field(
        (), description="further directories that model files may be in, or links lead to"
    )
    models_from: tuple[UsablePath, ...] = Field(
        (), description="directories whose models, also those that come later, are served without a profile"
    )
    models: dict[str, Profile] = Field({}, description="name -> what a client may ask for by it")
    _warnings: tuple[str, ...] = PrivateAttr(())

    @field_validator(
        "gpu",
        "admission_control",
        "engine",
        "engines",
        "metrics",
        "gateway",
        "users",
        "groups",
        "keys",
        "models",
        mode="before",
    )
    @classmethod
    def _empty(cls, value: object) -> object:
        """A section with nothing under it means its defaults."""
        return {} if value is None else value

    @field_validator("engine", mode="before")
    @classmethod
    def _engine(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError("its keys stand here, such as path; one of engines is chosen by a model: engine: NAME")
        return value

    @field_validator("users", "groups", "keys", mode="before")
    @classmethod
    def _users(cls, value: object) -> object:
        """YAML reads a bare id as a number; a user, group or key with nothing said has the defaults."""
        if isinstance(value, dict):
            return {str(name): {} if entry is None else entry for name, entry in value.items()}
        return value

    @field_validator("engines", mode="before")
    @classmethod
    def _engines(cls, value: object) -> object:
        """An engine with nothing said is as ``engine``; one that is called as a kind is of that kind."""
        if not isinstance(value, dict):
            return value
        found: dict[str, object] = {}
        for key, entry in value.items():
            name = composed(key) if isinstance(key, str) else key
            if not isinstance(name, str) or not is_name(name):
                raise ValueError(f"{key!r} is no name of an engine: {RULE} (quote numbers)")
            if name == EngineKind.COMMAND:
                raise ValueError(f"{name!r} is the kind of engine that a profile says itself: call it otherwise")
            said = entry.get("kind", name) if isinstance(entry, dict) else name
            if name in list(EngineKind) and said != name:
                raise ValueError(f"{name!r} is a kind of engine, but its kind is to be {said!r}: call it otherwise")
            of_kind = {"kind": name} if name in list(EngineKind) else {}
            found[name] = of_kind | ({} if entry is None else entry) if isinstance(entry, dict | None) else entry
        return found

    @field_validator("models", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        for name in value:
            if not isinstance(name, str) or not is_name(composed(name)):
                raise ValueError(f"{name!r} is no model name: {RULE} (quote numbers)")
            if name == _HOLDS:
                raise ValueError(f"{name!r} is the name of holds: call the model otherwise, and this an alias of it")
        if len({composed(name) for name in value}) < len(value):
            raise ValueError("two names are the same but for how their letters are encoded")
        return {composed(name): {} if entry is None else entry for name, entry in value.items()}

    @model_validator(mode="after")
    def _known_names(self) -> Config:
        """ValueError with a line for each name that means no model or engine, or two."""
        if problems := [*wrong_names(self.models), *self._unknown_engines()]:
            raise ValueError("\n".join(problems))
        return self

    def _unknown_engines(self) -> Iterator[str]:
        known = self._engines_by_name()
        wrong = [
            f"models.{name}.engine is {x.engine!r}"
            for name, x in self.models.items()
            if x.engine is not None and x.engine not in (*known, EngineKind.COMMAND)
        ]
        if wrong:
            yield f"{', '.join(wrong)}: there is no such engine; there are {', '.join(known)}"
            return
        for name, profile in self.models.items():
            if profile.engine in self.engines:  # the profile itself knows the others
                for problem in profile.problems(self.engines[profile.engine].kind):
                    yield f"models.{name}.{problem}"

    def all_engines(self) -> dict[str, EngineSettings]:
        """Every engine by its name: each kind's, those of ``engines``, and those of profiles with their own program."""
        found = self._engines_by_name()
        for name, profile in self.models.items():
            if profile.program is not None:
                base = found[profile.engine or EngineKind.LLAMA_CPP]
                its = replace(base, name=profile.engine_name, path=profile.program, key=f"models.{name}.program")
                found.setdefault(profile.engine_name, its)
        return found

    def _engines_by_name(self) -> dict[str, EngineSettings]:
        kinds = {kind.value: by_kind(self.engine, kind) for kind in PROGRAMS}
        return kinds | {name: by_name(self.engine, name, own) for name, own in self.engines.items()}

    def engines_of_models(self) -> dict[str, EngineSettings]:
        """The engine that runs each model, by the model's name, with the time-outs that its profile says itself."""
        engines, command = self.all_engines(), by_kind(self.engine, EngineKind.COMMAND)
        return {
            name: replace(
                found := engines.get(profile.engine_name, command),
                load_timeout=profile.load_timeout or found.load_timeout,
                stop_timeout=profile.stop_timeout or found.stop_timeout,
            )
            for name, profile in self.models.items()
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each key of the file that has no effect, and for what is open to more than it may seem."""
        opened = [_open(name) for name, profile in self.models.items() if profile.open]
        return (*self._warnings, *self.gateway.warnings, *opened)

    def warned(self, warnings: tuple[str, ...]) -> Config:
        self._warnings = warnings
        return self

    def named(self, name: str) -> str:
        """The profile that a name means: its own, an alias, or that of a variant."""
        found = meant(self.models, composed(name))
        return composed(name) if found is None else found[0]

    def is_variant(self, name: str) -> bool:
        """Whether a name is that of a variant: its profile's with other parameters of requests."""
        found = meant(self.models, composed(name))
        return found is not None and found[1] is not None

    @property
    def uses_ram(self) -> bool:
        """Whether a model may run in part in RAM, whose bytes then count."""
        return any(profile.uses_ram for profile in self.models.values())

    def suspends(self, profile: Profile) -> bool:
        """Whether instances of a profile keep their prompt caches. Those that run for nobody are everybody's."""
        return profile.suspend and self.engine.prompt_cache_gb > 0 and not (profile.keep or profile.preload)

    def idle_timeout_of(self, profile: Profile) -> float:
        return self.idle_timeout if profile.idle_timeout is None else profile.idle_timeout
