"""ollama's store as profiles: manifests name blobs, and the largest is a GGUF file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lmxd.errors import LmxdError
from lmxd.files import read_text
from lmxd.migrate.entries import Entry, FoundModel
from lmxd.text import shortened

_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")
_LARGEST: Final = 256 * 2**10
"""Bytes of a manifest, or of parameters: they have hundreds."""
_MOST: Final = 10_000
"""Files of a directory that are looked at."""
_DEEPEST: Final = 8
"""Levels of directories. Names have four at most."""
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
_TEXTS: Final = frozenset(("template", "system", "messages"))
_UNNEEDED: Final = {"license": "it stays where it is"}
_LATEST: Final = "latest"
"""The tag that is meant if none is said: models are asked for with it, too."""
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
    """The models of a store. Links in it are not followed, and nothing outside of it is looked at."""
    found, root = FoundModel(), Path(os.path.realpath(root))
    for path in sorted(_files(root / "manifests", _DEEPEST, found)):
        _manifest(found, root, path)
    return found.checked()


def _files(directory: Path, levels: int, found: FoundModel) -> Iterator[Path]:
    """The regular files below a directory, as many as are looked at."""
    try:
        with os.scandir(directory) as entries:
            for number, entry in enumerate(entries):
                if number == _MOST:
                    found.say(f"{directory}: only {_MOST} of its files are looked at")
                    return
                if entry.is_file(follow_symlinks=False):
                    yield Path(entry)
                elif levels and entry.is_dir(follow_symlinks=False):
                    yield from _files(Path(entry), levels - 1, found)
    except OSError as error:
        found.say(f"{directory}: {error.strerror}")


def _manifest(found: FoundModel, root: Path, path: Path) -> None:
    parts = path.relative_to(root / "manifests").parts
    if len(parts) < 2 or found.full:
        found.say(f"{'/'.join(parts)}: is left out")
        return
    name = _name(parts)
    layers = dict(_layers(found, name, path))
    if "model" not in layers:
        found.say(f"{name}: its manifest names no model file")
        return
    if (blob := _blob(found, name, root, layers["model"])) is None:
        return
    settings: dict[str, Any] = {"path": str(blob)}
    if "params" in layers and (params := _blob(found, name, root, layers["params"])) is not None:
        settings |= _parameters(found, name, params)
    if parts[-1] == _LATEST:
        settings["aliases"] = [f"{name}:{_LATEST}"]
    for kind in layers.keys() - {"model", "params"}:
        _say_layer(found, name, kind, root / "blobs" / layers[kind].replace(":", "-"))
    found.add(Entry(name, settings))


def _say_layer(found: FoundModel, name: str, kind: str, blob: Path) -> None:
    """What a layer says, as far as it is a text: it is not carried over."""
    if kind in _UNNEEDED:
        found.account.unneed(kind, _UNNEEDED[kind], name)
        return
    said = ""
    if kind in _TEXTS:
        try:
            said = read_text(blob, _LARGEST, regular=True)
        except (OSError, ValueError):
            said = "which cannot be read"
    was = f" (it was {shortened(' '.join(said.split()), 300)})" if said else ""
    found.say(f"{name}: {_LOST.get(kind, f'its {kind}: has no counterpart here')}{was}")


def _blob(found: FoundModel, name: str, root: Path, digest: str) -> Path | None:
    """The file of a digest: a regular one in the store, and no link to elsewhere."""
    if (match := _DIGEST.fullmatch(digest)) is None:
        found.say(f"{name}: {digest!r} is no digest")
        return None
    blob = root / "blobs" / f"sha256-{match[1]}"
    if os.path.realpath(blob) != str(blob):
        found.say(f"{name}: {blob.name} is a link to elsewhere")
    elif not blob.is_file():
        found.say(f"{name}: {blob.name} is missing")
    else:
        return blob
    return None


def _name(parts: tuple[str, ...]) -> str:
    """registry.ollama.ai/library/llama3/8b is llama3:8b to those who use it."""
    *where, model, tag = parts
    own = [x for x in where if x not in ("registry.ollama.ai", "library")]
    return "/".join([*own, model]) + ("" if tag == _LATEST else f":{tag}")


def _layers(found: FoundModel, name: str, path: Path) -> Iterator[tuple[str, str]]:
    """Kind -> digest, as the manifest has them."""
    try:
        layers = json.loads(read_text(path, _LARGEST, regular=True))["layers"]
        for layer in layers:
            yield str(layer["mediaType"]).removeprefix(_KIND), str(layer["digest"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        found.say(f"{name}: {path} is no manifest: {type(error).__name__}")


def _parameters(found: FoundModel, name: str, path: Path) -> dict[str, Any]:
    try:
        given = json.loads(read_text(path, _LARGEST, regular=True))
    except (OSError, ValueError, RecursionError) as error:
        found.say(f"{name}: its parameters cannot be read: {error}")
        return {}
    if not isinstance(given, Mapping):
        found.say(f"{name}: its parameters are a {type(given).__name__}")
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
            found.say(f"{name}: {key} = {value}: has no counterpart here")
    return settings | ({"engine_flags": flags} if flags else {})
