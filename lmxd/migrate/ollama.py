"""ollama's store as profiles: manifests name blobs, and the largest is a GGUF file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from lmxd.errors import LmxdError
from lmxd.files import read_text
from lmxd.migrate.entries import Entry, FoundModel
from lmxd.migrate.report import About
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
    "num_keep": "--keep",
    "typical_p": "--typical",
}
_SETTINGS: Final = {
    "num_ctx": "context_length",
    "num_gpu": "gpu_layers",
    "num_thread": "threads",
    "num_batch": "batch_size",
}
_LOST: Final = {
    "template": "its template is Go's: the one in the model file is used instead",
    "system": "its system prompt: clients must send it",
    "adapter": "its adapter: merge it into a model file",
    "projector": "its projector: pictures are not understood",
    "messages": "its example messages: clients must send them",
}
TEXTS: Final = frozenset(("template", "system", "messages"))
"""Layers that are texts."""
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
    layers = list(_layers(found, name, path))
    by_kind = dict(layers)
    if "model" not in by_kind:
        found.say(f"{name}: its manifest names no model file")
        return
    if (blob := _blob(found, name, root, by_kind["model"])) is None:
        return
    settings: dict[str, Any] = {"path": str(blob)}
    if "params" in by_kind and (params := _blob(found, name, root, by_kind["params"])) is not None:
        settings |= parameters(_params(found, name, params), found.about(name))
    if parts[-1] == _LATEST:
        settings["aliases"] = [f"{name}:{_LATEST}"]
    for kind, digest in layers:
        if by_kind.get(kind) != digest or kind not in ("model", "params"):
            _say_layer(found, name, kind, digest, root)
    found.add(Entry(name, settings))


def _say_layer(found: FoundModel, name: str, kind: str, digest: str, root: Path) -> None:
    """Note a layer that is not carried over, with what it says, if it is a text."""
    text = ""
    if kind in TEXTS and (blob := _blob(found, name, root, digest)) is not None:
        with suppress(OSError, ValueError):
            text = read_text(blob, _LARGEST, regular=True)
    say_lost(found.about(name), kind, text)


def say_lost(left: About, kind: str, text: str) -> None:
    """Note what is no setting here."""
    said = shortened(" ".join(text.split()), 300)
    if kind in _UNNEEDED:
        left.unneed(f"{kind} {said}".rstrip(), _UNNEEDED[kind])
    else:
        left(f"{_LOST.get(kind, f'its {kind}: has no counterpart here')}{f' (it was {said})' if said else ''}")


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
            flags += [_FLAGS[key], str(value)]
        else:
            left(f"{key} = {value}: has no counterpart here")
    if settings.get("gpu_layers") in (-1, "-1", 999):
        left.unneed(f"num_gpu {settings.pop('gpu_layers')}", "all layers go to the GPU here by themselves")
    return settings | ({"engine_flags": flags} if flags else {})
