"""Every method and notification there is, as one table, and its description as JSON Schema."""

from __future__ import annotations

from typing import Final

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
from lmxd.rpc.notifications import Happened, LeaseEnded, Progress, YieldAsked
from lmxd.rpc.owners import Why, WhyParams

METHODS: dict[str, tuple[type[Params], type[Result], str]] = {
    "hello": (HelloParams, Hello, "negotiate the protocol"),
    "describe": (Nothing, Described, "JSON Schema of every method and notification"),
    "request": (RequestParams, Granted, "ask for a lease; answered when it is granted or refused"),
    "release": (LeaseParams, Released, "end a lease"),
    "renew": (RenewParams, Renewed, "keep a lease alive: restarts its TTL and its instance's idle clock"),
    "cancel": (CancelParams, Cancelled, "take a waiting request out of the queue, by its ticket or by its call"),
    "status": (Nothing, Status, "the daemon and its devices at a glance"),
    "devices": (Nothing, Devices, "bytes by device, measured now"),
    "hold": (HoldParams, Held, "a lease of bytes for a process of one's own"),
    "adopt": (AdoptParams, Adopted, "say which process uses a hold"),
    "yield": (YieldParams, YieldBegun, "keep bytes of a device free for others (administrators)"),
    "unyield": (UnyieldParams, YieldOver, "use them again, before the time is over (administrators)"),
    "plan": (PlanParams, Planned, "what a request would come to now, without any effect"),
    "explain": (ExplainParams, Explained, "what happened to a request, a lease or an instance, and why"),
    "why": (WhyParams, Why, "to whom the bytes of a device belong, measured now"),
    "instances": (Nothing, Instances, "instances and their leases"),
    "queue": (Nothing, QueueInfo, "requests that wait or start, in order"),
    "models": (Nothing, Models, "the profiles that can be requested"),
    "estimate": (EstimateParams, Estimated, "bytes that a model would take, by part"),
    "estimates": (Nothing, Estimates, "what was learned from instances that ran"),
    "forget": (ForgetParams, Forgotten, "drop what was learned (administrators)"),
    "logs": (LogsParams, Logs, "the last lines of an instance's log"),
    "stop": (InstanceParams, Stopped, "end an instance, whatever it is doing (administrators)"),
    "pin": (PinParams, Pinned, "have an instance neither evicted nor reaped, or as others again (administrators)"),
    "drain": (DrainParams, Drained, "admit nothing new, and end what nobody has a lease on (administrators)"),
    "reload": (Nothing, Reloaded, "read the configuration again (administrators)"),
    "watch": (Nothing, Watching, "from now on, notify of everything that is decided"),
}
"""Method -> parameters, result, one line. On the wire each is ``lmxd.NAME``; the prefix may be left out."""
QUEUED: Final = frozenset(("request", "hold"))
"""Those that may wait in the queue, and give a lease."""

NOTIFICATIONS: dict[str, type[Result]] = {
    "lmxd.progress": Progress,
    "lmxd.yield": YieldAsked,
    "lmxd.lease_ended": LeaseEnded,
    "lmxd.event": Happened,
}


def describe() -> Described:
    """The protocol as JSON Schema."""
    return Described(
        protocol=PROTOCOL,
        methods={
            f"lmxd.{name}": {"description": text, "params": p.model_json_schema(), "result": r.model_json_schema()}
            for name, (p, r, text) in METHODS.items()
        },
        notifications={name: n.model_json_schema() for name, n in NOTIFICATIONS.items()},
    )
