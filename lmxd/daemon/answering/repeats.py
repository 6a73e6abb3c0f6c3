"""Repeated requests: an idempotency key stands for one request as long as that waits or has a lease."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from lmxd.core.books.state import State
from lmxd.core.holders import Lease
from lmxd.daemon.answering.transit import ask_of
from lmxd.errors import LmxdError
from lmxd.rpc.messages import Terms

_OF_EACH_TRY: Final = {"idempotency_key", "wait", "deadline", "waited", "used_elsewhere", "weight", "near", "apart"}
"""The parameters that a further try of the same request may have different: how long its client waits, and what
is known of other nodes and of conversations."""

_ENCODER: Final = json.JSONEncoder(sort_keys=True)


def digest(terms: Terms) -> str:
    """The digest of a request: equal for the same method with the same parameters, whatever they come to by now."""
    said = terms.model_dump(mode="json", exclude=_OF_EACH_TRY)
    return hashlib.sha256(_ENCODER.encode([type(terms).__name__, said]).encode()).hexdigest()[:32]


def granted_before(state: State, uid: int, terms: Terms, digest: str, *, external: bool) -> Lease | None:
    """The lease that the same request was granted before. LmxdError if its key stands for another request.

    ``external``: a hold is asked for. A lease that an earlier lmxd granted has no digest: then only that is compared.
    """
    key = terms.idempotency_key
    if key is None:
        return None
    lease, ticket = state.keys.get((uid, key)), state.asked.get((uid, key))
    if lease is not None:
        same = lease.digest in (None, digest) and ask_of(state, lease).external is external
    else:
        same = ticket is None or ticket.digest in (None, digest)
    if not same:
        has = "has a lease" if lease is not None else "waits"
        message = f"idempotency_key {key!r} is of another request, which {has}: its method or its parameters differ"
        raise LmxdError("invalid_params", message, "repeat that request as it was, or use a key of its own for each")
    return lease
