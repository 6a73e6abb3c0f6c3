"""Values as people write them: times with units, and paths with variables of the environment."""

from __future__ import annotations

import os
import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(?:[0-9]{1,10}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d)[ ]?)+")
_NUMBER: Final = re.compile(r"-?[0-9]{1,10}(?:\.[0-9]{1,9})?")
_PART: Final = re.compile(r"([0-9.]+)(ms|s|m|h|d)")
_VARIABLE: Final = re.compile(r"\$\{env\.([^{}]*)\}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NEVER: Final = 10**9
"""The longest time, 31 years, in seconds. A number, since what is written to others as JSON has no infinity."""


def duration(value: object) -> object:
    """``10m``, ``1h 30m`` or ``90`` in quotes as seconds; anything else as it is."""
    if not isinstance(value, str):
        return value
    if _DURATION.fullmatch(value.strip()):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    if _NUMBER.fullmatch(value.strip()):
        return float(value)
    raise ValueError("give seconds, or a time with units such as 90s, 10m or 1h30m")


def duration_or_never(value: object) -> object:
    """The same, and ``never``."""
    return NEVER if value == "never" else duration(value)


def filled(value: object) -> object:
    """A text with each ``${env.NAME}`` replaced by that variable. ValueError if one is not set."""
    return _VARIABLE.sub(_variable, value) if isinstance(value, str) else value


def filled_if_set(text: str) -> str:
    """The same, but variables that are not set stay."""
    return _VARIABLE.sub(lambda found: os.environ.get(found[1]) or found[0], text)


def variables_of(text: str) -> set[str]:
    """The names of the variables that a text has."""
    return {name for name in _VARIABLE.findall(text) if _NAME.fullmatch(name)}


def all_filled(value: object) -> object:
    """The same for each item of a list, or each value of a mapping."""
    if isinstance(value, dict):
        return {key: filled(item) for key, item in value.items()}
    return [filled(item) for item in value] if isinstance(value, (list, tuple)) else value


def _variable(found: re.Match[str]) -> str:
    name = found[1]
    if not _NAME.fullmatch(name):
        raise ValueError(f"{found[0]} names no variable: letters, digits and _ only")
    if not (value := os.environ.get(name)):
        raise ValueError(
            f"the environment has no {name}: set it where lmxd is started (for a service: systemctl edit lmxd,"
            f" Environment={name}=…), or write the path out"
        )
    return value


_WRITTEN: Final = rf"{_DURATION.pattern}|{_NUMBER.pattern}"
_Number = Annotated[float, Field(gt=0, le=NEVER)]
_Text = Annotated[str, Field(pattern=rf"^\s*(?:{_WRITTEN})\s*$")]
_TextOrNever = Annotated[str, Field(pattern=rf"^(?:never|\s*(?:{_WRITTEN})\s*)$")]
Seconds = Annotated[
    float,
    Field(gt=0, le=NEVER, allow_inf_nan=False),
    BeforeValidator(duration, json_schema_input_type=_Number | _Text),
]
IdleSeconds = Annotated[
    float,
    Field(gt=0, le=NEVER, allow_inf_nan=False),
    BeforeValidator(duration_or_never, json_schema_input_type=_Number | _TextOrNever),
]
