"""The content of the dashboard as one JSON object: devices by owner and class, models, instances, queue. Pure."""

from __future__ import annotations

import pwd
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lmxd.rpc.books import InstanceInfo, LeaseInfo, ModelInfo, TicketInfo
from lmxd.rpc.overview import Overview
from lmxd.rpc.owners import ProcessInfo, Why
from lmxd.rpc.shortfalls import ShortfallInfo
from lmxd.text import device_name, known_as, sentence_among

_LARGEST: Final = 6
"""Foreign processes that are named."""
Named = Callable[[int], str]


def name(uid: int) -> str:
    """A user's, where it has one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def snapshot(seen: Overview, models: Sequence[ModelInfo], at: float, named: Named = name) -> dict[str, Any]:
    """Bytes are ``int`` bytes, times seconds; ``at``: since the epoch."""
    status, instances = seen.status, seen.instances
    users = {i.instance: sorted({_whose(x, named) for x in i.leases if x.uid is not None}) for i in instances}
    of = {i.instance: i.model for i in instances}
    return {
        "at": at,
        "version": status.version,
        "uptime": status.uptime,
        "engine": status.engine,
        "draining": status.draining,
        "admission": status.admission,
        "warnings": [*status.warnings, *status.broken_invariants],
        "queue_depth": status.queue_depth,
        "devices": [_device(why, users, of) for why in seen.owners],
        "models": [_model(m) for m in models],
        "instances": [_instance(i, users[i.instance]) for i in instances],
        "moving": len(seen.moving),
        "queue": [_ticket(t, named) for t in seen.queue],
    }


def _device(why: Why, users: Mapping[str, list[str]], models: Mapping[str, str]) -> dict[str, Any]:
    """``parts`` add up to the capacity, as long as nothing is promised twice."""
    d = why.device
    parts: list[dict[str, Any]] = [
        {
            "class": "reclaiming" if x.exited else "own",
            "name": x.instance,
            "bytes": x.bytes,
            "measured": x.measured,
            "promised": x.promised,
            "model": models.get(x.instance, x.instance.partition("#")[0]),
            "users": users.get(x.instance, []),
        }
        for x in why.instances
    ]
    parts += [{"class": "foreign", "name": f"{p.name} ({p.pid})", "bytes": p.bytes} for p in _seen(why)]
    parts.append({"class": "foreign", "name": "others", "bytes": d.foreign - sum(p.bytes for p in _seen(why))})
    parts.append({"class": "margin", "name": "margin", "bytes": d.margin})
    parts.append({"class": "withheld", "name": "yielded", "bytes": d.yielded})
    parts.append({"class": "withheld", "name": "beyond the limit", "bytes": why.withheld})
    parts.append({"class": "withheld", "name": f"others of {d.pool}", "bytes": d.beyond_pool})
    parts.append({"class": "free", "name": "free", "bytes": max(0, d.headroom)})
    return {
        "id": d.id,
        "called": device_name(d.id, d.ref),
        "kind": d.kind,
        "name": d.name,
        "capacity": d.capacity,
        "pool": d.pool,
        "views": [known_as(view, why.called) for view in d.views],
        "headroom": d.headroom,
        "yielded": d.yielded,
        "unavailable": d.unavailable,
        "remedy": d.remedy,
        "parts": [p for p in parts if p["bytes"] > 0],
    }


def _seen(why: Why) -> list[ProcessInfo]:
    """The foreign processes; of RAM, whose processes share pages, as many as its foreign bytes hold."""
    found, left = [], why.device.foreign
    for process in why.processes[:_LARGEST]:
        if process.bytes <= left:
            found.append(process)
            left -= process.bytes
    return found


def _model(m: ModelInfo) -> dict[str, Any]:
    """A line of the list of models.

    ``bytes``: of a new instance, on the device where it takes the most; None where it never goes on one alone.
    ``contexts``: the first one of an elastic model, that with which a lease starts, and the last.
    """
    return {
        "model": m.model,
        "aliases": m.names[1:],
        "engine": m.engine,
        "ctx": m.ctx,
        "contexts": None if m.elastic is None else [m.elastic.steps[0], m.elastic.start, m.elastic.steps[-1]],
        "shares": m.elastic is not None and m.elastic.unified,
        "slots": m.slots,
        "bytes": max(m.bytes.values(), default=None),
        "quantization": m.file.quantization if m.file else None,
        "fit": None if m.fit is None else m.fit.when,
        "ends": [] if m.fit is None else m.fit.ends,
        "problem": m.problem,
        "chats": not m.capabilities or "completion" in m.capabilities,
        "embeds": "embedding" in m.capabilities,
        "traits": m.traits,
    }


def _instance(i: InstanceInfo, users: list[str]) -> dict[str, Any]:
    return {
        "instance": i.instance,
        "model": i.model,
        "phase": i.phase,
        "hold": i.endpoint is None and i.phase == "ready" and i.ctx == 0,
        "ctx": i.ctx,
        "ctx_most": i.ctx_most,
        "shares": i.unified,
        "slots": i.slots,
        "leased": sum(x.slots for x in i.leases),
        "leases": [{"lease": x.lease, "age": x.age} for x in i.leases],
        "processing": i.processing,
        "speed": i.speed,
        "loaded": i.loaded,
        "busy": i.busy,
        "idle": i.idle,
        "idle_timeout": i.idle_timeout,
        "pinned": i.idle_timeout is None and i.ctx > 0,
        "age": i.age,
        "bytes": sum(i.charged.values()),
        "users": users,
        "yield_in": i.yield_in,
        "swap": None if i.swap is None else i.swap.model_dump(),
    }


def _ticket(t: TicketInfo, named: Named) -> dict[str, Any]:
    return {
        "ticket": t.ticket,
        "model": t.model,
        "user": _whose(t, named) or None,
        "position": t.position,
        "bytes": t.bytes,
        "waited": t.waited,
        "eta": t.eta,
        "instance": t.instance,
        "waits_for": t.waits_for,
        "why": [_why(s) for s in _outermost(t.shortfalls)],
        "alternatives": t.alternatives,
        "turns": [x.model_dump() for x in t.turns],
    }


def _whose(x: LeaseInfo | TicketInfo, named: Named) -> str:
    """The key or the user that has it; nothing if that is hidden."""
    return "" if x.uid is None else f"key {x.user}" if x.user else named(x.uid)


def _outermost(found: Sequence[ShortfallInfo]) -> list[ShortfallInfo]:
    """Without the devices that draw from a pool which lacks bytes itself: it is the same lack."""
    drawing = {view for s in found for view in s.views}
    return [s for s in found if s.device not in drawing]


def _why(s: ShortfallInfo) -> dict[str, Any]:
    return {"device": known_as(s.device, s.called), "need": s.need, "have": s.have, "unavailable": s.unavailable}


def for_all(whole: dict[str, Any]) -> dict[str, Any]:
    """The part that anybody with a key may see: bytes and places, but not who it is that has them.

    Warnings are about the configuration, with names of users, keys and files: an administrator's to mend.
    """
    return whole | {
        "warnings": [],
        "devices": [d | {"parts": _anonymous(d["parts"])} for d in whole["devices"]],
        "instances": [
            i | {"users": [], "leases": [{"age": x["age"]} for x in i["leases"]]} for i in whole["instances"]
        ],
        "queue": [t | {"user": None, "ticket": None, "waits_for": _of_nobody(t["waits_for"])} for t in whole["queue"]],
    }


def _of_nobody(waits_for: Sequence[str]) -> list[str]:
    """The things that a request waits for, without the sentence that says whose quota is used up."""
    return ["a quota is used up"] if sentence_among(waits_for) else list(waits_for)


def _anonymous(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts without users, and all foreign ones as one: pages tell parts apart by their names."""
    shown = [part | ({"users": []} if "users" in part else {}) for part in parts if part["class"] != "foreign"]
    if size := sum(part["bytes"] for part in parts if part["class"] == "foreign"):
        before = sum(part["class"] in ("own", "reclaiming") for part in shown)
        shown.insert(before, {"class": "foreign", "name": "others", "bytes": size})
    return shown
