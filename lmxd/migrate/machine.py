"""The devices, the engine and the model files of this machine, as the start of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lmxd.cli.files import Wanted, estimates_in
from lmxd.devices.host import HostProbe
from lmxd.devices.measurement import Measurement
from lmxd.devices.nvml import NoGpu, NvmlProbe
from lmxd.engines.llama_cpp.binary import find, probe
from lmxd.errors import LmxdError
from lmxd.migrate.entries import Entry, FoundModel, rendered
from lmxd.rpc.estimates import Estimated

_GIB: Final = 2**30
_MODEL_DIR: Final = Path("/var/lib/lmxd/models")


def scan(directory: Path) -> FoundModel:
    """A profile for each model in a directory, with the bytes that it would take here.

    LmxdError ``model_file_missing`` if the directory cannot be read.
    """
    found = FoundModel()
    for estimated in estimates_in(directory, Wanted()):
        if isinstance(estimated, LmxdError):
            found.left.append(f"{estimated.data.get('file', directory)}: {estimated}")
            continue
        path = Path(estimated.model).absolute()
        found.add(Entry(_name(path), {"path": str(path), "context_length": estimated.ctx}, _needs(estimated)))
    return found.checked()


def _name(path: Path) -> str:
    """Without the number of its part."""
    return path.stem.rpartition("-00001-of-")[0] or path.stem


def _needs(found: Estimated) -> str:
    sizes = [f"{d['total'] / _GIB:.2f} GiB of {d['device']}" for d in _devices(found)]
    sizes.append(f"{found.host['total'] / _GIB:.2f} GiB of RAM")
    return f"{' and '.join(sizes)} at {found.ctx} tokens ({found.basis}, plus or minus {found.error / 2**20:.0f} MiB)"


def _devices(found: Estimated) -> list[dict[str, int]]:
    return list(found.devices)


def configuration(directories: Sequence[Path]) -> tuple[str, list[str]]:
    """(a commented configuration for this machine, what is amiss)."""
    found = FoundModel()
    for directory in directories:
        more = scan(directory)
        found.left += more.left
        for entry in more.entries:
            found.add(entry)
    text = ["# lmxd on this machine. docs/configuration.md has every key; lmxd check-config checks a change.", ""]
    text += [*_gpus(), "", *_engine(found.left), ""]
    text += [
        "admission_control:",
        "  queue_depth: 512      # requests that may wait; the next one is refused",
        "",
        "# OpenAI's API and the dashboard: lmxd key NAME, then systemctl start lmxd-gateway",
        "#gateway:",
        "#  listen: 127.0.0.1:8080",
        "#  keys_file: /etc/lmxd/gateway.keys",
        "",
        "idle_timeout: 300       # seconds without a request after which an instance ends",
        f"model_dir: {next(iter(directories), _MODEL_DIR).absolute()}",
        "",
    ]
    return "\n".join(text) + rendered(found, "the model files found"), found.left


def _gpus() -> list[str]:
    devices = _measured()
    lines = [
        f"# {d.ref}: {d.name}, {d.capacity / _GIB:.1f} GiB" + ("" if d.ref == d.id else f" ({d.id})") for d in devices
    ]
    if all(d.id == "host" for d in devices):
        lines.insert(0, "# No NVIDIA GPU was found: models run in RAM.")
    return [
        *lines,
        "gpu: {}                 # all of them",
        "#  device: 0            # or one of them, or several: devices: [0, 1]",
        "#  max_memory_gb: 20    # the most that lmxd may use of each",
    ]


def _measured() -> list[Measurement]:
    import pynvml

    probe = NvmlProbe(pynvml, None)
    try:
        probe.look()
    except NoGpu:
        return list(HostProbe().measure(set()))
    return list(probe.measure(set()))


def _engine(left: list[str]) -> list[str]:
    try:
        binary = probe(find(None))
    except LmxdError as error:
        left.append(str(error))
        return [
            "engine: {}              # no llama-server was found: install one, or name it here",
            "#  path: /usr/local/bin/llama-server",
        ]
    return [f"# llama-server {binary.version} was found: {binary.path}", "engine: {}", f"#  path: {binary.path}"]
