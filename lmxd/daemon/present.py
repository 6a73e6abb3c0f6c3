"""What holds at present: the configuration in force, and the last look at the devices. The loop replaces it whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmxd.daemon.catalog import Catalog
from lmxd.devices.measurement import Kind, Measurement
from lmxd.engines.llama_cpp.server import LlamaServer


@dataclass(slots=True)
class Present:
    """``kinds``: of the devices, by id."""

    catalog: Catalog
    engine: LlamaServer
    begun: float = float("-inf")
    """When the last look began."""
    measured: Sequence[Measurement] = ()
    kinds: Mapping[str, Kind] = field(default_factory=dict)
