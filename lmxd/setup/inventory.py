"""The things that ``lmxd setup`` builds on: the configuration as it is, and the devices, engines and models here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmxd.catalog.gpu_support import usable_here
from lmxd.config.file import parse, read_configuration
from lmxd.config.schema import Config
from lmxd.devices.measurement import DeviceKind, Measurement
from lmxd.engines.engine import EngineKind
from lmxd.engines.llama_cpp.binary import Binary, find, probe
from lmxd.errors import LmxdError
from lmxd.migrate.entries import FoundModel
from lmxd.setup import found_profiles


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """The configuration at ``path``, whose text is ``before`` (None: there is none yet), and what this machine has."""

    path: Path
    before: str | None
    config: Config
    found: FoundModel
    devices: list[Measurement]
    engines: dict[str, Binary] = field(default_factory=dict)
    """Name of an engine -> its program, of those that run."""
    missing: list[LmxdError] = field(default_factory=list)
    """The reasons why others do not."""

    @property
    def models(self) -> list[str]:
        """The names of the models found."""
        return [entry.name for entry in self.found.entries if not entry.open]

    def require_engine(self) -> None:
        """LmxdError ``engine_missing`` if there is none at all."""
        if not self.engines:
            raise self.missing[0]


def take_inventory(directories: Sequence[Path], path: Path) -> Inventory:
    """Look at all of it; at models in ``directories``, or in the usual places. LmxdError if ``path`` cannot be used."""
    found = found_profiles.look(directories)
    before = read_configuration(path, regular=True) if os.path.lexists(path) else None
    config = parse(before or "", str(path))
    _, measured = usable_here(config)
    devices = [device for device in measured if device.kind is not DeviceKind.POOL]
    here = Inventory(path=path, before=before, config=config, found=found, devices=devices)
    for name, settings in config.all_engines().items():
        if settings.kind is not EngineKind.LLAMA_CPP:
            continue  # what is set up is for llama-server
        try:
            here.engines[name] = probe(find(settings.path, settings.key), settings.key)
        except LmxdError as error:
            here.missing.append(error)
    return here
