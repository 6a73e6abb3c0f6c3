"""The configuration in force, and the last look at the devices. Only the loop changes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmxd.accounts import SystemUser
from lmxd.catalog.catalog import Catalog
from lmxd.catalog.gpu_support import usable_gpus
from lmxd.catalog.layout import Layout
from lmxd.core.words import Ask
from lmxd.devices.diagnostics import diagnostics
from lmxd.devices.measurement import Measurement
from lmxd.devices.roots import Roots
from lmxd.engines.command import CommandEngine
from lmxd.engines.engine import Engine, EngineKind, InstalledServer
from lmxd.engines.kinds import server
from lmxd.engines.llama_cpp.binary import Binary
from lmxd.engines.llama_cpp.dry_run import DryRunner
from lmxd.errors import LmxdError
from lmxd.estimate.estimator import Estimator
from lmxd.estimate.learned import Learned


@dataclass(slots=True)
class Present:
    """The configuration in force and the last look at the devices."""

    catalog: Catalog
    roots: Roots = field(default_factory=Roots)
    """Of the kernel's files."""
    servers: dict[str, InstalledServer] = field(default_factory=dict)
    """The engines by their names."""
    engine_names: dict[str, str] = field(default_factory=dict)
    """Path and version of each that was found."""
    warnings: list[str] = field(default_factory=list)
    begun: float = float("-inf")
    """The time at which the last look began."""
    measured: Sequence[Measurement] = ()
    layout: Layout = field(default_factory=Layout)
    _stamps: dict[str, object] = field(default_factory=dict)
    """The programs that were found."""
    _missing: dict[str, str] = field(default_factory=dict)
    """The warnings that there was none."""

    def adopt(self, catalog: Catalog, account: SystemUser | None) -> None:
        """Make a catalog the one in force. What its engines could use counts until they have been looked at anew.

        ``account``: the user that they run as; None for ours.
        """
        for name, engine in catalog.engines.items():
            engine.usable = self.catalog.installed(name).usable
        self.catalog = catalog
        self.servers = {
            name: server(its.kind, its.path, its.environment, account, its.key)
            for name, its in ((name, engine.settings) for name, engine in catalog.engines.items())
        }

    def engine(self, name: str, kind: EngineKind) -> Engine:
        """The engine of a name: the one place where a kind finds its own.

        One that is gone from the configuration is replaced by the default of its kind: its instances go on.
        """
        if kind is EngineKind.COMMAND:
            return CommandEngine()
        return self.servers.get(name) or self.servers[kind]

    def find_usable(self) -> None:
        """Find out which of the GPUs that were measured last each engine is built for. It may have to be asked."""
        catalog, measured = self.catalog, self.measured
        catalog.see(
            measured, {name: usable_gpus(server, measured, self.roots) for name, server in self.servers.items()}
        )

    def find_engines(self, names: Iterable[str], learned: Learned, dry_runs: Path, account: SystemUser | None) -> None:
        """Look for some engines, and have estimates be those of their builds.

        ``dry_runs``: where their answers are kept. ``account``: the user that they run as; None for ours.
        """
        servers, engines = self.servers, self.catalog.engines
        for name in names:
            if name not in servers or name not in engines:
                continue  # a reload has taken it away meanwhile
            server, engine = servers[name], engines[name]
            self._stamps[name] = server.stamp()
            self._missing.pop(name, None)
            self.engine_names.pop(name, None)
            try:
                binary = server.binary()
            except LmxdError as error:
                self._missing[name] = self.catalog.missing(name, error)
                continue
            self.engine_names[name] = binary.name
            engine.build = binary.version
            if isinstance(binary, Binary):
                runner = DryRunner(binary, dry_runs, account=account)
                engine.estimator = Estimator(build=binary.family, learned=learned, second=runner, patient=False)
            else:
                engine.estimator = replace(engine.estimator, learned=learned)

    def most_context(self, ask: Ask) -> int | None:
        """Tokens that a lease with this ask may grow to; None where its context is fixed, or its profile is gone."""
        if not ask.elastic:
            return None
        try:
            steps = self.catalog.steps(ask.profile)
        except LmxdError:
            return None
        return steps[-1] if steps else None

    @property
    def missing_engines(self) -> list[str]:
        """The names of those of which no program was found that runs."""
        return [name for name in self.servers if name not in self.engine_names]

    def changed_engines(self) -> list[str]:
        """The names of those for which another llama-server is there now: upgraded in its place, new, or gone."""
        return [name for name, server in self.servers.items() if server.stamp() != self._stamps.get(name)]

    def engines(self) -> dict[str, str]:
        """Name -> path and version of each engine in use; none for one that was not found."""
        names = [engine.settings.name for engine in self.catalog.in_use()]
        return {name: self.engine_names.get(name, "none") for name in names}

    def all_warnings(self) -> list[str]:
        """The warnings of the configuration, the devices, and the engines on these."""
        return [*self.warnings, *self.missing(), *diagnostics(self.measured), *self.catalog.warnings_of_engines()]

    def missing(self) -> list[str]:
        """A sentence for each engine in use that was not found."""
        return list(dict.fromkeys(self._missing[name] for name in self.engines() if name in self._missing))

    def learn(self, learned: Learned) -> None:
        """Let what was observed count from now on."""
        for engine in self.catalog.engines.values():
            engine.estimator = replace(engine.estimator, learned=learned)
