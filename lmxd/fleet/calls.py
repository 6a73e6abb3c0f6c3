"""The calls that a node answers over NATS: subjects below ``names.calls(node)``, their parameters and answers.

Parameters and answers are JSON, as in lmxd's own protocol: unknown parameters are refused, further fields of answers
ignored. An error has the headers of NATS' services, and in its body ``code``, ``message``, ``remedy``, ``data``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import Field

from lmxd.errors import LmxdError, known
from lmxd.fleet import names
from lmxd.fleet.names import NODE
from lmxd.fleet.reading import read
from lmxd.rpc.administrators import Drained, DrainParams
from lmxd.rpc.books import Instances, QueueInfo
from lmxd.rpc.explanations import Planned, PlanParams
from lmxd.rpc.messages import Name, Nothing, Params, Result, Wish

if TYPE_CHECKING:
    from nats.aio.client import Client as Bus

ERROR_CODE_HEADER: Final = "Nats-Service-Error-Code"
"""The header of an answer that is an error."""
TTL: Final = 30.0
"""Seconds that a lease of a fleet lives without being renewed."""
_AnswerT = TypeVar("_AnswerT", bound=Result)


class LeaseCall(Wish):
    """A request for a lease that its holder uses without a gateway of the fleet between. Asked again, it is the same.

    ``user``: the caller for whom it is, as gateways and operators state it.
    """

    wait: float = Field(0.0, ge=0, le=10**9, allow_inf_nan=False, description="seconds to wait in the node's queue")
    user: str | None = Field(None, pattern=r"^[A-Za-z0-9._@+-]{1,64}$")
    waited: float = Field(0.0, ge=0, le=10**9, allow_inf_nan=False, description="seconds that it has waited elsewhere")
    used_elsewhere: float | None = Field(
        None, ge=0, le=1e30, allow_inf_nan=False, description="recent byte-seconds of its user at other nodes"
    )
    weight: float | None = Field(None, gt=0, le=1000, allow_inf_nan=False, description="of its user in the fleet")
    idempotency_key: str | None = Field(None, min_length=1, max_length=64)


class Direct(Result):
    """A lease at a node. ``base_url`` and ``api_key`` are for an OpenAI client with a certificate of the fleet.

    ``ttl``: seconds that it lives. Without ``/v1``, ``base_url`` is where its holder says with that key that it is in
    use (POST, answered by ``DirectRenewed``), or gives it back (DELETE).
    """

    node: str
    lease: Name
    model: str
    base_url: str = Field(pattern=r"^https://[!-~]+$")
    api_key: str = Field(pattern=r"^[!-~]+$")
    ctx: int
    slots: int
    ttl: float = Field(gt=0, le=10**9, allow_inf_nan=False)
    waited: float


class DirectRenewed(Result):
    """The renewed lease, and the seconds that it lasts."""

    lease: str
    expires_in: float


class CopyParams(Params):
    """A model that a node is to fetch from another. Asked again with the same ``id``, it says how far that is."""

    id: str = Field(min_length=1, max_length=64)
    model: Name
    peer: str = Field(pattern=NODE.pattern, description="the node that has it")
    address: str = Field(max_length=300, description="HOST:PORT of that node's door")


class Copying(Result):
    """How far a copy is. ``done``, ``total``: bytes that have come, of how many; 0 as long as that is not known.

    ``by_hand``: its profile, where it is served from a directory of ``models_from``, and none is written.
    ``left_out``: files of the other node's that are code, which is not copied.
    """

    node: str
    model: str
    peer: str
    step: str
    done: int = 0
    total: int = 0
    finished: bool = False
    by_hand: dict[str, Any] = Field({})
    left_out: list[str] = Field([])


@dataclass(frozen=True)
class NodeCall:
    """One call: its parameters and its answer."""

    params: type[Params]
    answer: type[Result]
    summary: str


class CallName(StrEnum):
    """The last token of a subject."""

    PLAN = "plan"
    REQUEST = "request"
    DRAIN = "drain"
    PS = "ps"
    QUEUE = "queue"
    COPY = "copy"


CALLS: Final[Mapping[CallName, NodeCall]] = {
    CallName.PLAN: NodeCall(PlanParams, Planned, "the answer that a request would get now, without any effect"),
    CallName.REQUEST: NodeCall(LeaseCall, Direct, "a lease by TTL, for use without a gateway between"),
    CallName.DRAIN: NodeCall(DrainParams, Drained, "admit no requests, and end instances without leases"),
    CallName.PS: NodeCall(Nothing, Instances, "instances and their leases"),
    CallName.QUEUE: NodeCall(Nothing, QueueInfo, "requests that wait or start, in order"),
    CallName.COPY: NodeCall(CopyParams, Copying, "fetch a model from another node, and say how far that is"),
}


def subject(node: str, name: CallName) -> str:
    """The subject of a call to one node."""
    return f"{names.calls(node)}.{name}"


async def ask(bus: Bus, node: str, name: CallName, params: Params, answer: type[_AnswerT], seconds: float) -> _AnswerT:
    """A node's answer to one call. ``answer``: the type that ``CALLS`` has; ``seconds``: to wait for it.

    LmxdError: the node's own; ``daemon_unavailable`` for a node that is not there or does not answer in time.
    """
    from nats.errors import Error as BusError
    from nats.errors import NoRespondersError
    from nats.errors import TimeoutError as BusTimeout

    said = params.model_dump_json(exclude_unset=True).encode()
    try:
        message = await bus.request(subject(node, name), said, timeout=seconds)
    except NoRespondersError as error:
        remedy = "lmxctl fleet nodes lists them; of one that is unheard, start lmxd and lmxd fleet node on its box"
        raise LmxdError("daemon_unavailable", f"node {node} is not there", remedy) from error
    except BusTimeout as error:
        what = f"node {node} did not answer {name} in {seconds:g} s"
        raise LmxdError("daemon_unavailable", what, "look at its box, or ask another") from error
    except BusError as error:
        raise LmxdError("daemon_unavailable", f"NATS: {error}", "see whether lmxd fleet broker runs") from error
    if message.headers and ERROR_CODE_HEADER in message.headers:
        raise error_of(message.data)
    try:
        return answer.model_validate_json(message.data)
    except ValueError as error:
        raise LmxdError("bad_answer", f"node {node} answered {name} with something else", "update it") from error


def error_of(data: bytes) -> LmxdError:
    """The error that a node answered with."""
    try:
        found = read(data, dict[str, Any])
        return LmxdError(
            known(found["code"]), str(found["message"]), str(found.get("remedy", "")), dict(found.get("data") or {})
        )
    except (ValueError, KeyError, TypeError):
        return LmxdError("bad_answer", "a node answered with an error that has no code", "update it")


def error_body(error: LmxdError) -> bytes:
    """The reverse of ``error_of``."""
    body = {"code": error.code, "message": error.message, "remedy": error.remedy, "data": error.data}
    return json.dumps(body, default=str).encode()
