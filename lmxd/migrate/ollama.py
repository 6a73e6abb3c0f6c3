"""ollama's store as profiles: manifests name blobs, and the largest is a GGUF file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lmxd.errors import LmxdError
from lmxd.migrate.entries import Entry, FoundModel

_KIND: Final = "application/vnd.ollama.image."
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
}
_LOST: Final = {
    "template": "its template is Go's: the one in the model file is used instead",
    "system": "its system prompt: clients must send it",
    "adapter": "its adapter: merge it into a model file",
    "projector": "its projector: pictures are not understood",
    "messages": "its example messages: clients must send them",
}
PLACES: Final = (
    Path("~/.ollama/models"),
    Path("/usr/share/ollama/.ollama/models"),
    Path("/var/lib/ollama/models"),
)


def store(named: Path | None) -> Path:
    """The directory of ollama's models. LmxdError ``config`` if there is none."""
    given = (
        [named] if named is not None else [Path(os.environ["OLLAMA_MODELS"])] if "OLLAMA_MODELS" in os.environ else []
    )
    for path in given or PLACES:
        if (found := path.expanduser() / "manifests").is_dir():
            return found.parent
    where = ", ".join(str(p) for p in given or PLACES)
    raise LmxdError("config", f"there is no store of ollama's in {where}", "name it: lmxd import ollama DIRECTORY")


def read(root: Path) -> FoundModel:
    found = FoundModel()
    for path in sorted(p for p in (root / "manifests").rglob("*") if p.is_file()):
        _manifest(found, root, path)
    return found.checked()


def _manifest(found: FoundModel, root: Path, path: Path) -> None:
    name = _name(path.relative_to(root / "manifests").parts)
    layers = dict(_layers(found, name, path))
    if "model" not in layers:
        found.left.append(f"{name}: its manifest names no model file")
        return
    blob = root / "blobs" / layers["model"].replace(":", "-")
    if not blob.is_file():
        found.left.append(f"{name}: {blob.name} is missing")
        return
    settings: dict[str, Any] = {"path": str(blob)}
    if "params" in layers:
        settings |= _parameters(found, name, root / "blobs" / layers["params"].replace(":", "-"))
    found.left += [f"{name}: {why}" for kind, why in _LOST.items() if kind in layers]
    found.add(Entry(name, settings))


def _name(parts: tuple[str, ...]) -> str:
    """registry.ollama.ai/library/llama3/8b is llama3:8b to those who use it."""
    *where, model, tag = parts
    own = [x for x in where if x not in ("registry.ollama.ai", "library")]
    return "/".join([*own, model]) + ("" if tag == "latest" else f":{tag}")


def _layers(found: FoundModel, name: str, path: Path) -> Iterator[tuple[str, str]]:
    """Kind -> digest."""
    try:
        layers = json.loads(path.read_text(encoding="utf-8"))["layers"]
        for layer in layers:
            yield str(layer["mediaType"]).removeprefix(_KIND), str(layer["digest"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        found.left.append(f"{name}: {path} is no manifest: {error!r}")


def _parameters(found: FoundModel, name: str, path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found.left.append(f"{name}: its parameters cannot be read: {error}")
        return {}
    if not isinstance(given, Mapping):
        found.left.append(f"{name}: its parameters are a {type(given).__name__}")
        return {}
    settings: dict[str, Any] = {}
    flags: list[str] = []
    for key, value in given.items():
        if key == "num_ctx":
            settings["context_length"] = value
        elif key == "stop":
            stops = value if isinstance(value, list) else [value]
            flags += [word for stop in stops for word in ("--reverse-prompt", str(stop))]
        elif key in _FLAGS:
            flags += [_FLAGS[key], str(value)]
        else:
            found.left.append(f"{name}: {key} = {value}: has no counterpart here")
    return settings | ({"engine_flags": flags} if flags else {})
