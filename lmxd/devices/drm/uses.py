"""The bytes that processes hold of one card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from lmxd.devices.drm.client_scan import ClientHolder, SeenClients
from lmxd.devices.drm.figures import CardFigures
from lmxd.devices.measurement import ProcessUse, agreed


@dataclass(frozen=True, slots=True)
class CardUse:
    """Clients of one card: ours before and after its figures were read, and others'.

    ``hidden``: pids of ours whose clients may not be seen. ``rocm``: bytes by pid as KFD counts them.
    """

    before: tuple[ClientHolder, ...]
    after: tuple[ClientHolder, ...]
    others: tuple[ClientHolder, ...]
    hidden: Set[int]
    rocm: Mapping[int, int]

    @classmethod
    def of(
        cls,
        address: str,
        before: SeenClients,
        after: SeenClients,
        others: tuple[ClientHolder, ...],
        rocm: Mapping[int, int],
    ) -> CardUse:
        def here(holders: Iterable[ClientHolder]) -> tuple[ClientHolder, ...]:
            return tuple(holder for holder in holders if holder.client.address == address)

        return cls(here(before.holders), here(after.holders), here(others), after.hidden - rocm.keys(), rocm)

    @property
    def partial(self) -> bool:
        """Returns whether one of ours cannot be seen, or is one of which this kernel says no figures."""
        unsaid = {holder.pid for holder in self.after if not holder.client.resident}
        return bool(self.hidden or unsaid - self.rocm.keys())

    def by_pid(self, figures: CardFigures, pids: Set[int]) -> dict[int, ProcessUse]:
        """Bytes by pid, of those that are known."""
        ours = {pid: held for pid, held in self.rocm.items() if pid in pids}
        others = {pid: held for pid, held in self.rocm.items() if pid not in pids}
        return _uses(self.others, figures, others) | agreed(
            _uses(self.before, figures, ours), _uses(self.after, figures, ours)
        )

    def at_least(self, figures: CardFigures) -> int:
        """Bytes that are surely in use; of all clients that can be seen where the driver does not say it.

        Bytes that clients share may be the same for all of them.
        """
        clients = [h.client for h in (self.after if figures.used is not None else self.after + self.others)]
        shared = [sum(client.shared.get(region, 0) for region in figures.regions) for client in clients]
        return sum(client.held(figures.regions) for client in clients) - sum(shared) + max(shared, default=0)


def _uses(holders: Iterable[ClientHolder], figures: CardFigures, rocm: Mapping[int, int]) -> dict[int, ProcessUse]:
    """Bytes by pid. ROCm's are of the same clients: the larger of both figures counts, not their sum."""
    visible: dict[int, int] = {}
    hidden: dict[int, int] = {}
    for holder in (holder for holder in holders if holder.client.resident):
        visible[holder.pid] = visible.get(holder.pid, 0) + holder.client.held(figures.regions)
        hidden[holder.pid] = hidden.get(holder.pid, 0) + holder.client.held(figures.hidden)
    for pid, held in rocm.items():
        visible[pid] = max(visible.get(pid, 0), held)
    return {pid: ProcessUse(total=held + hidden.get(pid, 0), visible=held) for pid, held in visible.items()}
