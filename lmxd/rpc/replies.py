"""A call becomes a reply: a result, or an error with a stable code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ValidationError

from lmxd.errors import LmxdError
from lmxd.rpc import framing
from lmxd.rpc.messages import Params
from lmxd.rpc.methods import METHODS

_PROBLEMS: Final = 5
"""The most problems with one call's parameters that are told."""
_SHOWN: Final = 100
"""The most characters that are repeated of a name or a value which a client sent."""

log = logging.getLogger(__name__)

Handled: TypeAlias = BaseModel | framing.Encoded
Handle: TypeAlias = Callable[[framing.Call, Params], Awaitable[Handled]]


async def reply(call: framing.Call, handle: Handle) -> bytes:
    """Have a call handled; every error becomes an answer."""
    try:
        return await _result(call, handle)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        message = "; ".join(_problem(e) for e in found[:_PROBLEMS])
        return framing.error(call.id, framing.INVALID_PARAMS, message, {"code": "invalid_params"})
    except LmxdError as error:
        data = {"code": error.code, "remedy": error.remedy, **error.data}
        return framing.error(call.id, framing.REFUSED, error.message, data)
    except asyncio.CancelledError:
        return framing.error(call.id, framing.REFUSED, "the client withdrew it", {"code": "cancelled"})
    except Exception:
        log.exception("%s failed", call.name)
        message = "lmxd failed at this: see its log"
        return framing.error(call.id, framing.INTERNAL_ERROR, message, {"code": "internal"})


async def _result(call: framing.Call, handle: Handle) -> bytes:
    if call.name not in METHODS:
        message = f"there is no method {_shown(call.method)}: lmxd.describe lists them"
        return framing.error(call.id, framing.METHOD_NOT_FOUND, message, {"code": "unknown_method"})
    value = await handle(call, METHODS[call.name].params.model_validate(call.params))
    return framing.result(call.id, value if isinstance(value, framing.Encoded) else framing.of_model(value))


def _problem(error: Any) -> str:
    parts = [str(part) for part in error["loc"] if not str(part).startswith(("constrained-", "function-"))]
    key = ".".join(parts)[:_SHOWN]
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown parameter"
    if error["type"] == "missing":
        return f"{key}: missing"
    return f"{key} is {_shown(error['input'])}: {error['msg']}"


def _shown(value: object) -> str:
    said = repr(value)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."
