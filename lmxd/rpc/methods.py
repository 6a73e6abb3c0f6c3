"""Every method and notification there is, as one table, and its description as JSON Schema."""

from __future__ import annotations

from typing import Final

from lmxd.rpc import books as b
from lmxd.rpc import estimates as es
from lmxd.rpc import explanations as x
from lmxd.rpc import holds as h
from lmxd.rpc import messages as m
from lmxd.rpc import notifications as n
from lmxd.rpc import owners as o

METHODS: dict[str, tuple[type[m.Params], type[m.Result], str]] = {
    "hello": (m.HelloParams, m.Hello, "negotiate the protocol"),
    "describe": (m.Nothing, m.Described, "JSON Schema of every method and notification"),
    "request": (m.RequestParams, m.Granted, "ask for a lease; answered when it is granted or refused"),
    "release": (m.LeaseParams, m.Released, "end a lease"),
    "renew": (m.RenewParams, m.Renewed, "keep a lease alive: restarts its TTL and its instance's idle clock"),
    "cancel": (m.CancelParams, m.Cancelled, "take a waiting request out of the queue, by its ticket or by its call"),
    "status": (m.Nothing, b.Status, "the daemon and its devices at a glance"),
    "devices": (m.Nothing, b.Devices, "bytes by device, measured now"),
    "hold": (h.HoldParams, h.Held, "a lease of bytes for a process of one's own"),
    "adopt": (h.AdoptParams, h.Adopted, "say which process uses a hold"),
    "yield": (h.YieldParams, h.Yielded, "keep bytes of a device free for others (administrators)"),
    "unyield": (h.UnyieldParams, h.YieldOver, "use them again, before the time is over (administrators)"),
    "plan": (x.PlanParams, x.Planned, "what a request would come to now, without any effect"),
    "explain": (x.ExplainParams, x.Explained, "what happened to a request, a lease or an instance, and why"),
    "why": (o.WhyParams, o.Why, "to whom the bytes of a device belong, measured now"),
    "instances": (m.Nothing, b.Instances, "instances and their leases"),
    "queue": (m.Nothing, b.Queue, "requests that wait or start, in order"),
    "models": (m.Nothing, b.Models, "the profiles that can be requested"),
    "estimate": (es.EstimateParams, es.Estimated, "bytes that a model would take, by part"),
    "estimates": (m.Nothing, es.Estimates, "what was learned from instances that ran"),
    "forget": (es.ForgetParams, es.Forgotten, "drop what was learned (administrators)"),
    "logs": (m.LogsParams, m.Logs, "the last lines of an instance's log"),
    "stop": (m.InstanceParams, m.Stopped, "end an instance, whatever it is doing (administrators)"),
    "pin": (m.PinParams, m.Pinned, "have an instance neither evicted nor reaped, or as others again (administrators)"),
    "drain": (m.DrainParams, m.Drained, "admit nothing new, and end what nobody has a lease on (administrators)"),
    "reload": (m.Nothing, m.Reloaded, "read the configuration again (administrators)"),
    "watch": (m.Nothing, m.Watching, "from now on, notify of everything that is decided"),
}
"""Method -> parameters, result, one line. On the wire each is ``lmxd.NAME``; the prefix may be left out."""
QUEUED: Final = frozenset(("request", "hold"))
"""Those that may wait in the queue, and give a lease."""

NOTIFICATIONS: dict[str, type[m.Result]] = {
    "lmxd.progress": n.Progress,
    "lmxd.yield": n.YieldAsked,
    "lmxd.lease_ended": n.LeaseEnded,
    "lmxd.event": n.Happened,
}


def describe() -> m.Described:
    """The protocol as JSON Schema."""
    return m.Described(
        protocol=m.PROTOCOL,
        methods={
            f"lmxd.{name}": {"description": text, "params": p.model_json_schema(), "result": r.model_json_schema()}
            for name, (p, r, text) in METHODS.items()
        },
        notifications={name: n.model_json_schema() for name, n in NOTIFICATIONS.items()},
    )
