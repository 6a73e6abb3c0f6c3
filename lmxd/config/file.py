"""Reads a configuration file. Everything wrong with it is said at once: key, value, remedy."""

from __future__ import annotations

import difflib
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from lmxd.config.profile import Profile
from lmxd.config.retired import without_retired
from lmxd.config.schema import Config, DeviceConfig, GroupConfig, UserConfig
from lmxd.errors import ConfigError

_ENTRIES: Final[dict[str, type[BaseModel]]] = {"users": UserConfig, "groups": GroupConfig}
"""The entries of sections whose keys are names."""
DEFAULT_CONFIG: Final = Path("/etc/lmxd/config.yaml")


def load(path: Path) -> Config:
    """Read and check a configuration file. Raises ConfigError with every problem found."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"is not UTF-8: {error.reason} at byte {error.start}"]) from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Config:
    """Check configuration text. Raises ConfigError with every problem found."""
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(source, [_yaml_problem(error)]) from error
    except RecursionError as error:
        raise ConfigError(source, ["is nested too deeply"]) from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(source, [f"holds a {type(data).__name__}, not keys and values"])
    data, warnings = without_retired(data)
    try:
        return Config.model_validate(data).warned(warnings)
    except ValidationError as error:
        raise ConfigError(source, [_problem(e) for e in error.errors()]) from error


class _Loader(yaml.SafeLoader):
    """A key given twice is an error instead of a silent override."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is given twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _yaml_problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return " ".join(str(error).split())


def _problem(error: Any) -> str:
    """One pydantic error as a sentence: key, value, remedy."""
    where = [str(part) for part in error["loc"]]
    key = ".".join(where) or "the file"
    if error["type"] == "extra_forbidden":
        known = _known_keys(where[:-1])
        near = difflib.get_close_matches(where[-1], known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{key}: unknown key; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    value = error["input"]
    shown = "" if isinstance(value, (dict, BaseModel)) else f" is {value!r}"
    return f"{key}{shown}: {message[:1].lower()}{message[1:]}"


def _known_keys(where: list[str]) -> list[str]:
    """The keys that are possible in the section ``where``."""
    model: type[BaseModel] = Config
    for part in where:
        if part.isdecimal():
            model = DeviceConfig
            continue
        if part not in model.model_fields:
            model = _ENTRIES.get(where[0], Profile)
            continue
        kind = model.model_fields[part].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            model = kind
    return list(model.model_fields)
