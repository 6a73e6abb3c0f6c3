"""What can be configured, with defaults and limits. Gigabytes are GiB (2**30 bytes) here only."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    field_validator,
    model_validator,
)

from lmxd.engines.llama_cpp import flags
from lmxd.gguf.types import CACHE_TYPES

GIB: Final = 2**30
_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}")

Gigabytes = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)]


def _on_off(value: object) -> object:
    """YAML reads a bare on or off as a boolean."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def _device_ref(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value:
        return int(value) if value.isdecimal() else value
    raise ValueError("name a GPU by index (0), UUID (GPU-…) or PCI id (0000:01:00.0), or RAM as host")


def _gpu_layers(value: object) -> int | None:
    if value == "all":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError("give a number of layers from 0 up, or all")


DeviceRef = Annotated[int | str, PlainValidator(_device_ref)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceConfig(Section):
    """One device to use, with its own limit and margin."""

    device: DeviceRef = Field(description="index, UUID or PCI id of a GPU, or host for RAM")
    max_memory_gb: Gigabytes | None = Field(None, description="the most that lmxd may use of it")
    margin_gb: float | None = Field(None, ge=0, description="never promised to anybody")


class GpuConfig(Section):
    """Which devices to use. Nothing said: all GPUs that NVML finds, or RAM if it finds none."""

    device: DeviceRef | None = Field(None, description="the one device to use")
    devices: tuple[DeviceConfig, ...] | None = Field(None, description="several devices, by name or with own limits")
    max_memory_gb: Gigabytes | None = Field(None, description="the most that lmxd may use of each device")
    margin_gb: float | None = Field(
        None, ge=0, description="never promised; by default 2 on a GPU, for RAM the larger of 1 and 5 %"
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

    def complete(self, own: DeviceConfig) -> DeviceConfig:
        """``own`` with what it leaves open taken from here."""
        return DeviceConfig(
            device=own.device,
            max_memory_gb=self.max_memory_gb if own.max_memory_gb is None else own.max_memory_gb,
            margin_gb=self.margin_gb if own.margin_gb is None else own.margin_gb,
        )


class AdmissionConfig(Section):
    enabled: bool = Field(True, description="off: everything starts at once and only the books are kept")
    queue_depth: int = Field(5, ge=0, le=100_000, description="requests that may wait; the next one is refused")


class EngineConfig(Section):
    path: Path | None = Field(None, description="llama-server; by default from PATH or an installed wheel")
    endpoint: Literal["tcp", "unix"] = Field("tcp", description="loopback TCP port or Unix socket per instance")
    load_timeout: Seconds = Field(600, description="seconds until an instance must be ready")
    stop_timeout: Seconds = Field(10, description="seconds from SIGTERM to SIGKILL")
    log_max_mb: Annotated[float, Field(gt=0, le=10_000)] = Field(8, description="size cap of one instance's log")


class MetricsConfig(Section):
    listen: str | None = Field(None, description="127.0.0.1:PORT, [::1]:PORT or unix:PATH; off by default")

    @field_validator("listen")
    @classmethod
    def _local(cls, value: str | None) -> str | None:
        if value is None or re.fullmatch(r"unix:/.+", value):
            return value
        match = re.fullmatch(r"(127\.\d+\.\d+\.\d+|localhost|\[::1\]):(\d{1,5})", value)
        if not match or int(match[2]) > 65535:
            raise ValueError("only 127.0.0.1:PORT, localhost:PORT, [::1]:PORT or unix:/PATH is possible")
        return value


class Profile(Section):
    """One entry of ``models``: what a client may ask for by name."""

    path: Path | None = Field(None, description="GGUF file (the first of a split); else looked up in model_dir")
    context_length: int | None = Field(
        None,
        ge=1,
        le=2**27,
        description="tokens that one slot can hold; by default 4096, or what the model was trained for",
    )
    slots: int = Field(1, ge=1, le=256, description="leases that an instance can carry at once")
    gpu_layers: Annotated[int | None, PlainValidator(_gpu_layers)] = Field(
        None, description="how many layers go to the GPU, the output layer counted first; all by default"
    )
    batch_size: int = Field(2048, ge=1, le=2**20, description="as -b")
    ubatch_size: int = Field(
        512, ge=1, le=2**20, description="as -ub: larger is faster with long prompts, and takes more"
    )
    cache_type_k: str = Field("f16", description="of " + ", ".join(CACHE_TYPES))
    cache_type_v: str = Field("f16", description="likewise; a quantized one needs flash attention")
    flash_attention: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_off)] = Field(
        "auto", description="auto: where the GPU has a kernel for the model's heads"
    )
    threads: int | None = Field(None, ge=1, le=4096, description="as -t; by default the engine's choice")
    engine_flags: tuple[str, ...] = Field((), description="further flags of llama-server, from an allow-list")
    estimated_memory_gb: Gigabytes | None = Field(None, description="your word for the bytes; else the estimator's")
    priority: int = Field(0, ge=-100, le=100, description="of two idle instances the lower is evicted first")
    pin: bool = Field(False, description="once started, neither evicted nor reaped")
    idle_timeout: Seconds | None = Field(None, description="overrides the global idle_timeout")

    @field_validator("cache_type_k", "cache_type_v")
    @classmethod
    def _cache_type(cls, value: str) -> str:
        if value not in CACHE_TYPES:
            raise ValueError(f"possible are {', '.join(CACHE_TYPES)}")
        return value

    @field_validator("engine_flags", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        """YAML's numbers and switches are as good as their text."""
        if isinstance(value, list):
            return [str(w) if isinstance(w := _on_off(v), (int, float)) else w for v in value]
        return value

    @field_validator("engine_flags")
    @classmethod
    def _flags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if found := flags.problems(value):
            raise ValueError("; ".join(found))
        return value

    @model_validator(mode="after")
    def _flash(self) -> Profile:
        if self.flash_attention == "off" and CACHE_TYPES[self.cache_type_v].quantized:
            raise ValueError(f"cache_type_v: {self.cache_type_v} needs flash attention, but flash_attention is off")
        return self

    def variant(self) -> str:
        """Names what two launches must share to be interchangeable: all settings but context and policy."""
        engine = self.model_dump(
            mode="json",
            exclude={"context_length", "slots", "estimated_memory_gb", "priority", "pin", "idle_timeout"},
        )
        return hashlib.sha256(json.dumps(engine, sort_keys=True).encode()).hexdigest()[:12]


class Config(Section):
    gpu: GpuConfig = Field(GpuConfig(), description="which devices to use, and how much of them")
    admission_control: AdmissionConfig = Field(AdmissionConfig(), description="the queue")
    engine: EngineConfig = Field(EngineConfig(), description="llama-server")
    metrics: MetricsConfig = Field(MetricsConfig(), description="Prometheus")
    idle_timeout: Seconds = Field(300, description="seconds without a request after which an instance ends")
    model_dir: Path = Field(Path("/var/lib/lmxd/models"), description="where model files are looked up")
    models: dict[str, Profile] = Field({}, description="name -> what a client may ask for by it")

    @field_validator("gpu", "admission_control", "engine", "metrics", "models", mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        """A section with nothing under it means its defaults."""
        return {} if value is None else value

    @field_validator("models", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        for name in value:
            if not isinstance(name, str) or not _PROFILE.fullmatch(name):
                raise ValueError(f"{name!r} is no model name: letters, digits and . _ : @ + - (quote numbers)")
        return {name: {} if entry is None else entry for name, entry in value.items()}

    def idle_timeout_of(self, profile: Profile) -> float:
        return self.idle_timeout if profile.idle_timeout is None else profile.idle_timeout
