"""The devices, the engine and the model files of this machine, as the start of a configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from lmxd.catalog.gpu_support import usable_here, warnings
from lmxd.cli.files import Wanted, estimates_of
from lmxd.config.file import DEFAULT_CONFIG
from lmxd.config.location import user_config
from lmxd.config.schema import Config
from lmxd.devices.measurement import HOST, DeviceKind, Measurement
from lmxd.engines.llama_cpp.binary import Binary, find, here, probe
from lmxd.errors import LmxdError
from lmxd.migrate.document import Document
from lmxd.migrate.engines import distinct, name_of
from lmxd.migrate.entries import Entry, FoundModel
from lmxd.models.found import ModelOnDisk, Search
from lmxd.models.layouts import own_models, repository_directory, usual_places
from lmxd.rpc.estimates import Estimated

_GIB: Final = 2**30
_MODEL_DIR: Final = Path("/var/lib/lmxd/models")


def scan(directories: Sequence[Path]) -> FoundModel:
    """A profile for each model in directories, with the bytes that it would take here.

    Without any: in the usual places of this and of other tools. LmxdError ``model_file_missing`` if there is none.
    """
    found = look(directories)
    if not found.entries:
        looked = ", ".join(str(place) for place in directories or usual_places())
        problem = "; ".join([f"there is no model file (*.gguf) in {looked}, nor below", *found.left])
        raise LmxdError("model_file_missing", problem, "name a directory, or fetch one: lmxd pull hf:ORG/REPO")
    return found


def look(directories: Sequence[Path]) -> FoundModel:
    """The profiles, and sentences about what could not be used. Of the usual places, those count that are there."""
    search, found = Search(), FoundModel()
    for place in directories or [place for place in usual_places() if _is_open(place)]:
        search.look(place)
    for sentence in search.unread:
        found.say(sentence)
    for model, estimated in zip(search.models, estimates_of((m.path for m in search.models), Wanted()), strict=True):
        if model.missing:
            found.say(f"{model.name}: {model.missing} of its parts are missing beside {model.path}")
        elif isinstance(estimated, LmxdError):
            found.say(f"{model.name}: {estimated}")
        else:
            path = _nameable(model, found)
            words = f"{needs(estimated)}{_beside(model)}"
            settings = {"path": str(path), "context_length": estimated.ctx, "aliases": list(model.aliases)}
            found.add(Entry(model.name, settings, words))
    return found.checked()


def _is_open(place: Path) -> bool:
    return place.is_dir() and os.access(place, os.R_OK | os.X_OK)


def _nameable(model: ModelOnDisk, found: FoundModel) -> Path:
    """The path for a profile: one whose directory, or repository, holds all parts, so that lmxd may open them.

    Where a link leads elsewhere the file itself is named; of a split model, its directory is added to ``model_dirs``.
    """
    home = (repository_directory(model.path) or model.path.parent).resolve()
    elsewhere = [real for part in model.parts if not (real := part.resolve()).is_relative_to(home)]
    if not elsewhere:
        return model.path
    if len(model.parts) == 1:
        return elsewhere[0]
    known = found.settings.get("model_dirs", [])
    found.settings["model_dirs"] = list(dict.fromkeys([*known, *(str(real.parent) for real in elsewhere)]))
    return model.path


def _beside(model: ModelOnDisk) -> str:
    parts = f"; in {len(model.parts)} parts" if len(model.parts) > 1 else ""
    return f"{parts}; its projector for pictures is {model.projector}" if model.projector else parts


def needs(found: Estimated) -> str:
    """The bytes of an estimated launch, in words."""
    sizes = [f"{d['total'] / _GIB:.2f} GiB of {d['device']}" for d in _devices(found)]
    sizes.append(f"{found.host['total'] / _GIB:.2f} GiB of RAM")
    return f"{' and '.join(sizes)} at {found.ctx} tokens ({found.basis}, plus or minus {found.error / 2**20:.0f} MiB)"


def _devices(found: Estimated) -> list[dict[str, int]]:
    return list(found.devices)


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
    if gateway is None:
        how = (
            "lmxd --user key NAME, then lmxd --user gateway"
            if own
            else "lmxd key NAME, then systemctl start lmxd-gateway"
        )
        document.comment(f"OpenAI's API and the dashboard: {how}")
        keys_file = (user_config() if own else DEFAULT_CONFIG).with_name("gateway.keys")
        document.suggest({"gateway": {"listen": "127.0.0.1:8080", "keys_file": str(keys_file)}})
    else:
        document.comment("OpenAI's API and the dashboard; lmxd key NAME makes a key more")
        document.put({"gateway": gateway})
    document.space()
    document.put({"idle_timeout": 300}, "seconds without a request, then an instance ends")
    home = next(iter(directories), own_models() if own else _MODEL_DIR).absolute()
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
            document.comment(f"It draws from {d.capacity / _GIB:.1f} GiB that all programs share.")
            continue
        document.comment(f"{d.ref}: {d.name}, {d.unavailable or f'{d.capacity / _GIB:.1f} GiB'}{known_as}")
        if d.unavailable is not None and d.remedy:
            document.comment(d.remedy, "  ")
    document.put({"gpu": {}}, "all of them")
    document.comment(
        "device: 0 for one of them, devices: [0, 1] for several; max_memory_gb: 20 for no more of each", "  "
    )


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
