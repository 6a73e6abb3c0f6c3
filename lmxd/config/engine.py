"""The settings of llama-server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from lmxd.config.section import Section, UsablePath
from lmxd.config.values import Seconds
from lmxd.engines import environment


class EngineConfig(Section):
    """Settings of llama-server: where it is, and how instances of it start and stop."""

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
    environment: dict[str, str] = Field(
        {}, description="variables for llama-server that its GPU needs, from an allow-list: HSA_OVERRIDE_GFX_VERSION …"
    )
    read_ahead: bool = Field(True, description="a model's file is read into the page cache while its bytes are awaited")
    prompt_cache_gb: Annotated[float, Field(ge=0, le=100_000)] = Field(
        0, description="disk for the prompt caches of ended instances of profiles that suspend; 0 for none"
    )
    log_max_mb: Annotated[float, Field(gt=0, le=10_000)] = Field(8, description="size cap of one instance's log")

    @field_validator("environment", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        """YAML's numbers are as good as their text, and a switch that is on is 1."""
        if not isinstance(value, dict):
            return value
        return {
            str(name): str(int(word) if isinstance(word, bool) else word) if isinstance(word, (int, float)) else word
            for name, word in value.items()
        }

    @field_validator("environment")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        if found := [why for name, word in value.items() if (why := environment.problem(name, word))]:
            raise ValueError("; ".join(found))
        return value
