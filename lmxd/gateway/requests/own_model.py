"""The model that a body below a model's own path names: that one. An engine may have others, which nobody leases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from lmxd.errors import LmxdError
from lmxd.gateway.http.forms import is_form, short_fields
from lmxd.gateway.leasing.filters import Fields
from lmxd.gateway.leasing.models import Meaning
from lmxd.gateway.requests.media import may_be_object
from lmxd.gateway.requests.wanted import bounded
from lmxd.text import escaped, shortened

_NO_FIELDS: Final = ("audio/", "image/", "video/", "application/octet-stream")
"""Types of bodies that engines look for no fields in."""
_NOTHING: Final = Raw(b"null")


def require_own_model(body: bytes, content_type: str, meant: Meaning, names: Mapping[str, Meaning]) -> None:
    """LmxdError ``invalid_params`` for a body that names another model than the one that its path ``meant``.

    vLLM has its adapters by such names, and others load what is named. llama-server heeds none. ``invalid_request`` for
    a body that cannot be read here: engines read much that is no JSON.
    """
    own = meant.model.upstream_name
    if own is None or not body:
        return
    if content_type.lower().startswith(_NO_FIELDS) and not may_be_object(body):
        return
    said = _named(body, content_type)
    if not isinstance(said, str) or said == own:
        return  # one that names none means the one that there is
    found = names.get(said)
    if found is None or found.model.model != meant.model.model:
        what = f"model is {escaped(shortened(said, 80))!r}, but the path is that of {meant.name}"
        raise LmxdError("invalid_params", what, "name the same in both, or none in the body")


def _named(body: bytes, content_type: str) -> Any:
    """The model as a body says it; None if it does not."""
    if is_form(content_type) and not may_be_object(body):
        return short_fields(body, content_type, ("model",)).get("model")
    try:
        return msgspec.json.decode(msgspec.json.decode(bounded(body), type=Fields).get("model", _NOTHING))
    except msgspec.ValidationError:
        return None  # JSON, but no object
    except (ValueError, RecursionError) as error:
        what = f"the body is neither JSON in UTF-8 nor a form, and may name another model: {error}"
        raise LmxdError("invalid_request", what, "send an object, or multipart/form-data") from error
