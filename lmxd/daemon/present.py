"""The configuration in force, and the last look at the devices. Only the loop changes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmxd.accounts import SystemUser
from lmxd.catalog.catalog import Catalog
from lmxd.catalog.layout import Layout
from lmxd.catalog.usable import usable_gpus
from lmxd.devices.diagnostics import diagnostics
from lmxd.devices.measurement import Measurement
from lmxd.devices.roots import Roots
from lmxd.engines.command import CommandEngine
from lmxd.engines.engine import Engine, EngineKind
from lmxd.engines.llama_cpp.dry_run import DryRunner
from lmxd.engines.llama_cpp.server import LlamaServer
from lmxd.errors import LmxdError
from lmxd.estimate.estimator import Estimator
from lmxd.estimate.learned import Learned
from lmxd.gguf.builds import family


@dataclass(slots=True)
class Present:
    """The configuration in force and the last look at the devices."""

    catalog: Catalog
    llama: LlamaServer
    roots: Roots = field(default_factory=Roots)
    """Of the kernel's files."""
    engine_name: str = "none"
    """The engine's path and version."""
    warnings: list[str] = field(default_factory=list)
    begun: float = float("-inf")
    """The time at which the last look began."""
    measured: Sequence[Measurement] = ()
    layout: Layout = field(default_factory=Layout)
    _stamp: object = None
    """The llama-server that was found."""
    _missing: str = ""
    """The warning that there was none."""

    def find_usable(self) -> None:
        """Find out which of the GPUs that were measured last the engine is built for. It may have to be asked."""
        self.catalog.see(usable_gpus(self.llama, self.measured, self.roots), self.measured)

    def engine(self, kind: EngineKind) -> Engine:
        """The engine of a kind: the one place where a kind finds it."""
        engines: dict[EngineKind, Engine] = {EngineKind.LLAMA_CPP: self.llama, EngineKind.COMMAND: CommandEngine()}
        return engines[kind]

    def find_engine(self, learned: Learned, dry_runs: Path, account: SystemUser | None) -> None:
        """Look for the engine, and have estimates be those of its build.

        ``dry_runs``: where its answers are kept. ``account``: the user that it runs as; None for ours.
        """
        self._stamp = self.llama.stamp()
        self.warnings = [warning for warning in self.warnings if warning != self._missing]
        try:
            binary = self.llama.binary()
        except LmxdError as error:
            self._missing = str(error)
            self.warnings.append(self._missing)
            self.engine_name = "none"
            return
        self.engine_name = binary.name
        self.catalog.build = binary.version
        self.catalog.estimator = Estimator(
            build=family(binary.version, binary.flags),
            learned=learned,
            second=DryRunner(binary, dry_runs, account=account),
            patient=False,
        )

    @property
    def has_engine(self) -> bool:
        """Whether a llama-server was found that runs."""
        return self.engine_name != "none"

    def engine_changed(self) -> bool:
        """Whether another llama-server is there than the one that was found: upgraded in its place, new, or gone."""
        return self.llama.stamp() != self._stamp

    def all_warnings(self) -> list[str]:
        """The warnings of the configuration, the devices, and the engine on these."""
        return [*self.warnings, *diagnostics(self.measured), *self.catalog.usable.warnings()]

    def learn(self, learned: Learned) -> None:
        """Let what was observed count from now on."""
        self.catalog.estimator = replace(self.catalog.estimator, learned=learned)
