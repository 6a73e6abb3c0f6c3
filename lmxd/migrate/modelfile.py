"""ollama's Modelfile as a profile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError
from lmxd.migrate import hub_cache, ollama
from lmxd.migrate.entries import Entry, FoundModel
from lmxd.migrate.programs import of_windows
from lmxd.migrate.report import About
from lmxd.migrate.source import text_of
from lmxd.models.found import Search

_VALUE: Final = r'"""(?:.*?)(?:"""|\Z)|"[^"]*"(?=[ \t]*(?:\n|\Z))|[^\n]*'
_INSTRUCTION: Final = re.compile(rf"[ \t]*([A-Za-z]+)[ \t]+((?:[A-Za-z_]+[ \t]+)?(?:{_VALUE}))", re.DOTALL)
_EMPTY: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)")
_WHOLE: Final = re.compile("-?[0-9]{1,10}")
_NUMBER: Final = re.compile(r"(-?[0-9]{1,10}(?:\.[0-9]{1,10})?)[ \t]*(?:#.*)?")
_HUB: Final = re.compile(r"(?:hf\.co|huggingface\.co)/")


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is no Modelfile."""
    found, name = FoundModel(), _name(path)
    left, given, sources = found.about(name), [], []
    for instruction, value in _instructions(path):
        if instruction == "from":
            sources.append(value)
        elif instruction == "parameter":
            key, _, content = value.partition(" ")
            given.append((key, _plain(_unquoted(content.strip()))))
        else:
            ollama.say_lost(left, {"message": "messages"}.get(instruction, instruction), value)
    if not sources:
        raise LmxdError("config", f"{path}: has no FROM", "name a Modelfile, or the directory of ollama's models")
    for source in sources[1:]:
        left(f"FROM {source}: only the first one counts")
    entry = _source(sources[0], path.absolute().parent, left)
    entry.name = name
    entry.settings |= ollama.parameters(given, left)
    found.add(entry)
    return found.checked()


def _plain(value: str) -> str | int:
    """A number without the comment that may stand behind it; other values are whole lines."""
    if number := _NUMBER.fullmatch(value):
        value = number[1]
    return int(value) if _WHOLE.fullmatch(value) else value


def _unquoted(value: str) -> str:
    if value.startswith('"""'):
        return value.removeprefix('"""').removesuffix('"""')
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _name(path: Path) -> str:
    """mario.Modelfile is mario; a Modelfile alone is called as its directory."""
    own = re.sub(r"(?i)^modelfile[._-]?|[._-]?modelfile$", "", path.name)
    return own or path.absolute().parent.name or "model"


def _instructions(path: Path) -> Iterator[tuple[str, str]]:
    text, at = text_of(path, "name a Modelfile"), 0
    while at < len(text):
        if empty := _EMPTY.match(text, at):
            at = max(empty.end(), at + 1)
        elif match := _INSTRUCTION.match(text, at):
            at = match.end()
            yield match[1].lower(), _unquoted(match[2].strip())
        else:
            line = text.count("\n", 0, at) + 1
            raise LmxdError("config", f"{path}: line {line} is no instruction of a Modelfile", "name a Modelfile")


def _source(source: str, base: Path, left: About) -> Entry:
    """The profile that FROM names: a file, a model of ollama's, or one of a hub."""
    if of_windows(source):
        left(f"FROM {source} is a path of Windows: name the file here, and take the comment signs away")
        return Entry(source, {"path": source}, open=True)
    if source.startswith(("/", ".", "~")) or source.lower().endswith(".gguf"):
        return _file(source, base / Path(source).expanduser(), left)
    if entry := _of_store(source):
        left.unneed(f"FROM {source}", f"its file is used from ollama's store: {entry.settings['path']}")
        return Entry(source, {k: v for k, v in entry.settings.items() if k != "aliases"})
    if _HUB.match(source) and (path := hub_cache.find(source)):
        left.unneed(f"FROM {source}", f"its file is used from the cache: {path}")
        return Entry(source, {"path": str(path)})
    fetch = f"lmxd pull hf:{_HUB.sub('', source)}" if _HUB.match(source) else f"ollama pull {source}"
    left(f"FROM {source} is not on this machine: fetch it with {fetch}, and import again")
    return Entry(source, {}, open=True)


def _file(source: str, path: Path, left: About) -> Entry:
    """The profile of a file, or of the only model of a directory."""
    if not path.is_dir():
        return Entry(source, {"path": str(path)})
    search = Search()
    search.look(path)
    if len(search.models) == 1:
        left.unneed(f"FROM {source}", f"is {search.models[0].path}")
        return Entry(source, {"path": str(search.models[0].path)})
    left(
        f"FROM {source} is a directory with {len(search.models)} GGUF files: name one (other formats must be converted)"
    )
    return Entry(source, {}, open=True)


def _of_store(source: str) -> Entry | None:
    try:
        store = ollama.store(None)
    except LmxdError:
        return None
    return ollama.read(store).by_name().get(source)
