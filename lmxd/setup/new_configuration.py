"""A commented configuration for this machine: its devices, its engine, and the models that were found."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmxd.catalog.gpu_support import usable_here, warnings
from lmxd.config.file import DEFAULT_CONFIG
from lmxd.config.location import user_config
from lmxd.config.schema import Config
from lmxd.config.section import GIB
from lmxd.devices.measurement import HOST, DeviceKind, Measurement
from lmxd.engines.llama_cpp.binary import Binary, find, here, probe
from lmxd.errors import LmxdError
from lmxd.migrate.document import Document
from lmxd.migrate.engines import distinct, name_of
from lmxd.migrate.entries import FoundModel
from lmxd.models.layouts import own_models, usual_places


def configuration(
    directories: Sequence[Path], found: FoundModel, gateway: dict[str, Any] | None = None, *, own: bool | None = None
) -> str:
    """A commented configuration for this machine, with the models found; without ``gateway`` its section is suggested.

    ``own``: for the user's own daemon, as by default for all but root. The report of ``found`` has sentences about what
    is amiss.
    """
    own = os.geteuid() != 0 if own is None else own
    if not found.entries:
        found.say(f"no model file (*.gguf) in {', '.join(map(str, directories or usual_places()))}, nor below")
    document = Document()
    document.comment("lmxd on this machine. docs/configuration.md has every key; lmxd check-config checks a change.")
    document.space()
    usable, devices = usable_here(Config())
    for warning in warnings(list(usable.values())):
        found.say(warning)
    _gpus(document, devices)
    document.space()
    _engine(document, found)
    document.space()
    document.put({"admission_control": {"queue_depth": 512}}, "requests that may wait; the next one is refused")
    document.space()
    _gateway(document, gateway, own=own)
    document.space()
    document.put({"idle_timeout": 300}, "seconds without a request, then an instance ends")
    home = next(iter(directories), own_models() if own else Config().model_dir).absolute()
    document.put({"model_dir": str(home)})
    document.space()
    document.comment("every model in a directory, also those that come later, without a profile:")
    document.suggest({"models_from": [str(home)]})
    found.write(document, "the model files found")
    return document.text()


def _gpus(document: Document, devices: Sequence[Measurement]) -> None:
    if all(d.id == HOST for d in devices):
        document.comment("No GPU was found: models run in RAM.")
    for d in devices:
        known_as = "" if d.ref == d.id else f" ({d.id})"
        if d.kind is DeviceKind.POOL:
            document.comment(f"It draws from {d.capacity / GIB:.1f} GiB that all programs share.")
            continue
        document.comment(f"{d.ref}: {d.name}, {d.unavailable or f'{d.capacity / GIB:.1f} GiB'}{known_as}")
        if d.unavailable is not None and d.remedy:
            document.comment(d.remedy, "  ")
    document.put({"gpu": {}}, "all of them")
    document.comment(
        "device: 0 for one of them, devices: [0, 1] for several; max_memory_gb: 20 for no more of each", "  "
    )


def _gateway(document: Document, said: dict[str, Any] | None, *, own: bool) -> None:
    """The section of the gateway; a suggestion of one, and how it would be started, if nothing is ``said``."""
    if said is not None:
        document.comment("OpenAI's API and the dashboard; lmxd key NAME makes a key more")
        document.put({"gateway": said})
        return
    key, start = ("lmxd --user key", "lmxd --user gateway") if own else ("lmxd key", "systemctl start lmxd-gateway")
    document.comment(f"OpenAI's API and the dashboard: {key} NAME, then {start}")
    keys_file = (user_config() if own else DEFAULT_CONFIG).with_name("gateway.keys")
    document.suggest({"gateway": {"listen": "127.0.0.1:8080", "keys_file": str(keys_file)}})


def _engine(document: Document, found: FoundModel) -> None:
    """The llama-server that lmxd finds by itself, and others that are here as engines by their builds."""
    try:
        binary = probe(find(None))
    except LmxdError as error:
        found.say(str(error))
        document.put({"engine": {}}, "no llama-server was found: install one, or name it here")
        document.suggest({"engine": {"path": "/usr/local/bin/llama-server"}})
        return
    document.comment(f"llama-server {binary.version} was found: {binary.path}")
    document.put({"engine": {}})
    document.suggest({"engine": {"path": str(binary.path)}})
    others = [other for other in _binaries() if not other.path.samefile(binary.path)]
    if others:
        document.space()
        document.comment("There are others, too; a model chooses one by its name, such as engine: NAME.")
        names = distinct((other, _build(other)) for other in others)
        document.suggest({"engines": {name: {"path": str(other.path)} for name, other in names.items()}})


def _binaries() -> Iterator[Binary]:
    """The llama-servers that run, each once."""
    for path in {path.resolve(): path for path in here()}.values():
        with suppress(LmxdError):
            yield probe(path)


def _build(binary: Binary) -> str:
    """The backends that a build has, as a name; its directory's where its files do not tell."""
    if binary.backends is None:
        return name_of(str(binary.path))
    return "-".join(sorted(backend.lower() for backend in binary.backends)) or "cpu"
