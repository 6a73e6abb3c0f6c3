"""The table of all methods, and the protocol as JSON Schema."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from lmxd.rpc.administrators import Drained, DrainParams, Pinned, PinParams, Reloaded, Stopped
from lmxd.rpc.books import Devices, Instances, Models, QueueInfo, Status
from lmxd.rpc.estimates import Estimated, EstimateParams, Estimates, ForgetParams, Forgotten
from lmxd.rpc.explanations import Explained, ExplainParams, Planned, PlanParams
from lmxd.rpc.framing import Encoded, encoded
from lmxd.rpc.growing import GrowParams
from lmxd.rpc.holds import Adopted, AdoptParams, Held, HoldParams, UnyieldParams, YieldBegun, YieldOver, YieldParams
from lmxd.rpc.keeping_alive import KeepAliveParams, KeptAlive
from lmxd.rpc.messages import (
    PROTOCOL,
    Cancelled,
    CancelParams,
    Described,
    Granted,
    Hello,
    HelloParams,
    InstanceParams,
    LeaseParams,
    Logs,
    LogsParams,
    Nothing,
    Params,
    Released,
    Renewed,
    RenewParams,
    RequestParams,
    Result,
    Watching,
)
from lmxd.rpc.model_files import Shown, ShowParams
from lmxd.rpc.notifications import NOTIFICATIONS
from lmxd.rpc.overview import Overview
from lmxd.rpc.owners import Why, WhyParams
from lmxd.rpc.shelving import Shelved, ShelveParams


@dataclass(frozen=True)
class Method:
    """One method of the protocol. On the wire it is ``lmxd.NAME``; the prefix may be left out.

    ``summary``: what it does. ``act``: the same as the audit log has it, with parameters in braces; empty if nothing
    changes by it. ``admin``: only administrators may call it. ``lasting``: it is answered when its effect is written to
    disk. ``grants``: it may wait in the queue, and gives a lease or moves one, which is written to disk first.
    """

    name: str
    params: type[Params]
    result: type[Result]
    summary: str
    act: str = ""
    admin: bool = False
    lasting: bool = False
    grants: bool = False

    @property
    def sentence(self) -> str:
        """The summary as a sentence."""
        return f"{self.summary[0].upper()}{self.summary[1:]}."

    @property
    def quiet(self) -> bool:
        """Whether its success needs no line in the audit log: a grant has one, and others come again and again."""
        return self.grants or self.name in ("renew", "keep_alive")

    def told(self, params: Params) -> str:
        """The act, with its parameters."""
        return self.act.format_map({key: "" if value is None else value for key, value in dict(params).items()})

    @property
    def attribute(self) -> str:
        """The name of its method on a client: ``yield_``, for ``yield`` is a keyword of Python."""
        return f"{self.name}_" if keyword.iskeyword(self.name) else self.name


METHODS: Final[Mapping[str, Method]] = {
    method.name: method
    for method in (
        Method("hello", HelloParams, Hello, "negotiate the protocol"),
        Method("describe", Nothing, Described, "JSON Schema of every method and notification"),
        Method(
            "request",
            RequestParams,
            Granted,
            "ask for a lease; answered when it is granted or refused",
            act="lease {model}",
            grants=True,
        ),
        Method(
            "grow",
            GrowParams,
            Granted,
            "move a lease to an instance with more context; answered as a request is, and if refused, it stays",
            act="have {lease} grow to {ctx} tokens",
            grants=True,
        ),
        Method(
            "shelve",
            ShelveParams,
            Shelved,
            "put by what a slot of an elastic lease has, and read what was put by before in its place",
        ),
        Method("release", LeaseParams, Released, "end a lease", act="release {lease}", lasting=True),
        Method(
            "renew",
            RenewParams,
            Renewed,
            "keep a lease alive: restarts its TTL and its instance's idle clock",
            act="renew {lease}",
            lasting=True,
        ),
        Method(
            "cancel",
            CancelParams,
            Cancelled,
            "take a waiting request out of the queue, by its ticket or by its call",
            act="cancel {ticket}{request}",
            lasting=True,
        ),
        Method("status", Nothing, Status, "the daemon and its devices at a glance"),
        Method("devices", Nothing, Devices, "bytes by device, measured now"),
        Method(
            "hold",
            HoldParams,
            Held,
            "ask for bytes for a process of one's own; answered as a request is",
            act="hold {bytes} bytes as {name}",
            grants=True,
        ),
        Method(
            "adopt",
            AdoptParams,
            Adopted,
            "name the process that uses a hold",
            act="have {lease} adopt pid {pid}",
            lasting=True,
        ),
        Method(
            "yield",
            YieldParams,
            YieldBegun,
            "keep bytes of a device free for others",
            act="have {bytes} bytes of device {device} yielded",
            admin=True,
            lasting=True,
        ),
        Method(
            "unyield",
            UnyieldParams,
            YieldOver,
            "use the bytes of a yield again, before its time is over",
            act="end the yield {id}",
            admin=True,
            lasting=True,
        ),
        Method("plan", PlanParams, Planned, "the answer that a request would get now, without any effect"),
        Method(
            "explain",
            ExplainParams,
            Explained,
            "the history of a request, a lease or an instance, each step with its reason",
        ),
        Method("overview", Nothing, Overview, "status, owners of bytes, instances and queue of one moment"),
        Method("why", WhyParams, Why, "the owners of the bytes of a device, measured now"),
        Method("instances", Nothing, Instances, "instances and their leases"),
        Method("queue", Nothing, QueueInfo, "requests that wait or start, in order"),
        Method("models", Nothing, Models, "the profiles that can be requested"),
        Method(
            "keep_alive",
            KeepAliveParams,
            KeptAlive,
            "have the instances of a model end so many seconds after their last lease, once they are idle",
            act="have {model} stay for {seconds} s after its last lease",
        ),
        Method("show", ShowParams, Shown, "a model as its file describes it"),
        Method("estimate", EstimateParams, Estimated, "bytes that a model would take, by part"),
        Method("estimates", Nothing, Estimates, "the bytes that instances took, as they were learned"),
        Method(
            "forget",
            ForgetParams,
            Forgotten,
            "forget learned bytes, of a model or a card",
            act="forget what was learned, model: {model}, card: {card}",
            admin=True,
        ),
        Method("logs", LogsParams, Logs, "the last lines of an instance's log"),
        Method(
            "stop",
            InstanceParams,
            Stopped,
            "end an instance, whatever it is doing",
            act="stop {instance}",
            admin=True,
            lasting=True,
        ),
        Method(
            "pin",
            PinParams,
            Pinned,
            "pin an instance, so that it is neither evicted nor reaped, or unpin it",
            act="set pin of {instance} to {pin}",
            admin=True,
            lasting=True,
        ),
        Method(
            "drain",
            DrainParams,
            Drained,
            "admit no requests, and end instances without leases",
            act="drain lmxd, now: {now}, end: {end}",
            admin=True,
            lasting=True,
        ),
        Method("reload", Nothing, Reloaded, "read the configuration again", act="reload the configuration", admin=True),
        Method("watch", Nothing, Watching, "send a notification for every decision from now on"),
    )
}


def grants(name: str) -> bool:
    """Whether a call of that name gives a lease, or moves one. An unknown name gives none."""
    return name in METHODS and METHODS[name].grants


@cache
def described() -> Encoded:
    """The protocol as JSON Schema, as ``describe`` answers it: it never changes."""
    found = Described(
        protocol=PROTOCOL,
        methods={f"lmxd.{name}": _described(method) for name, method in METHODS.items()},
        notifications={name: notice.model_json_schema() for name, notice in NOTIFICATIONS.items()},
    )
    return encoded(found.model_dump(mode="json"))


def _described(method: Method) -> dict[str, Any]:
    return {
        "description": method.summary,
        "admin": method.admin,
        "lasting": method.lasting,
        "grants": method.grants,
        "params": method.params.model_json_schema(),
        "result": method.result.model_json_schema(),
    }
