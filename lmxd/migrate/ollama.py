"""ollama's store as profiles: manifests name blobs, and the largest is a GGUF file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from lmxd.errors import LmxdError
from lmxd.files import read_text
from lmxd.migrate.entries import Entry, FoundModel
from lmxd.migrate.report import About
from lmxd.models.layouts import ollama_places
from lmxd.models.ollama_store import StoredModel, blob, blobs, stored_models
from lmxd.models.roles import Role, facts_of
from lmxd.text import shortened

_LARGEST: Final = 256 * 2**10
"""Bytes of parameters, or of a text."""
_FLAGS: Final = {
    "temperature": "--temp",
    "top_k": "--top-k",
    "top_p": "--top-p",
    "min_p": "--min-p",
    "repeat_penalty": "--repeat-penalty",
    "repeat_last_n": "--repeat-last-n",
    "presence_penalty": "--presence-penalty",
    "frequency_penalty": "--frequency-penalty",
    "seed": "--seed",
    "num_predict": "--predict",
    "num_keep": "--keep",
    "typical_p": "--typical",
}
_SETTINGS: Final = {
    "num_ctx": "context_length",
    "num_gpu": "gpu_layers",
    "num_thread": "threads",
    "num_batch": "batch_size",
}
_WHOLE_CONTEXT: Final = 2**17
"""Tokens that are looked back at, where ollama says -1: more than most contexts have."""
_SWITCHES: Final = {
    ("use_mlock", "true"): "--mlock",
    ("use_mlock", "false"): "",
    ("use_mmap", "true"): "",
    ("use_mmap", "false"): "--no-mmap",
}
"""Parameter and value -> the switch that says so; none where it is so by itself."""
_LOST: Final = {
    "template": "its template is Go's: the one in the model file is used instead",
    "system": "its system prompt: clients must send it",
    "messages": "its example messages: clients must send them",
}
_BESIDE: Final = ("projector", "adapter")
"""Layers that are files beside a model."""
TEXTS: Final = frozenset(("template", "system", "messages"))
"""Layers that are texts."""
_UNNEEDED: Final = {"license": "it stays where it is"}


def store(named: Path | None) -> Path:
    """The directory of ollama's models. LmxdError ``config`` if there is none."""
    places = ollama_places() if named is None else [named]
    for path in places:
        if (found := path.expanduser() / "manifests").is_dir():
            return found.parent
    where = ", ".join(str(place) for place in places)
    raise LmxdError("config", f"there is no store of ollama's in {where}", "name it: lmxd import ollama DIRECTORY")


def read(root: Path) -> FoundModel:
    """The models of a store."""
    found, root = FoundModel(), Path(os.path.realpath(root))
    for stored in stored_models(root, found.say):
        if found.full:
            found.say(f"{stored.name}: and what follows is left out")
            break
        _model(found, root, stored)
    return found.checked()


def _model(found: FoundModel, root: Path, stored: StoredModel) -> None:
    name = stored.name
    if stored.digest("model") is None:
        found.say(f"{name}: its manifest names no model file")
        return
    if not (files := blobs(root, stored, "model", found.say)):
        return
    settings: dict[str, Any] = {"path": str(files[-1])} | _beside(root, stored, found)
    if answers := facts_of(files[-1]).answers:
        settings[answers] = True
    if (digest := stored.digest("params")) and (params := blob(root, name, digest, found.say)) is not None:
        settings |= parameters(_params(found, name, params), found.about(name))
    if stored.aliases:
        settings["aliases"] = list(stored.aliases)
    for kind, digest in stored.layers:
        if kind not in _BESIDE and (stored.digest(kind) != digest or kind not in ("model", "params")):
            _say_layer(found, name, kind, digest, root)
    found.add(Entry(name, settings))


def _beside(root: Path, stored: StoredModel, found: FoundModel) -> dict[str, Any]:
    """The settings of the files beside a model."""
    projector, adapters = (blobs(root, stored, kind, found.say) for kind in _BESIDE)
    settings: dict[str, Any] = {Role.PROJECTOR.value: str(projector[-1])} if projector else {}
    return settings | ({Role.ADAPTER.value: list(map(str, adapters))} if adapters else {})


def _say_layer(found: FoundModel, name: str, kind: str, digest: str, root: Path) -> None:
    """Note a layer that is not carried over, with what it says, if it is a text."""
    text = ""
    if kind in TEXTS and (path := blob(root, name, digest, found.say)) is not None:
        with suppress(OSError, ValueError):
            text = read_text(path, _LARGEST, regular=True)
    say_lost(found.about(name), kind, text)


def say_lost(left: About, kind: str, text: str) -> None:
    """Note what is no setting here."""
    said = shortened(" ".join(text.split()), 300)
    if kind in _UNNEEDED:
        left.unneed(f"{kind} {said}".rstrip(), _UNNEEDED[kind])
    else:
        left(f"{_LOST.get(kind, f'its {kind}: has no counterpart here')}{f' (it was {said})' if said else ''}")


def _params(found: FoundModel, name: str, path: Path) -> list[tuple[str, Any]]:
    try:
        given = json.loads(read_text(path, _LARGEST, regular=True))
    except (OSError, ValueError, RecursionError) as error:
        found.say(f"{name}: its parameters cannot be read: {error}")
        return []
    if not isinstance(given, Mapping):
        found.say(f"{name}: its parameters are a {type(given).__name__}")
        return []
    return list(given.items())


def parameters(given: Iterable[tuple[str, Any]], left: About) -> dict[str, Any]:
    """The settings of a model's parameters."""
    settings: dict[str, Any] = {}
    flags: list[str] = []
    for key, value in given:
        if key in _SETTINGS:
            if _SETTINGS[key] in settings:
                left(f"{key} = {settings[_SETTINGS[key]]}: is given twice, and the last one counts")
            settings[_SETTINGS[key]] = value
        elif key == "stop":
            stops = value if isinstance(value, list) else [value]
            flags += [word for stop in stops for word in ("--reverse-prompt", str(stop))]
        elif key in _FLAGS:
            flags += [_FLAGS[key], str(_WHOLE_CONTEXT if (key, value) == ("repeat_last_n", -1) else value)]
        elif (switch := _SWITCHES.get((key, str(value).lower()))) is not None:
            flags += [switch] if switch else []
            if not switch:
                left.unneed(f"{key} {value}", "it is so by itself")
        else:
            left(f"{key} = {value}: has no counterpart here")
    if settings.get("gpu_layers") in (-1, "-1", 999):
        left.unneed(f"num_gpu {settings.pop('gpu_layers')}", "all layers go to the GPU here by themselves")
    return settings | ({"engine_flags": flags} if flags else {})
