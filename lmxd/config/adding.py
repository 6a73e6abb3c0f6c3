"""A profile is added to a configuration that people wrote: all else stays as it is, with its comments."""

from __future__ import annotations

import re
from typing import Any, Final

from lmxd.config import yaml_text
from lmxd.config.file import parse
from lmxd.errors import ConfigError, LmxdError

_SECTION: Final = re.compile(r"models:[ \t]*(?:\{[ \t]*\}|null|~)?[ \t]*(#.*)?")
"""The line that begins the section of models, with nothing of it on the same line."""


def with_profile(text: str, name: str, settings: dict[str, Any]) -> str:
    """The configuration with a profile more. LmxdError ``config``, with the profile, if it must be added by hand."""
    block = [f"  {line}" for line in yaml_text.dump({name: settings}).splitlines()]
    lines = text.splitlines()
    at = next((n for n, line in enumerate(lines) if _SECTION.fullmatch(line)), None)
    if at is None:
        made = [*lines, *([""] if lines else []), "models:", *block]
    else:
        match = _SECTION.fullmatch(lines[at])
        note = f"  {match[1]}" if match and match[1] else ""
        made = [*lines[:at], f"models:{note}", *block, *lines[at + 1 :]]
    whole = "\n".join([*made, ""])
    if not _is_added(whole, text, name, settings):
        shown = " ".join(line.strip() for line in block)
        raise LmxdError("config", "a profile cannot be added to the configuration", f"add it by hand: {shown}")
    return whole


def _is_added(whole: str, before: str, name: str, settings: dict[str, Any]) -> bool:
    """Whether a text means what another did, and the profile."""
    try:
        new, old = yaml_text.load(whole), yaml_text.load(before) or {}
        parse(whole, "the configuration")
        return bool(new == {**old, "models": {**(old.get("models") or {}), name: settings}})
    except (yaml_text.BadYaml, ConfigError, AttributeError, TypeError):
        return False
