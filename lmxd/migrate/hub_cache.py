"""Models that other tools fetched from a hub: in Hugging Face's cache, or in llama.cpp's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"(?:hf\.co/|huggingface\.co/)?([\w.-]{1,96})/([\w.-]{1,96})(?::([\w.-]{1,64}))?")
_PREFERRED: Final = ("Q4_K_M", "Q8_0")
"""The quants that llama-server takes if none is named, in its order."""
_LATER_PART: Final = re.compile(r"-(?!00001-)\d{5}-of-\d{5}$")
_MOST: Final = 10_000
"""Files of a cache that are looked at."""


def is_repository(name: str) -> bool:
    """Whether a name is one of a hub: ORG/NAME or ORG/NAME:QUANT."""
    return _NAME.fullmatch(name) is not None


def find(repository: str, file: str | None = None) -> Path | None:
    """The file of ORG/NAME[:QUANT]; of one in parts the first. None if it is in no cache."""
    if (match := _NAME.fullmatch(repository)) is None:
        return None
    organisation, name, quant = match.groups()
    files = {path.name: path for path in _files(organisation, name)}
    if file is not None:
        return next((path for known, path in files.items() if known.endswith(Path(file).name)), None)
    for wanted in [quant] if quant and quant != "latest" else _PREFERRED:
        quants = re.compile(rf"(?i)(^|[-._/]){re.escape(wanted)}([-._/]|$)")
        for path in files.values():
            if quants.search(path.stem) or quants.search(path.parent.name):
                return path
    return None if quant and quant != "latest" else next(iter(files.values()), None)


def _files(organisation: str, name: str) -> Iterator[Path]:
    """Model files of a repository: no projectors, and no later parts."""
    for place in _hubs():
        for path in _below(place / f"models--{organisation}--{name}" / "snapshots", "**/*.gguf"):
            yield path
    for path in _below(_llama_cache(), f"{organisation}_{name}_*.gguf"):
        yield path


def _below(place: Path, pattern: str) -> list[Path]:
    found: list[Path] = []
    try:
        for path in place.glob(pattern):
            found.append(path)
            if len(found) == _MOST:
                break
    except OSError:
        return []
    return sorted(p for p in found if "mmproj" not in p.name and not _LATER_PART.search(p.stem) and p.is_file())


def _hubs() -> list[Path]:
    home = os.environ.get("HF_HOME")
    named = [os.environ.get("HF_HUB_CACHE"), os.environ.get("HUGGINGFACE_HUB_CACHE"), home and f"{home}/hub"]
    return [*(Path(place) for place in named if place), _cache() / "huggingface/hub"]


def _llama_cache() -> Path:
    return Path(os.environ.get("LLAMA_CACHE") or _cache() / "llama.cpp")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
