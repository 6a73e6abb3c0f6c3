"""The devices, the engine and the model files of this machine, as the start of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lmxd.catalog.usable import usable_here
from lmxd.cli.files import Wanted, estimates_in
from lmxd.config.schema import Config
from lmxd.devices.measurement import HOST, Measurement
from lmxd.engines.llama_cpp.binary import find, probe
from lmxd.errors import LmxdError
from lmxd.migrate.document import Document
from lmxd.migrate.entries import Entry, FoundModel
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
            found.say(f"{estimated.data.get('file', directory)}: {estimated}")
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
    document = Document()
    document.comment("lmxd on this machine. docs/configuration.md has every key; lmxd check-config checks a change.")
    document.space()
    usable, devices = usable_here(Config())
    found.left += usable.warnings()
    _gpus(document, devices)
    document.space()
    _engine(document)
    document.space()
    document.put({"admission_control": {"queue_depth": 512}}, "requests that may wait; the next one is refused")
    document.space()
    document.comment("OpenAI's API and the dashboard: lmxd key NAME, then systemctl start lmxd-gateway")
    document.suggest({"gateway": {"listen": "127.0.0.1:8080", "keys_file": "/etc/lmxd/gateway.keys"}})
    document.space()
    document.put({"idle_timeout": 300}, "seconds without a request after which an instance ends")
    document.put({"model_dir": str(next(iter(directories), _MODEL_DIR).absolute())})
    document.space()
    found.checked().write(document, "the model files found")
    return document.text(), found.left


def _gpus(document: Document, devices: Sequence[Measurement]) -> None:
    if all(d.id == HOST for d in devices):
        document.comment("No GPU was found: models run in RAM.")
    for d in devices:
        known_as = "" if d.ref == d.id else f" ({d.id})"
        document.comment(f"{d.ref}: {d.name}, {d.unavailable or f'{d.capacity / _GIB:.1f} GiB'}{known_as}")
        if d.unavailable is not None and d.remedy:
            document.comment(d.remedy, "  ")
    document.put({"gpu": {}}, "all of them")
    document.comment(
        "device: 0 for one of them, devices: [0, 1] for several; max_memory_gb: 20 for no more of each", "  "
    )


def _engine(document: Document) -> None:
    try:
        binary = probe(find(None))
    except LmxdError:  # that was said
        document.put({"engine": {}}, "no llama-server was found: install one, or name it here")
        document.suggest({"engine": {"path": "/usr/local/bin/llama-server"}})
        return
    document.comment(f"llama-server {binary.version} was found: {binary.path}")
    document.put({"engine": {}})
    document.suggest({"engine": {"path": str(binary.path)}})
