"""Models of a hub that are on this machine already, whoever fetched them."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from lmxd.models.found import ModelOnDisk, Search
from lmxd.models.layouts import usual_places
from lmxd.terminal import StillLooking

_NAME: Final = re.compile(r"(?:hf\.co/|huggingface\.co/)?([\w.-]{1,96}/[\w.-]{1,96})(?::([\w.-]{1,64}))?")
_PREFERRED: Final = ("Q4_K_M", "Q8_0")
"""The quantizations that llama-server takes if none is named, in its order."""
_LATEST: Final = "latest"
"""ollama's word for none."""


def is_repository(name: str) -> bool:
    """Whether a name is one of a hub: ORG/NAME or ORG/NAME:QUANT."""
    return _NAME.fullmatch(name) is not None


def find(repository: str, file: str | None = None) -> dict[str, Any] | None:
    """The settings of ORG/NAME[:QUANT], with what is beside it. None if it is in no usual place."""
    if (match := _NAME.fullmatch(repository)) is None:
        return None
    name, quant = match[1].lower(), match[2]
    models = [m for m in _on_disk(tuple(usual_places())) if _repository(m) == name and not m.missing]
    if file is not None:
        wanted = [m for m in models if m.path.name.endswith(Path(file).name)]
    elif quant and quant != _LATEST:
        same = [m for m in models if m.name.lower().endswith(f"{name}:{quant.lower()}")]
        wanted = same or [m for m in models if quant.lower() in m.path.name.lower()]
    else:
        wanted = [m for q in _PREFERRED for m in models if m.name.endswith(f":{q}")] + models
    return wanted[0].settings if wanted else None


def _repository(model: ModelOnDisk) -> str:
    """The repository that a model is of, also where ollama fetched it from the hub."""
    return model.name.lower().removeprefix("hf.co/").removeprefix("huggingface.co/").partition(":")[0]


@lru_cache(maxsize=1)
def _on_disk(places: tuple[Path, ...]) -> tuple[ModelOnDisk, ...]:
    search = Search(told=StillLooking())
    for place in places:
        if place.is_dir():
            search.look(place)
    return tuple(search.models)
