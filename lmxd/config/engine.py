"""The settings of engines: of llama-server in general, and of each engine that has a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from lmxd.config.section import Section, UsablePath
from lmxd.config.values import Seconds
from lmxd.engines import environment
from lmxd.engines.engine import PROGRAMS, EngineKind

_PER_ENGINE: Final = ("path", "endpoint", "environment", "load_timeout", "stop_timeout")
"""Keys that each engine may have for itself. The others of ``engine`` are about all instances together."""


_NOT_INHERITED: Final[dict[str, Any]] = {"path": None, "endpoint": "unix"}
"""Keys of ``engine`` that are about llama-server alone: what they are for other kinds."""


def _words(value: object) -> object:
    """YAML's numbers are as good as their text, and a switch that is on is 1."""
    if not isinstance(value, dict):
        return value
    return {
        str(name): str(int(word) if isinstance(word, bool) else word) if isinstance(word, (int, float)) else word
        for name, word in value.items()
    }


def _allowed(value: dict[str, str]) -> dict[str, str]:
    if found := [why for name, word in value.items() if (why := environment.problem(name, word))]:
        raise ValueError("; ".join(found))
    return value


_Environment = Annotated[dict[str, str], BeforeValidator(_words), AfterValidator(_allowed)]


def _with_env(schema: dict[str, Any]) -> None:
    properties = schema["properties"]
    properties["env"] = {**properties["environment"], "description": "short for environment"}


class _WithEnvironment(Section):
    """A section with an ``environment``, which ``env`` is short for."""

    model_config = ConfigDict(json_schema_extra=_with_env)

    @model_validator(mode="before")
    @classmethod
    def _env(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "env" not in value:
            return value
        if "environment" in value:
            raise ValueError("env is short for environment: give one of them")
        return {"environment" if key == "env" else key: said for key, said in value.items()}


class EngineConfig(_WithEnvironment):
    """Settings of llama-server: where it is, and how instances of it start and stop.

    Each of ``engines`` is as it says here in what it does not say itself.
    """

    path: UsablePath | None = Field(None, description="llama-server; by default from PATH or an installed wheel")
    endpoint: Literal["unix", "tcp"] = Field(
        "unix", description="Unix socket per instance, for holders of its leases; or loopback TCP port, for every user"
    )
    user: str | None = Field(
        None,
        min_length=1,
        description="user that engines run as where lmxd is root; by default lmxd or nobody in system mode, else root",
    )
    load_timeout: Seconds = Field(600, description="seconds until an instance must be ready")
    stop_timeout: Seconds = Field(10, description="seconds from SIGTERM to SIGKILL")
    parallel_loads: int | None = Field(
        None,
        ge=1,
        le=64,
        description="instances that load on one device at once; by default one for each core, at most 8",
    )
    environment: _Environment = Field(
        {},
        description="variables for llama-server that its GPU needs, from an allow-list: HSA_OVERRIDE_GFX_VERSION …",
    )
    read_ahead: bool = Field(True, description="a model's file is read into the page cache while its bytes are awaited")
    prompt_cache_gb: Annotated[float, Field(ge=0, le=100_000)] = Field(
        0, description="disk for the prompt caches of ended instances of profiles that suspend; 0 for none"
    )
    log_max_mb: Annotated[float, Field(gt=0, le=10_000)] = Field(8, description="size cap of one instance's log")


class NamedEngineConfig(_WithEnvironment):
    """One entry of ``engines``: an engine that profiles choose by its name. What it leaves out is as in ``engine``."""

    kind: Annotated[EngineKind, WithJsonSchema({"enum": list(PROGRAMS)})] = Field(
        EngineKind.LLAMA_CPP, description=f"of {', '.join(PROGRAMS)}"
    )
    path: UsablePath | None = Field(None, description="its program; by default as in engine")
    environment: _Environment | None = Field(None, description="likewise")
    endpoint: Literal["unix", "tcp"] | None = Field(None, description="likewise")
    load_timeout: Seconds | None = Field(None, description="likewise")
    stop_timeout: Seconds | None = Field(None, description="likewise")

    @model_validator(mode="before")
    @classmethod
    def _of_all(cls, value: Any) -> Any:
        general = EngineConfig.model_fields.keys() - cls.model_fields.keys()
        if isinstance(value, dict) and (wrong := [str(key) for key in value if key in general]):
            raise ValueError(f"{', '.join(wrong)}: this holds for all engines together, and stands under engine")
        return value

    @field_validator("kind", mode="before")
    @classmethod
    def _kind(cls, value: object) -> object:
        if value not in PROGRAMS:
            raise ValueError(f"there is no such kind of engine; known are {', '.join(PROGRAMS)}")
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSettings:
    """The settings of one engine, with nothing left out. ``key``: the key of the configuration that has its path.

    The engine that runs what names none is called by its kind.
    """

    name: str
    kind: EngineKind
    key: str
    path: Path | None
    environment: Mapping[str, str]
    endpoint: str
    load_timeout: float
    stop_timeout: float

    @property
    def identity(self) -> tuple[object, ...]:
        """The settings that two instances share if one may serve for the other; empty for llama.cpp as it is found."""
        if self.name == self.kind and self.path is None and not self.environment:
            return ()
        return self.name, None if self.path is None else str(self.path), dict(self.environment)


def by_kind(general: EngineConfig, kind: EngineKind) -> EngineSettings:
    """The engine that is called by its kind: it is as ``engine`` says."""
    settings = {key: getattr(general, key) for key in _PER_ENGINE}
    if kind is EngineKind.LLAMA_CPP:
        return EngineSettings(name=kind.value, kind=kind, key="engine.path", **settings)
    return EngineSettings(name=kind.value, kind=kind, key=f"engines.{kind}.path", **settings | _NOT_INHERITED)


def by_name(general: EngineConfig, name: str, own: NamedEngineConfig) -> EngineSettings:
    """The engine of a name, with what it leaves out taken from ``engine``."""
    said = {key: value for key in _PER_ENGINE if (value := getattr(own, key)) is not None}
    settings = {key: getattr(general, key) for key in _PER_ENGINE}
    if own.kind is not EngineKind.LLAMA_CPP:
        settings |= _NOT_INHERITED
    inherits = own.path is None and settings["path"] is not None
    key = "engine.path" if inherits else f"engines.{name}.path"
    return EngineSettings(name=name, kind=own.kind, key=key, **settings | said)
