"""The shelf: conversations on disk that lost their slot to another, until they have one again.

Each is of the connection that had it put by, which alone knows its name. It is removed when it is read back, when that
connection ends, and when no instance is left that could read it, as what lies in slots is gone by then, too.

What would be lost though nobody asked to have it put by is put by for the gateway that left it there, which is told.
"""

from __future__ import annotations

import logging
import time
from asyncio import get_running_loop
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from lmxd.core.books.state import State
from lmxd.core.decisions import Decision, ForgetInstance, GrantLease, MoveLease
from lmxd.core.words import ConnectionId, InstanceId, Kind
from lmxd.daemon.launching.ends import End, SavedFile, Uncarried, end, free_bytes, longest, tried
from lmxd.daemon.launching.kept import Kept, remove_file
from lmxd.daemon.launching.launched import Launched
from lmxd.failpoints import hit

log = logging.getLogger(__name__)

MOST: Final = 64
"""Conversations of one connection."""
_HOPE: Final = 0.9
"""Of the time that files took it is believed each time that this was too long: a disk may be faster later."""


WORTH: Final = 1000
"""Tokens from which a file is sooner than processing them anew: gateways have about the same."""
RESCUED_WITHIN: Final = 5.0
"""Seconds that what nobody asked for may take: somebody waits for what comes after."""


class Gateways(Protocol):
    """The connections of gateways: they know which conversation each of their slots has."""

    def __contains__(self, connection: object) -> bool: ...

    def tell_put_by(self, connection: ConnectionId, instance: InstanceId, slot: int, name: str) -> None:
        """Tell one that what it left in a slot of an instance lies in a file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _PutBy:
    """A conversation in a file. ``kind`` is that of its instance, which had ``spread`` caches beside each other."""

    saved: SavedFile
    kind: Kind
    spread: int
    of: ConnectionId


@dataclass(slots=True)
class _Pace:
    """Seconds in which the last file was written, and the last one read, for each of its tokens."""

    write: float = 0.0
    read: float = 0.0


class Shelf:
    """The conversations that were put by, the oldest first. They take no more bytes than are free beside them."""

    def __init__(self, kept: Kept, launched: Callable[[InstanceId], Launched | None], state: State) -> None:
        self._kept = kept
        self._launched = launched
        self._state = state
        self.gateways: Gateways | None = None
        self._known: dict[str, _PutBy] = {}
        self._paces: dict[Kind, _Pace] = {}
        self._unseen: dict[InstanceId, tuple[ConnectionId, set[int]]] = {}
        """Of each instance the last that had a lease, and the slots in which may be what another has left since."""

    async def exchange(
        self, instance: InstanceId, slot: int, of: ConnectionId, *, keep: bool, back: str | None
    ) -> tuple[str | None, bool]:
        """Write what a slot has to a file, if it is to be kept, and read in its place what was put by before.

        The name of the file, None if that failed, or is not worth it; and whether what was wanted back lies there now:
        its file is gone, whatever came of it. It makes no room for the other, which may be the only one on the disk.
        """
        found, until = self._withdrawn(back, of), longest()
        keep = self._has_seen(instance, slot) and keep
        try:
            what = f"what slot {slot} of {instance} has is processed anew"
            kept = await tried(self._saved(instance, slot, of), what, until) if keep else None
            what = f"a conversation is processed anew in slot {slot} of {instance}"
            return kept, bool(found and await tried(self._read(found, instance, slot), what, until))
        finally:
            if found is not None:
                remove_file(found.saved.path)

    async def rescue(self, instance: InstanceId, slots: Collection[int]) -> None:
        """Put by what some slots have that is about to be lost: for five seconds at most, those used last first."""
        until, known = get_running_loop().time() + RESCUED_WITHIN, self._of_gateway(instance)
        launched = self._launched(instance)
        if known is None or self.gateways is None or launched is None or launched.doorway is None:
            return
        of, unseen = known
        what = f"what others left in {instance} is processed anew"
        for slot in await tried(self._worth(instance, set(slots) - unseen), what, until) or ():
            what = f"what slot {slot} of {instance} has is processed anew"
            name = await tried(self._saved(instance, slot, of), what, until)
            if self._of_gateway(instance) is not known:  # it left, or another came
                self._remove(self._known.keys() & {name})
                return
            if name is not None:
                self.gateways.tell_put_by(of, instance, slot, name)

    def _of_gateway(self, instance: InstanceId) -> tuple[ConnectionId, set[int]] | None:
        """The gateway that alone has been at an instance, and the slots of which it does not know what they have."""
        now, visit = self._state.instances.get(instance), self._unseen.get(instance)
        if now is None or visit is None or self.gateways is None or visit[0] not in self.gateways:
            return None
        return None if any(lease.owner.connection != visit[0] for lease in now.leases.values()) else visit

    async def _worth(self, instance: InstanceId, slots: Collection[int]) -> list[int]:
        """The idle ones among some slots that have a long conversation, those used last first. Raises Uncarried."""
        used = await (await end(self._launched(instance), instance)).used()
        found = [
            (use.task, slot)
            for slot, use in enumerate(used)
            if slot in slots and use is not None and not use.busy and use.tokens >= WORTH
        ]
        return [slot for _, slot in sorted(found, reverse=True)]

    def _withdrawn(self, name: str | None, of: ConnectionId) -> _PutBy | None:
        """A conversation that a connection has put by, which is no more on the shelf."""
        found = None if name is None else self._known.get(name)
        if name is None or found is None or found.of != of:
            return None
        return self._known.pop(name)

    def left(self, connection: ConnectionId) -> None:
        """A connection has ended, and with it all that knew what it had put by."""
        self._remove([name for name, known in self._known.items() if known.of == connection])

    def decided(self, decision: Decision) -> None:
        """Take in a decision that is carried out: one is of another client now, or was the last of its kind."""
        match decision:
            case GrantLease() | MoveLease() if lease := self._state.leases.get(decision.lease):
                self._comes(decision.instance, lease.owner.connection)
            case ForgetInstance():
                self._unseen.pop(decision.instance, None)
                left = {instance.ask.kind for instance in self._state.instances.values()}
                self._paces = {kind: pace for kind, pace in self._paces.items() if kind in left}
                self._remove([name for name, known in self._known.items() if known.kind not in left])

    def _comes(self, instance: InstanceId, holder: ConnectionId) -> None:
        """A client has a lease of an instance, and knows nothing of what others did there since it had one."""
        last = self._unseen.get(instance)
        if last is None or last[0] != holder:
            now = self._state.instances.get(instance)
            self._unseen[instance] = holder, set(range(now.ask.spread if now and last else 0))

    def _has_seen(self, instance: InstanceId, slot: int) -> bool:
        """Whether who is alone at an instance knows what a slot has: the next request there is its own again."""
        now, visit = self._state.instances.get(instance), self._unseen.get(instance)
        if now is None or visit is None:
            return True
        last, unseen = visit
        if any(lease.owner.connection != last for lease in now.leases.values()):
            return False
        seen = slot not in unseen
        unseen.discard(slot)
        return seen

    async def _is_sooner(self, source: End, kind: Kind) -> bool:
        """Whether files are written and read sooner than prompts are processed, as far as is known."""
        if (pace := self._paces.get(kind)) is None:
            return True
        anew = await source.carrier.seconds_a_token(source.endpoint)
        if anew is None or pace.write + pace.read < anew:
            return True
        pace.write, pace.read = _HOPE * pace.write, _HOPE * pace.read
        return False

    async def _saved(self, instance: InstanceId, slot: int, of: ConnectionId) -> str | None:
        """None if it is not worth it. Raises Uncarried, and OSError for files."""
        source, kind = await end(self._launched(instance), instance), self._kind(instance)
        if not await self._is_sooner(source, kind):
            return None
        use, begun = await source.use(slot), time.monotonic()
        try:
            async with self._kept.saved(source, slot, "put by") as saved:
                hit("conversation_put_by")
                name = saved.path.stem
                self._known[name] = _PutBy(saved=saved, kind=self._kind(instance), spread=source.streams, of=of)
        finally:
            if use is not None and use.tokens:  # one that took too long is not begun again soon
                self._paces.setdefault(kind, _Pace()).write = (time.monotonic() - begun) / use.tokens
        self._trim(of, saved.path.parent)
        if name not in self._known:
            raise Uncarried("the disk is full")
        return name

    async def _read(self, found: _PutBy, instance: InstanceId, slot: int) -> bool:
        """Raises Uncarried, and OSError for files."""
        begun, target = time.monotonic(), await end(self._launched(instance), instance)
        if self._kind(instance) != found.kind:
            raise Uncarried(f"it is of another model or another configuration than {instance}")
        try:
            await target.fit(found.saved, found.spread)
            async with target.doorway.turn:
                await target.restore(slot, found.saved)
            hit("conversation_back")
        finally:
            took, tokens = time.monotonic() - begun, found.saved.tokens
            self._paces.setdefault(found.kind, _Pace()).read = took / tokens
        log.info("%s: %d tokens are back in slot %d after %.2f s", instance, tokens, slot, took)
        return True

    def _kind(self, instance: InstanceId) -> Kind:
        """The kind of an instance. Raises Uncarried if it is gone."""
        if (now := self._state.instances.get(instance)) is None:
            raise Uncarried(f"{instance} has ended")
        return now.ask.kind

    def _trim(self, of: ConnectionId, directory: Path) -> None:
        """Remove the oldest of a connection that has too many, and the oldest of all while there is little room."""
        own = [name for name, known in self._known.items() if known.of == of]
        self._remove(own[:-MOST])
        while self._known and sum(known.saved.size for known in self._known.values()) > free_bytes(directory):
            self._remove((next(iter(self._known)),))

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            remove_file(self._known.pop(name).saved.path)
