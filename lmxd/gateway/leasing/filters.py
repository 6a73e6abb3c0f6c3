"""Parameters of requests, stripped and set as a model and its variant say: what is set wins over the client.

As llama-swap has it: what is stripped goes first, an object that is set takes the place of another, and the dots of a
name lead into objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw

from lmxd.rpc.books import ModelInfo, VariantInfo

Fields: TypeAlias = dict[str, Raw]
"""An object of JSON, of whose values no objects are made."""
Filter: TypeAlias = ModelInfo | VariantInfo
"""The source of a change: what it strips goes first, then it sets."""


def filtered(fields: Fields, filters: Iterable[Filter]) -> Fields:
    """The parameters of a request after each filter, of which later ones win."""
    found = dict(fields)
    for each in filters:
        for name in each.strip:
            _strip(found, name.split("."))
        for name in sorted(each.set):
            _set(found, name.split("."), each.set[name])
    return found


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
