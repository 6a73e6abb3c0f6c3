"""Profiles and settings are added to a configuration that people wrote: all else stays as it is, with its comments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from lmxd.config import yaml_text
from lmxd.config.file import parse
from lmxd.errors import ConfigError, LmxdError
from lmxd.text import shortened, visible

_SECTION: Final = re.compile(r"""(\ufeff?["']?models["']?[ \t]*:)(?:[ \t]+(?:\{[ \t]*\}|null|~))?([ \t]+#.*)?[ \t]*""")
"""The line that begins the section of models, with nothing of it on the same line."""
_ENTRY: Final = re.compile(r"( +)[^ #]")
_ENDS: Final = "\r\n\x85\u2028\u2029"
_LONGEST_NOTE: Final = 200
_LONGEST_SHOWN: Final = 1000
"""Characters of a comment, and of what is to be added by hand."""


def with_profiles(text: str, profiles: Mapping[str, dict[str, Any]], notes: Mapping[str, str] | None = None) -> str:
    """The configuration with more profiles; of ``notes``, each becomes a comment above the profile of that name.

    LmxdError ``config``, with the profiles, if they must be added by hand.
    """
    lines, end = yaml_text.lines(text), _end(text)
    at = _line_of_models(text)
    indent = _indent(lines[at + 1 :] if at is not None else [])
    block = []
    for name, settings in profiles.items():
        if note := (notes or {}).get(name):
            block.append(f"{indent}# {visible(shortened(note, _LONGEST_NOTE))}")
        block += [indent + line for line in yaml_text.dump({name: settings}).splitlines()]
    if at is None:
        whole = _appended(text, ["models:", *block])
    else:
        match = _SECTION.fullmatch(lines[at].rstrip(_ENDS))
        first = lines[at].rstrip(_ENDS) if match is None else match[1] + (match[2] or "")
        whole = "".join([*lines[:at], *(line + end for line in (first, *block)), *lines[at + 1 :]])
    there = _read(text).get("models")
    return _checked(whole, text, {"models": {**(there if isinstance(there, dict) else {}), **profiles}}, block)


def with_setting(text: str, key: str, value: Any) -> str:
    """The configuration with a top-level key more, at its end. LmxdError ``config`` if it must be added by hand."""
    block = yaml_text.dump({key: value}).splitlines()
    return _checked(_appended(text, block), text, {key: value}, block)


def _line_of_models(text: str) -> int | None:
    """The line of the section of models, whatever else in the text looks like it; None if there is none."""
    with suppress(yaml_text.BadYaml):
        return yaml_text.line_of(text, "models")
    return None


def _appended(text: str, block: list[str]) -> str:
    """A text with lines more at its end, after an empty one."""
    end = _end(text)
    close = end if text and not text.endswith(tuple(_ENDS)) else ""
    return text + close + "".join(line + end for line in ([""] if text else []) + block)


def _end(text: str) -> str:
    """The end of a text's lines."""
    return "\r\n" if "\r\n" in text else "\n"


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
