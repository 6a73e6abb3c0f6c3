"""The cards that are asked for, by UUID, as NVML lists them now and listed them before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lmxd.devices.nvml.card import NvmlCard
from lmxd.devices.nvml.faults import OUT, Fault
from lmxd.devices.nvml.inventory import Listed, identified

_MOVED = "GPU {index} was {then} when lmxd started, and would be {now} now: name it by its UUID, or lmxctl reload"
_LISTED = "nvidia-smi -L lists those that there are; leave gpu.device out for all of them"


class CardRegistry:
    """The cards in ``refs``: index, UUID or PCI id, as configured; None for all.

    An index means the card that it meant at first. A card that was known stays on the list when it is lost; a MIG
    slice that its owner has taken away does not.
    """

    def __init__(self, refs: tuple[int | str, ...] | None) -> None:
        self._refs = refs
        self._meant: dict[int, str] = {}
        """The UUID that each configured index meant at first."""
        self.cards: dict[str, NvmlCard] = {}

    def update(self, seen: Sequence[Listed]) -> None:
        """Take in what NVML lists: new cards, handles of those that were lost, and those that are lost now."""
        before, self.cards = self.cards, {}
        seen = identified(seen, (c.id for c in before.values() if not c.unknown))
        if self._refs is None:
            self._all(seen, before)
        else:
            for ref in self._refs:
                self._one(ref, seen, before)
        handles, numbers = dict(_devices(seen)), _numbers(seen)
        for card in self.cards.values():
            card.cuda = numbers.get(card.id)
            if card.handle is not None or card.unknown:
                continue  # it is as good as its next measurement says
            if card.id in handles:
                card.attach(handles[card.id])
            else:
                card.fault = self._why_lost(card, seen)

    def _all(self, seen: Sequence[Listed], before: dict[str, NvmlCard]) -> None:
        told = {s.uuid: s for s in seen if s.uuid}
        for s in told.values():
            self._add(s, str(s.index), before)
        lost = {c.id: c for c in before.values() if not (c.unknown or c.id in told or c.parent in told)}
        self.cards |= lost
        failing = [s for s in seen if not s.uuid]
        for s in failing[len({c.parent or c.id for c in lost.values()}) :]:
            name = s.pci or f"gpu{s.index}"
            self._keep(NvmlCard(name, str(s.index), s.pci, s.place, unknown=True, fault=s.fault), before)

    def _one(self, ref: int | str, seen: Sequence[Listed], before: dict[str, NvmlCard]) -> None:
        found = self._find(ref, seen)
        if found is not None and found.uuid:
            self._add(found, str(ref), before, isinstance(ref, str) and ref in found.slices)
            self._notice(ref, seen)
            return
        known = [c for c in before.values() if c.ref == str(ref) and not c.unknown]
        if known:
            self.cards |= {c.id: c for c in known}
            self._notice(ref, seen)
            return
        fault = found.fault if found is not None else None
        missing = Fault(f"there is no GPU {ref} on this machine (NVML lists {len(seen)})", _LISTED)
        pci, place = (found.pci, found.place) if found else ("", "")
        card = NvmlCard(str(ref), str(ref), pci, place, unknown=True, fault=fault or missing)
        self._keep(card, before)

    def _find(self, ref: int | str, seen: Sequence[Listed]) -> Listed | None:
        if isinstance(ref, int):
            if ref not in self._meant and ref < len(seen) and seen[ref].uuid:
                self._meant[ref] = seen[ref].uuid
            ref = self._meant.get(ref, ref)
        return next((s for s in seen if s.goes_by(ref) or ref in s.slices), None)

    def _notice(self, ref: int | str, seen: Sequence[Listed]) -> None:
        """Have a card say so if its index means another one by now."""
        if not isinstance(ref, int) or ref not in self._meant:
            return
        then, now = self._meant[ref], next((s.uuid for s in seen if s.index == ref), "")
        for card in self.cards.values():
            if card.ref == str(ref):
                card.moved = _MOVED.format(index=ref, then=then, now=now) if now not in ("", then) else ""

    def _add(self, s: Listed, ref: str, before: dict[str, NvmlCard], alone: bool = False) -> None:
        """Add a GPU, or in its place the slices that it is divided into; of these ``alone`` the one named."""
        if not s.slices:
            ref = self._free(ref, s.uuid, before)
            self._keep(NvmlCard(s.uuid, ref, s.pci, s.place, unknown=s.fault is not None, fault=s.fault), before)
        for uuid in s.slices:
            if not alone or uuid == ref:
                named = ref if self._refs is not None else uuid
                self._keep(NvmlCard(uuid, named, s.pci, s.place, parent=s.uuid), before)

    def _free(self, ref: str, uuid: str, before: dict[str, NvmlCard]) -> str:
        """The index of a card, unless another one has gone by it since before: then its UUID."""
        taken = self._refs is None and any(c.ref == ref and c.id != uuid and not c.unknown for c in before.values())
        return uuid if taken else ref

    def _keep(self, card: NvmlCard, before: dict[str, NvmlCard]) -> None:
        old = before.get(card.id)
        if old is None or old.unknown != card.unknown:
            old = card  # it is known by now, or cannot be used as it was
        elif old.unknown:
            old.fault = card.fault
        old.place = card.place
        self.cards.setdefault(card.id, old)

    def _why_lost(self, card: NvmlCard, seen: Sequence[Listed]) -> Fault:
        """The fault of the index that it has, or may have."""
        failing = [s for s in seen if s.fault is not None]
        mine = [s.fault for s in failing if s.pci and s.pci == card.pci] or [s.fault for s in failing if not s.pci]
        return (mine[0] if mine else None) or OUT


def _numbers(seen: Sequence[Listed]) -> dict[str, int]:
    """CUDA's numbers of the cards, by UUID. None is known if one of them fails, which CUDA may leave out, or is divided
    into slices, which it counts otherwise.
    """
    places = [s.pci for s in seen]
    known = len(seen) == 1 or (all(places) and places == sorted(set(places)))
    return {s.uuid: s.index for s in seen} if known and not any(s.fault or s.slices for s in seen) else {}


def _devices(seen: Sequence[Listed]) -> Iterator[tuple[str, Any]]:
    """The handle of each device that NVML lists, by UUID."""
    for s in seen:
        if s.slices:
            yield from s.slices.items()
        elif s.fault is None:
            yield s.uuid, s.handle
