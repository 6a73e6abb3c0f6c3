"""The bound of an answer: a request as an engine is sent it whose cache others share. Pure.

The engine knows nothing of the tokens that a lease has there, so that each request says how many its answer may have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from lmxd.errors import LmxdError
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.filters import Fields
from lmxd.gateway.requests.need import LIMITS, OF_TEXTS, limit_of
from lmxd.gateway.requests.prompts import ANSWERS, answers_of
from lmxd.gateway.requests.wanted import bounded as read

_OWN: Final = {"/v1/responses": "max_output_tokens", "/completion": "n_predict"}
_USUAL: Final = "max_tokens"
"""The name of the limit that each API has, by its path: llama-server does not heed every other's."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A request whose answers end in time: ``call`` as its engine is sent it.

    ``most``: tokens that each answer has at most. ``limit``: those that its client says; None if it says nothing.
    """

    call: UpstreamCall
    most: int
    limit: int | None

    @property
    def cuts(self) -> bool:
        """Whether an answer may end sooner than its client wants it to."""
        return self.limit is None or self.limit > self.most


def bound_beside(call: UpstreamCall, cells: int, slots: int) -> UpstreamCall:
    """A request as it is sent that has an instance for itself: the answers to its prompts have room beside each other.

    Each prompt has a byte for a token at least. One that is no list of prompts, or has no room by that, stays as it is.
    """
    if call.path.partition("?")[0] not in OF_TEXTS:
        return call
    try:
        fields = msgspec.json.decode(read(call.body), type=Fields)
        prompts = msgspec.json.decode(fields.get("prompt", b""), type=list[msgspec.Raw])
        several = 1 if answers_of(fields) is not None else slots if ANSWERS & fields.keys() else len(prompts)
        most = cells // min(max(several, 1), slots) - max((len(bytes(each)) for each in prompts), default=0)
        return bound(call, most).call if several > 1 and most > 0 else call
    except (LmxdError, msgspec.MsgspecError, ValueError, RecursionError):
        return call  # for the engine to judge


def bound(call: UpstreamCall, most: int) -> Bound:
    """The request with answers of so many tokens at most.

    Of several names, engines heed the one or the other, so that all of them say no more than that. Raises what reading
    its body does, of which there is none that has a need.
    """
    fields = msgspec.json.decode(read(call.body), type=Fields)
    limit, own = limit_of(fields), _OWN.get(call.path.partition("?")[0], _USUAL)
    least = most if limit is None else min(limit, most)
    changed: dict[str, Any] = {} if own in fields else {own: least}
    for name in LIMITS:
        if name in fields:
            said = msgspec.json.decode(fields[name], type=float | None)
            if said is None or not 0 <= said <= most:
                changed[name] = least
    sent = replace(call, body=msgspec.json.encode(fields | changed)) if changed else call
    return Bound(sent, most, limit)
