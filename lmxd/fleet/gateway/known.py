"""The models of a fleet by all their names, as the cards of its nodes say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from lmxd.errors import LmxdError
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.reports import Offered


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetModel:
    """One name that a model is listed by. ``offered``: as the first of its ``nodes`` says, which are in order."""

    name: str
    offered: Offered
    nodes: tuple[str, ...]


class FleetModels:
    """The models of the nodes that may be asked. ``now``: the clock of the table."""

    def __init__(self, table: NodeTable, now: Callable[[], float]) -> None:
        self._table, self._now = table, now

    def listed(self) -> Mapping[str, FleetModel]:
        """By every name, in order. A name that is a model's own at one node means that model everywhere."""
        found: dict[str, tuple[Offered, dict[str, None]]] = {}
        nodes = sorted(self._table.alive(self._now()), key=lambda node: node.name)
        for own in (True, False):
            for node in nodes:
                for offered in node.offered.values():
                    for name in (offered.model,) if own else offered.names:
                        first, where = found.setdefault(name, (offered, {}))
                        if first.model == offered.model:
                            where[node.name] = None
        return {
            name: FleetModel(name=name, offered=found[name][0], nodes=tuple(found[name][1])) for name in sorted(found)
        }

    def of_path(self, path: str) -> str:
        """The model of a path that begins with its name, encoded or not. The longest name counts."""
        words, known = path.split("/"), self.listed()
        for count in range(len(words), 0, -1):
            if (name := unquote("/".join(words[:count]))) in known:
                return name
        return unquote(words[0])

    def named(self, name: str, lists: str) -> str:
        """The model's own name. LmxdError ``unknown_model``; ``lists``: where there is a list.

        One that only nodes have which are away is known all the same.
        """
        if self._table.offers(name):
            return name
        for node in self._table.nodes.values():
            for offered in node.offered.values():
                if name in offered.names:
                    return offered.model
        raise LmxdError("unknown_model", f"no node has a model {name!r}", f"{lists} lists them")
