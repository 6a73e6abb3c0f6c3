"""The body that an engine is sent for a client's: by the name that it knows, and with what is set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from lmxd.errors import LmxdError
from lmxd.gateway.http.forms import is_form, short_fields, with_field, with_fields
from lmxd.gateway.leasing.filters import Fields, Filter, filtered, synonyms
from lmxd.gateway.leasing.models import Meaning
from lmxd.gateway.requests.wanted import bounded

_NOTHING: Final = Raw(b"null")


def engine_body(body: bytes, content_type: str, meant: Meaning, names: Mapping[str, Meaning]) -> bytes:
    """A body as its engine understands it: as it came, where there is nothing to change.

    A path may name its model otherwise than the body does: it is the variant that either names, the path's first.
    LmxdError ``invalid_request`` if it has too many parts, or cannot be read where something is to be set or stripped:
    engines read much that is no JSON, such as what begins with a byte order mark.
    """
    model = meant.model
    if not body or (meant.name == model.model and model.names == [model.model] and not meant.filters):
        return body
    return _form(body, content_type, meant, names) if is_form(content_type) else _object(body, meant, names)


def _object(body: bytes, meant: Meaning, names: Mapping[str, Meaning]) -> bytes:
    try:
        fields = msgspec.json.decode(bounded(body), type=Fields)
        said = _said(msgspec.json.decode(fields.get("model", _NOTHING)), meant, names)
        own = {} if said is None else {"model": Raw(msgspec.json.encode(meant.model.model))}
        found = filtered(fields | own, _filters(said, meant))
    except msgspec.ValidationError:
        return body  # JSON, but no object: it has no parameters
    except (ValueError, RecursionError) as error:
        return _unread(body, meant, error)
    return body if found == fields else msgspec.json.encode(found)


def _form(body: bytes, content_type: str, meant: Meaning, names: Mapping[str, Meaning]) -> bytes:
    """A form has no objects: what is to be in one is set as its JSON."""
    try:
        said = _said(short_fields(body, content_type, ("model",)).get("model"), meant, names)
    except LmxdError as error:
        return _unread(body, meant, error)
    if said is not None and said.name != meant.model.model:
        body = with_field(body, content_type, "model", meant.model.model)
    if not (filters := _filters(said, meant)):
        return body
    added = {name: _text(value) for name, value in filtered({}, filters).items()}
    named = [*added, *(name for each in filters for name in each.strip)]
    return with_fields(body, content_type, [other for name in named for other in (name, *synonyms(name))], added)


def _unread(body: bytes, meant: Meaning, error: Exception) -> bytes:
    """A body that cannot be read, as it is: it is for the instance to judge, unless parameters might get by in it."""
    if not meant.filters:
        return body
    what = f"{meant.name} has parameters set or stripped, and the body is neither JSON in UTF-8 nor a form: {error}"
    raise LmxdError("invalid_request", what, "send an object, or multipart/form-data") from error


def _said(name: Any, meant: Meaning, names: Mapping[str, Meaning]) -> Meaning | None:
    """The meaning of the name in a body, if it means the same model."""
    found = names.get(name) if isinstance(name, str) else None
    return found if found is not None and found.model.model == meant.model.model else None


def _filters(said: Meaning | None, meant: Meaning) -> list[Filter]:
    return meant.filters if said is None or meant.variant is not None else said.filters


def _text(value: Raw) -> str:
    found = msgspec.json.decode(value)
    return found if isinstance(found, str) else bytes(value).decode()
