"""Users of a fleet as people are shown them: what each has of its limits at all nodes, and used lately. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lmxd.fleet.choosing.shares import together
from lmxd.fleet.reports import UserUse
from lmxd.fleet.seen import SeenNode
from lmxd.fleet.users import FleetUserConfig, FleetUsers, user_of


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenUser:
    """A user at all nodes that are alive. ``nodes``: where it has or waits for something.

    ``part``: of all that was used lately, each by its weight, by which the queues order them.
    """

    name: str
    use: UserUse
    nodes: tuple[str, ...]
    limits: FleetUserConfig
    part: float

    def as_plain(self) -> dict[str, Any]:
        """As JSON has it: byte-seconds, bytes and counts; a limit that there is not is None."""
        had, most = self.use, self.limits
        return {
            "user": self.name,
            "weight": most.weight,
            "part": self.part,
            "use": had.use,
            "bytes": had.bytes,
            "leases": had.leases,
            "waiting": had.waiting,
            "max_bytes": most.max_bytes,
            "max_leases": most.max_leases,
            "max_waiting": most.max_waiting,
            "nodes": list(self.nodes),
        }


def users(nodes: Iterable[SeenNode], limits: FleetUsers, here: Mapping[str, UserUse]) -> list[SeenUser]:
    """The users of the fleet, who used most first. ``here``: what a gateway counts of some, in place of heartbeats."""
    said: dict[str, dict[str, UserUse]] = {name: {} for name in here}
    for node in nodes:
        for name, use in node.beat.users.items() if node.beat is not None and node.alive else ():
            said.setdefault(name, {})[node.name] = use
    had = {name: here.get(name) or together(each.values()) for name, each in said.items()}
    its = {name: user_of(limits, name) or FleetUserConfig() for name in said}
    total = sum(use.use / its[name].weight for name, use in had.items()) or 1.0
    return [
        SeenUser(
            name=name,
            use=use,
            nodes=tuple(node for node, there in said[name].items() if there.leases or there.waiting),
            limits=its[name],
            part=use.use / its[name].weight / total,
        )
        for name, use in sorted(had.items(), key=lambda item: (-item[1].use, item[0]))
    ]
