"""Reads a configuration file. Everything wrong with it is said at once: key, value, remedy."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from lmxd.config import yaml_text
from lmxd.config.elsewhere import called_elsewhere
from lmxd.config.retired import without_retired
from lmxd.config.schema import Config
from lmxd.errors import ConfigError
from lmxd.files import read_text
from lmxd.text import shortened

_MOST_PROBLEMS: Final = 50
_LONGEST: Final = 200
"""Characters of a value that is shown."""
_UNSHOWN: Final = ("engine_flags",)
"""Keys whose errors name what is wrong in a list, and of which the rest may be secret."""
_KINDS: Final = {
    "path_type": "give the path of a file",
    "tuple_type": "give a list, in [ ]",
    "dict_type": "give keys and values, in { }",
}
"""Kinds of values that pydantic calls by the names of Python's types."""
DEFAULT_CONFIG: Final = Path("/etc/lmxd/config.yaml")


def load(path: Path) -> Config:
    """Read and check a configuration file. Raises ConfigError with every problem found."""
    return parse(read_configuration(path), str(path))


def read_configuration(path: Path, *, regular: bool = False) -> str:
    """The text of a configuration file. Raises ConfigError if it cannot be read, or is no text.

    ``regular``: it is to be written, too, and so no pipe, as a shell makes one of ``<(…)``.
    """
    try:
        return read_text(path, yaml_text.LARGEST, regular=regular)
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"is not UTF-8: {error.reason} at byte {error.start}"]) from error


def parse(text: str, source: str) -> Config:
    """Check configuration text. Raises ConfigError with every problem found."""
    try:
        return checked(yaml_text.load(text), source)
    except yaml_text.BadYaml as error:
        raise ConfigError(source, [str(error)]) from error


def checked(data: Any, source: str) -> Config:
    """The configuration of a value. Raises ConfigError with every problem found, but no more than can be read."""
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(source, [f"holds a {type(data).__name__}, not keys and values"])
    data, warnings = without_retired(_without_shared(data))
    try:
        return Config.model_validate(data).warned(warnings)
    except ValidationError as error:
        found = error.errors(include_url=False)
        every = [problem for e in found for problem in _problems(e)]
        problems, more = every[:_MOST_PROBLEMS], len(every[_MOST_PROBLEMS:])
        raise ConfigError(source, [*problems, f"and {more} more problems"] if more else problems) from error


def _without_shared(data: dict[Any, Any]) -> dict[Any, Any]:
    """The sections without those called ``x-…``, whose parts others refer to."""
    return {key: value for key, value in data.items() if not (isinstance(key, str) and key.startswith("x-"))}


def _problems(error: Any) -> list[str]:
    """One pydantic error as a sentence: key, value, remedy. Ours of several keys or items has a line for each."""
    lines = error["msg"].removeprefix("Value error, ").split("\n") if error["type"] == "value_error" else []
    if not error["loc"] or len(lines) > 1 or (lines and error["loc"][-1] in _UNSHOWN):
        start = f"{'.'.join(_path(error))}: " if error["loc"] else ""
        return [f"{start}{shortened(line, 2 * _LONGEST)}" for line in lines]
    return [_problem(error)]


def _path(error: Any) -> list[str]:
    """The keys that lead to the one that is wrong."""
    return [shortened(str(part), _LONGEST) for part in error["loc"]]


def _problem(error: Any) -> str:
    where = _path(error)
    key = ".".join(where)
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_hint(where)}"
    message = error["msg"]
    if error["type"] == "value_error":  # one of ours, which may begin with a name
        message = message.removeprefix("Value error, ")
    elif error["type"] == "model_type" and (known := _known_keys(where)):
        message = f"give keys and values of its own: {', '.join(known)}"
    elif error["type"] in _KINDS:
        message = _KINDS[error["type"]]
    else:
        message = message[:1].lower() + message[1:]
    value = error["input"]
    shown = "" if isinstance(value, (dict, BaseModel)) else f" is {shortened(repr(value), _LONGEST)}"
    return f"{key}{shown}: {shortened(message, 2 * _LONGEST)}"


def _hint(where: list[str]) -> str:
    """The key that may have been meant: other programs call some otherwise."""
    known = _known_keys(where[:-1])
    if "engine_flags" in known and (instead := called_elsewhere(where[-1])):
        return instead
    near = difflib.get_close_matches(where[-1], known, n=1, cutoff=0.4)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"


def _known_keys(where: list[str]) -> list[str]:
    """The keys that are possible in the section ``where``."""
    kind: Any = Config
    for part in where:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[part].annotation if part in kind.model_fields else kind
        else:  # the name or the number of an entry
            kind = _section(kind)
    section = _section(kind)
    return [] if section is None else list(section.model_fields)


def _section(kind: Any) -> type[BaseModel] | None:
    """The kind of section that a value of that kind is, or that its entries are; None if they are none."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next(filter(None, map(_section, get_args(kind))), None)
