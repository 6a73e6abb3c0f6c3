"""The name of a model in requests to an engine that knows it by another than its profile's."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec
from msgspec import Raw

from lmxd.errors import LmxdError
from lmxd.gateway.http.forms import is_form, short_fields, with_field
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.filters import Fields
from lmxd.gateway.requests.wanted import bounded
from lmxd.rpc.messages import Granted

_MODEL: Final = "model"


def by_upstream_name(call: UpstreamCall, lease: Granted) -> UpstreamCall:
    """A call whose body names its model as its engine does. One that names another, or none, is for that to judge."""
    if lease.upstream_name is None or not call.body:
        return call
    try:
        kind = call.content_type
        make = _form if is_form(kind) else _object
        body = make(call.body, kind, lease.model, lease.upstream_name)
    except (LmxdError, msgspec.MsgspecError, ValueError, RecursionError):
        return call
    return replace(call, body=body)


def _object(body: bytes, _: str, model: str, name: str) -> bytes:
    fields = msgspec.json.decode(bounded(body), type=Fields)
    if msgspec.json.decode(fields.get(_MODEL, Raw(b"null"))) != model:
        return body
    return msgspec.json.encode(fields | {_MODEL: Raw(msgspec.json.encode(name))})


def _form(body: bytes, content_type: str, model: str, name: str) -> bytes:
    said = short_fields(body, content_type, (_MODEL,)).get(_MODEL)
    return with_field(body, content_type, _MODEL, name) if said == model else body
