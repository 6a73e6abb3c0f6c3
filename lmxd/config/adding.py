"""Profiles and settings are added to a configuration that people wrote: all else stays as it is, with its comments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from lmxd.config import yaml_text
from lmxd.config.file import parse
from lmxd.errors import ConfigError, LmxdError
from lmxd.text import shortened, visible

_SECTION: Final = re.compile(r"models:(?:[ \t]+(?:\{[ \t]*\}|null|~))?([ \t]+#.*)?[ \t]*")
"""The line that begins the section of models, with nothing of it on the same line."""
_ENTRY: Final = re.compile(r"( +)[^ #]")
_LONGEST_NOTE: Final = 200
_LONGEST_SHOWN: Final = 1000
"""Characters of a comment, and of what is to be added by hand."""


def with_profiles(text: str, profiles: Mapping[str, dict[str, Any]], notes: Mapping[str, str] | None = None) -> str:
    """The configuration with more profiles; of ``notes``, each becomes a comment above the profile of that name.

    LmxdError ``config``, with the profiles, if they must be added by hand.
    """
    lines = text.splitlines()
    at = next((n for n, line in enumerate(lines) if _SECTION.fullmatch(line)), None)
    indent = _indent(lines[at + 1 :] if at is not None else [])
    block = []
    for name, settings in profiles.items():
        if note := (notes or {}).get(name):
            block.append(f"{indent}# {visible(shortened(note, _LONGEST_NOTE))}")
        block += [indent + line for line in yaml_text.dump({name: settings}).splitlines()]
    if at is None:
        made = [*lines, *([""] if lines else []), "models:", *block]
    else:
        match = _SECTION.fullmatch(lines[at])
        note = match[1] if match and match[1] else ""
        made = [*lines[:at], f"models:{note}", *block, *lines[at + 1 :]]
    whole = "\n".join([*made, ""])
    there = _read(text).get("models")
    return _checked(whole, text, {"models": {**(there if isinstance(there, dict) else {}), **profiles}}, block)


def with_setting(text: str, key: str, value: Any) -> str:
    """The configuration with a top-level key more, at its end. LmxdError ``config`` if it must be added by hand."""
    block = yaml_text.dump({key: value}).splitlines()
    lines = text.splitlines()
    whole = "\n".join([*lines, *([""] if lines else []), *block, ""])
    return _checked(whole, text, {key: value}, block)


def _indent(below: list[str]) -> str:
    """The spaces before the names of the profiles that are there; two where there are none."""
    first = next((line for line in below if line.strip() and not line.lstrip().startswith("#")), "")
    match = _ENTRY.match(first)
    return match[1] if match else "  "


def _checked(whole: str, before: str, more: dict[str, Any], block: list[str]) -> str:
    """The whole, if it is a configuration that means what another did, and what was added. LmxdError ``config``."""
    try:
        parse(whole, "the configuration")
        if yaml_text.load(whole) == {**_read(before), **more}:
            return whole
    except (yaml_text.BadYaml, ConfigError):
        pass
    shown = shortened(" ".join(line.strip() for line in block), _LONGEST_SHOWN)
    raise LmxdError("config", "the configuration cannot be added to", f"add it by hand: {shown}")


def _read(text: str) -> dict[str, Any]:
    """The mapping that a configuration is; empty if it is none."""
    try:
        read = yaml_text.load(text)
    except yaml_text.BadYaml:
        return {}
    return read if isinstance(read, dict) else {}
