"""Parameters of requests that a model sets and strips, whatever its clients say, and names under which it sets others.

The name of a parameter may lead into an object: ``chat_template_kwargs.enable_thinking``.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from lmxd.config.names import LATEST, LONGEST, composed, is_name
from lmxd.config.section import Section

_OWN: Final = {
    "model": "the name that is asked for says which model that is",
    "stream": "a client reads its answer as it asked for it",
    "stream_options": "a client reads its answer as it asked for it",
    "id_slot": "lmxd says who has which slot",
    "num_ctx": "context_length says how much an instance has",
    "keep_alive": "idle_timeout says how long an instance stays",
    "num_predict": "engines call it max_tokens",
}
"""Parameters that are no model's to change -> why."""
_LONGEST_NAME: Final = 256
"""Characters of a parameter's name."""
_INTEGERS: Final = range(-(2**63), 2**64)
"""Whole numbers that engines read."""


def wrong_name(parameter: str) -> str | None:
    """The reason why a parameter can be neither set nor stripped, if it cannot."""
    parts = parameter.split(".")
    if parts[0] in _OWN:
        return f"{parameter} cannot be set or stripped: {_OWN[parts[0]]}"
    if (
        not all(parts)
        or len(parameter) > _LONGEST_NAME
        or parameter != parameter.strip()
        or not parameter.isprintable()
    ):
        return (
            f"{parameter!r} is no name of a parameter: at most {_LONGEST_NAME} characters, with . only before"
            " what is in it"
        )
    return None


def wrong_value(value: Any) -> str | None:
    """The reason why a value cannot be sent as JSON, if it cannot."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "half a character is in it"
    except ValueError:
        return "JSON has no such number"
    except TypeError as error:
        return f"JSON has no such value, unless it is quoted: {error}"
    if not _are_readable(value):
        return "a whole number in it has more than 64 bits"
    return None


def wrong_adapters(scales: Any, count: int) -> str | None:
    """The reason why adapters that requests are to have are none of a model's ``count``, if they are none."""
    if not isinstance(scales, list) or not all(
        isinstance(each, dict) and {*each} == {"id", "scale"} for each in scales
    ):
        return "give a list of adapters, such as [{id: 0, scale: 1}]"
    for each in scales:
        if each["id"] not in range(count):
            return f"there is no adapter {each['id']!r}: lora has {count}, and the first is 0"
        if isinstance(each["scale"], bool) or not isinstance(each["scale"], int | float):
            return f"scale {each['scale']!r} is no number"
    return None


def _are_readable(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(_are_readable, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or value in _INTEGERS


def names_in(text: str) -> tuple[str, ...]:
    """The names in a text with commas between them, as llama-swap has it."""
    return tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


def _names(value: object) -> object:
    if isinstance(value, str):
        return names_in(value)
    return () if value is None else value


def _settable(value: object) -> object:
    if not isinstance(value, dict):
        return _filled(value)
    for name, wanted in value.items():
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is no name of a parameter: quote it")
        if why := wrong_name(name):
            raise ValueError(f"{why}; take it out")
        if why := wrong_value(wanted):
            raise ValueError(f"{name}: {why}")
    return value


def _strippable(value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value:
        if why := wrong_name(name):
            raise ValueError(f"{why}; take it out")
    return value


def _filled(value: object) -> object:
    """A key with nothing behind it means that there is nothing."""
    return {} if value is None else value


SetParameters = Annotated[
    dict[str, Any],
    BeforeValidator(_settable, json_schema_input_type=dict[str, Any] | None),
    Field(
        description="parameters that requests have with these values, whatever a client says",
        json_schema_extra={"propertyNames": {"not": {"pattern": rf"^({'|'.join(_OWN)})($|\.)"}}},
    ),
]
StripParameters = Annotated[
    tuple[str, ...],
    BeforeValidator(_names, json_schema_input_type=tuple[str, ...] | str | None),
    AfterValidator(_strippable),
    Field(description="parameters that are taken out of requests, before others are set; also a text with commas"),
]


class Variant(Section):
    """A further name of a model, NAME:TAG, under which the same instance is asked with other parameters."""

    set: SetParameters = Field({})
    strip: StripParameters = Field(())
    aliases: tuple[str, ...] = Field((), description="other names that it may be asked for by")

    @field_validator("aliases")
    @classmethod
    def _composed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(composed(alias) for alias in value)


def _tagged(value: object) -> object:
    if not isinstance(value, dict):
        return _filled(value)
    found: dict[str, object] = {}
    for tag, variant in value.items():
        if not isinstance(tag, str) or wrong_tag(tag):
            raise ValueError(f"{tag!r} is no tag: {wrong_tag(str(tag)) or 'quote it'}")
        found[composed(tag)] = _filled(variant)
    return found


def wrong_tag(tag: str) -> str | None:
    """The reason why NAME:TAG can be no variant, if it cannot."""
    if f":{tag}" == LATEST:
        return f"NAME{LATEST} is NAME itself, as ollama has it"
    if not is_name(composed(tag)) or not {":", "/"}.isdisjoint(tag):
        return f"letters, digits and . _ @ + -, at most {LONGEST}"
    return None


Variants = Annotated[
    dict[str, Variant],
    BeforeValidator(_tagged, json_schema_input_type=dict[str, Variant | None] | None),
    Field(description="TAG -> what NAME:TAG and ALIAS:TAG strip and set after that: further names, no instance more"),
]
