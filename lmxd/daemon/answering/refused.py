"""Refusals in words: one message with every fact of it, each of them once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lmxd.config.section import GIB
from lmxd.core.answers import Holder, Refusal, Shortfall, Turn
from lmxd.core.words import Ask, Demand, DeviceId, InstanceId
from lmxd.text import known_as

_FEW: Final = 3
"""Instances that are named as the holders of a device's bytes; of more, their number is told."""


def message(refusal: Refusal) -> str:
    """The sentence of a refusal with its figures: of each device, who has the bytes, and for how long yet."""
    named = {h.name for s in refusal.shortfalls for h in _named(s.holders)}
    others = [turn for turn in refusal.turns if turn.instance not in named]
    details = [*(lacking(s, refusal.turns) for s in refusal.shortfalls), *turns_of(others)]
    if not details:
        return refusal.message
    return f"{refusal.message}{'; ' if ': ' in refusal.message else ': '}{'; '.join(details)}"


def lacking(s: Shortfall, turns: Sequence[Turn] = ()) -> str:
    """The reason why a demand does not fit on one device."""
    device = known_as(s.device, s.called)
    if s.unavailable:
        return f"{device} is unavailable ({s.unavailable})"
    views = " and ".join(known_as(view, s.called) for view in s.views)
    shared = f", from which {views} draw" if views else ""
    need, free = s.need / GIB, max(0, s.have) / GIB
    holders = ", ".join(_holders(s.holders, {t.instance: t for t in turns})) or "nobody"
    return f"{need:.2f} GiB are needed on {device}{shared}, {free:.2f} are free (held by {holders})"


def turn_of(turn: Turn) -> str:
    """The sentence on an instance that others use."""
    return f"{turn.instance} {course(turn)}"


def turns_of(found: Sequence[Turn]) -> list[str]:
    """The sentences on instances that others use; of many, one on all of them."""
    if len(found) <= _FEW:
        return [*map(turn_of, found)]
    return [
        f"{len(found)} instances are in use by others, for {max(t.closes_in for t in found):.0f} s more at the most"
    ]


def course(turn: Turn) -> str:
    """How long an instance goes on that others use, and the cost of the swap."""
    if turn.unused:
        what = f"is leased, but unused: it goes when that lease ends, in {turn.closes_in:.0f} s at the latest"
    elif turn.closes_in > 0:
        why = ", for its users had less lately than who waits" if turn.fair else ""
        what = f"serves those who want it for up to {turn.closes_in:.0f} s more{why}"
    else:
        what = "takes no new requests and finishes what it does"
    return f"{what} (loading both models takes {turn.price:.1f} s)"


def never_more(model: str, demand: Demand, room: Mapping[DeviceId, int], called: Mapping[DeviceId, str]) -> str:
    """The sentence on a model that needs more bytes of devices than lmxd could ever promise, of the first of them."""
    device, need = next(iter(demand.items()))
    most = room.get(device, 0) / GIB
    where = known_as(device, called)
    return f"{model} needs {need / GIB:.2f} GiB on {where}; there is never more than {most:.2f} GiB for lmxd"


def what_to_ask(ask: Ask, fits: int | None) -> str:
    """The remedy for a request that exceeds every device. ``fits``: the largest context that would not."""
    if ask.external:
        return "hold less"
    return "no context would fit: take a smaller model" if fits is None else f"a context of {fits} tokens would fit"


def places(demand: Demand, called: Mapping[DeviceId, str]) -> str:
    """Devices and the bytes of each."""
    return ", ".join(f"{known_as(d, called)} ({size / GIB:.2f} GiB)" for d, size in demand.items())


def _holders(found: Sequence[Holder], turns: Mapping[InstanceId, Turn]) -> Iterable[str]:
    if many := [h for h in found if h not in _named(found)]:
        yield f"{len(many)} instances {sum(h.bytes for h in many) / GIB:.2f}"
    for holder in _named(found):
        turn = turns.get(InstanceId(holder.name))
        since = "" if holder.since is None else f" for {holder.since:.0f} s"
        yield f"{holder.name} {holder.bytes / GIB:.2f}{since}" + (f", which {course(turn)}" if turn else "")


def _named(found: Sequence[Holder]) -> list[Holder]:
    """The holders that are named: few instances, or none of many; and others than instances, which are few."""
    instances = [h for h in found if h.since is not None]
    return [h for h in found if h.since is None or len(instances) <= _FEW]
