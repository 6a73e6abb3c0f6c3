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
from lmxd.models.roles import Role, facts_of
from lmxd.terminal import StillLooking

_VALUE: Final = r'"""(?:.*?)(?:"""|\Z)|"[^"]*"(?=[ \t]*(?:\n|\Z))|[^\n]*'
_INSTRUCTION: Final = re.compile(rf"[ \t]*([A-Za-z]+)[ \t]+((?:[A-Za-z_]+[ \t]+)?(?:{_VALUE}))", re.DOTALL)
_EMPTY: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)")
_WHOLE: Final = re.compile("-?[0-9]{1,10}")
_NUMBER: Final = re.compile(r"(-?[0-9]{1,10}(?:\.[0-9]{1,10})?)[ \t]*(?:#.*)?")
_BESIDE: Final = {"adapter": Role.ADAPTER.value, "projector": Role.PROJECTOR.value}
"""Instruction -> the key of a profile for the file that it names."""
_HUB: Final = re.compile(r"(?:hf\.co|huggingface\.co)/")


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is no Modelfile."""
    found, name = FoundModel(), _name(path)
    base, left = path.absolute().parent, found.about(name)
    given, sources, beside = [], [], list[tuple[str, str]]()
    for instruction, value in _instructions(path):
        if instruction == "from":
            sources.append(value)
        elif instruction in _BESIDE:
            beside.append((_BESIDE[instruction], value))
        elif instruction == "parameter":
            key, _, content = value.partition(" ")
            given.append((key, _plain(_unquoted(content.strip()))))
        else:
            ollama.say_lost(left, {"message": "messages"}.get(instruction, instruction), value)
    if not sources:
        raise LmxdError("config", f"{path}: has no FROM", "name a Modelfile, or the directory of ollama's models")
    entry = _source(sources[0], base, left)
    entry.name = name
    for key, value in (*(("", source) for source in sources[1:]), *beside):
        _beside(entry, key, value, base, left)
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
    if _HUB.match(source) and (found := hub_cache.find(source)):
        left.unneed(f"FROM {source}", f"its file is used from the cache: {found['path']}")
        return Entry(source, found)
    fetch = f"lmxd pull hf:{_HUB.sub('', source)}" if _HUB.match(source) else f"ollama pull {source}"
    left(f"FROM {source} is not on this machine: fetch it with {fetch}, and import again")
    return Entry(source, {}, open=True)


def _beside(entry: Entry, key: str, source: str, base: Path, left: About) -> None:
    """Take in a file beside the model. ``key``: that of a profile; empty for a further FROM, whose header says it."""
    path = base / Path(source).expanduser()
    if of_windows(source):
        left(f"{source} is a path of Windows: name the file here")
    elif not path.is_file():
        left(f"{key or 'FROM'} {source}: there is no such file, or it is a directory (it must be one GGUF file)")
    elif (role := facts_of(path).role) is Role.PROJECTOR and key in ("", role.value):
        entry.settings[role.value] = str(path)
    elif role is Role.ADAPTER and key in ("", role.value):
        entry.settings.setdefault(role.value, []).append(str(path))
    elif key:
        left(f"{key} {source}: is no file for that, as its header says")
    else:
        left(f"FROM {source}: only the first one counts")


def _file(source: str, path: Path, left: About) -> Entry:
    """The profile of a file, or of the only model of a directory."""
    if not path.is_dir():
        return Entry(source, {"path": str(path)})
    search = Search(told=StillLooking())
    search.look(path)
    if len(search.models) == 1:
        left.unneed(f"FROM {source}", f"is {search.models[0].path}")
        return Entry(source, search.models[0].settings)
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
