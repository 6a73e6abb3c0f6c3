"""Every method there is, as one table, and the protocol as JSON Schema."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lmxd.rpc.books import Devices, Instances, Models, QueueInfo, Status
from lmxd.rpc.estimates import Estimated, EstimateParams, Estimates, ForgetParams, Forgotten
from lmxd.rpc.explanations import Explained, ExplainParams, Planned, PlanParams
from lmxd.rpc.holds import Adopted, AdoptParams, Held, HoldParams, UnyieldParams, YieldBegun, YieldOver, YieldParams
from lmxd.rpc.messages import (
    PROTOCOL,
    Cancelled,
    CancelParams,
    Described,
    Drained,
    DrainParams,
    Granted,
    Hello,
    HelloParams,
    InstanceParams,
    LeaseParams,
    Logs,
    LogsParams,
    Nothing,
    Params,
    Pinned,
    PinParams,
    Released,
    Reloaded,
    Renewed,
    RenewParams,
    RequestParams,
    Result,
    Stopped,
    Watching,
)
from lmxd.rpc.notifications import NOTIFICATIONS
from lmxd.rpc.owners import Why, WhyParams


@dataclass(frozen=True)
class Method:
    """One method of the protocol. On the wire it is ``lmxd.NAME``; the prefix may be left out.

    ``summary`` is what it does. ``admin`` is set if administrators alone may call it: the act as the audit
    log says it, with parameters in braces. A ``lasting`` one is acknowledged only when its effect is written.
    One that ``grants`` may wait in the queue and gives a lease; it is granted no sooner than it is written.
    """

    name: str
    params: type[Params]
    result: type[Result]
    summary: str
    admin: str = ""
    lasting: bool = False
    grants: bool = False

    @property
    def sentence(self) -> str:
        """The summary, as one."""
        return f"{self.summary[0].upper()}{self.summary[1:]}."

    @property
    def attribute(self) -> str:
        """Its name on a client: Python has a keyword ``yield``."""
        return f"{self.name}_" if keyword.iskeyword(self.name) else self.name


METHODS: Final[Mapping[str, Method]] = {
    method.name: method
    for method in (
        Method("hello", HelloParams, Hello, "negotiate the protocol"),
        Method("describe", Nothing, Described, "JSON Schema of every method and notification"),
        Method(
            "request", RequestParams, Granted, "ask for a lease; answered when it is granted or refused", grants=True
        ),
        Method("release", LeaseParams, Released, "end a lease", lasting=True),
        Method(
            "renew",
            RenewParams,
            Renewed,
            "keep a lease alive: restarts its TTL and its instance's idle clock",
            lasting=True,
        ),
        Method(
            "cancel",
            CancelParams,
            Cancelled,
            "take a waiting request out of the queue, by its ticket or by its call",
            lasting=True,
        ),
        Method("status", Nothing, Status, "the daemon and its devices at a glance"),
        Method("devices", Nothing, Devices, "bytes by device, measured now"),
        Method(
            "hold", HoldParams, Held, "ask for bytes for a process of one's own; answered as a request is", grants=True
        ),
        Method("adopt", AdoptParams, Adopted, "say which process uses a hold", lasting=True),
        Method(
            "yield",
            YieldParams,
            YieldBegun,
            "keep bytes of a device free for others",
            admin="have a device yielded",
            lasting=True,
        ),
        Method(
            "unyield",
            UnyieldParams,
            YieldOver,
            "use the bytes of a yield again, before its time is over",
            admin="end a yield",
            lasting=True,
        ),
        Method("plan", PlanParams, Planned, "what a request would come to now, without any effect"),
        Method("explain", ExplainParams, Explained, "what happened to a request, a lease or an instance, and why"),
        Method("why", WhyParams, Why, "to whom the bytes of a device belong, measured now"),
        Method("instances", Nothing, Instances, "instances and their leases"),
        Method("queue", Nothing, QueueInfo, "requests that wait or start, in order"),
        Method("models", Nothing, Models, "the profiles that can be requested"),
        Method("estimate", EstimateParams, Estimated, "bytes that a model would take, by part"),
        Method("estimates", Nothing, Estimates, "what was learned from instances that ran"),
        Method("forget", ForgetParams, Forgotten, "drop what was learned", admin="forget what was learned"),
        Method("logs", LogsParams, Logs, "the last lines of an instance's log"),
        Method(
            "stop",
            InstanceParams,
            Stopped,
            "end an instance, whatever it is doing",
            admin="stop {instance}",
            lasting=True,
        ),
        Method(
            "pin",
            PinParams,
            Pinned,
            "have an instance neither evicted nor reaped, or as others again",
            admin="set pin of {instance} to {pin}",
            lasting=True,
        ),
        Method(
            "drain",
            DrainParams,
            Drained,
            "admit nothing new, and end what nobody has a lease on",
            admin="drain lmxd",
            lasting=True,
        ),
        Method("reload", Nothing, Reloaded, "read the configuration again", admin="reload the configuration"),
        Method("watch", Nothing, Watching, "from now on, notify of everything that is decided"),
    )
}


def grants(name: str) -> bool:
    """Whether a call of that name, which there may not be, gives a lease."""
    return name in METHODS and METHODS[name].grants


def describe() -> Described:
    """The protocol as JSON Schema."""
    return Described(
        protocol=PROTOCOL,
        methods={f"lmxd.{name}": _described(method) for name, method in METHODS.items()},
        notifications={name: notice.model_json_schema() for name, notice in NOTIFICATIONS.items()},
    )


def _described(method: Method) -> dict[str, Any]:
    return {
        "description": method.summary,
        "admin": bool(method.admin),
        "lasting": method.lasting,
        "grants": method.grants,
        "params": method.params.model_json_schema(),
        "result": method.result.model_json_schema(),
    }
