"""Parameters of requests, stripped and set as a model and its variant say: what is set wins over the client.

As llama-swap has it: what is stripped goes first, an object that is set takes the place of another, and the dots of a
name lead into objects. Unlike there, no client gets by what is set by calling it otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Raw

from lmxd.rpc.books import ModelInfo, VariantInfo

Fields: TypeAlias = dict[str, Raw]
"""An object of JSON, of whose values no objects are made."""
Filter: TypeAlias = ModelInfo | VariantInfo
"""The source of a change: what it strips goes first, then it sets."""

_SYNONYMS: Final = (("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict"), ("n", "n_cmpl"))
"""Names of the same parameter, of which engines read several, and heed the one or the other."""


def filtered(fields: Fields, filters: Iterable[Filter]) -> Fields:
    """The parameters of a request after each filter, of which later ones win."""
    found = dict(fields)
    for each in filters:
        for name in each.strip:
            for known in (name, *synonyms(name)):
                _strip(found, known.split("."))
        for name in sorted(each.set):
            others = [other for other in synonyms(name) if other in found and other not in each.set]
            for known in (name, *others):
                _set(found, known.split("."), each.set[name])
    return found


def synonyms(name: str) -> list[str]:
    """The other names of a parameter."""
    return [other for names in _SYNONYMS if name in names for other in names if other != name]


def _strip(fields: Fields, path: list[str]) -> None:
    name, *inner = path
    if not inner:
        fields.pop(name, None)
    elif (within := _object(fields.get(name))) is not None:
        _strip(within, inner)
        fields[name] = Raw(msgspec.json.encode(within))


def _set(fields: Fields, path: list[str], value: Any) -> None:
    name, *inner = path
    if not inner:
        fields[name] = Raw(msgspec.json.encode(value))
        return
    within = _object(fields.get(name)) or {}
    _set(within, inner, value)
    fields[name] = Raw(msgspec.json.encode(within))


def _object(value: Raw | None) -> Fields | None:
    """The fields of a value; None if it is no object."""
    try:
        return None if value is None else msgspec.json.decode(value, type=Fields)
    except msgspec.ValidationError:
        return None
