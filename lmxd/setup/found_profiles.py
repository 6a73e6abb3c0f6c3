"""Profiles of the models of this machine, with the bytes that each file would take here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lmxd.cli.files import Wanted, estimates_of
from lmxd.config.section import GIB
from lmxd.engines.engine import EngineKind
from lmxd.engines.vllm.installation import find, installation
from lmxd.errors import LmxdError
from lmxd.migrate.entries import Entry, FoundModel
from lmxd.models.directories import model_directories
from lmxd.models.found import ModelOnDisk, Search
from lmxd.models.layouts import usual_places
from lmxd.rpc.estimates import Estimated
from lmxd.terminal import StillLooking

_KEY: Final = "engines.vllm.path"


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
    looking, found = StillLooking(), FoundModel()
    search = Search(told=looking)
    places = directories or [place for place in usual_places() if _is_open(place)]
    for place in places:
        search.look(place)
    for sentence in search.unread:
        found.say(sentence)
    asked = [(m.path, m.words) for m in search.models]
    for model, estimated in zip(search.models, estimates_of(asked, Wanted()), strict=True):
        looking(model.path)
        if model.missing:
            found.say(f"{model.name}: {model.missing} of its parts are missing beside {model.path}")
        elif isinstance(estimated, LmxdError):
            found.say(f"{model.name}: {estimated}")
        else:
            _note_directories(found, model)
            more = {"context_length": estimated.ctx, "aliases": list(model.aliases)}
            found.add(Entry(model.name, model.settings | more, f"{needs(estimated)}{_in_parts(model)}"))
    if _has_vllm():
        for directory in {x.path: x for place in places for x in model_directories(place, looking, found.say)}.values():
            note = f"by vLLM; {directory.size / GIB:.2f} GiB of weights"
            found.add(Entry(directory.name, {"engine": EngineKind.VLLM.value, "path": str(directory.path)}, note))
    return found.checked()


def _has_vllm() -> bool:
    """Whether there is a vLLM that lmxd finds by itself."""
    try:
        installation(find(None, _KEY), _KEY)
    except LmxdError:
        return False
    return True


def _is_open(place: Path) -> bool:
    return place.is_dir() and os.access(place, os.R_OK | os.X_OK)


def _note_directories(found: FoundModel, model: ModelOnDisk) -> None:
    """Add the directories of parts that are elsewhere to ``model_dirs``, so that lmxd may open them."""
    if len(model.parts) > 1 and (elsewhere := model.elsewhere):
        known = found.settings.get("model_dirs", [])
        found.settings["model_dirs"] = list(dict.fromkeys([*known, *(str(file.parent) for file in elsewhere)]))


def _in_parts(model: ModelOnDisk) -> str:
    return f"; in {len(model.parts)} parts" if len(model.parts) > 1 else ""


def needs(found: Estimated) -> str:
    """The bytes of an estimated launch, in words."""
    sizes = [f"{d['total'] / GIB:.2f} GiB of {d['device']}" for d in found.devices]
    sizes.append(f"{found.host['total'] / GIB:.2f} GiB of RAM")
    return f"{' and '.join(sizes)} at {found.ctx} tokens ({found.basis}, plus or minus {found.error / 2**20:.0f} MiB)"
