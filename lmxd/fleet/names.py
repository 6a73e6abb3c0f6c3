"""Names that all parts of a fleet share: of nodes, of subjects on NATS, and of headers between gateway and node."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from lmxd.text import shortened

NODE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""The name of a node, which is a label of DNS, and one token of a subject."""
BUCKET: Final = "lmxd_nodes"
"""The key-value bucket with a card for each node, under its name."""
SERVICE: Final = "lmxd-node"
"""The name by which ``nats micro ls`` shows the service of a node."""
HEARTBEATS: Final = "lmxd.heartbeat.*"
REMOVED: Final = "lmxd.removed"
"""Where the authority's broker tells which members belong to the fleet no more."""
MEMBERS: Final = "lmxd.members"
"""Where an operator asks a broker for the nodes that belong to the fleet: a list of names, as JSON."""
ALIVE: Final = "/fleet/alive"
"""The path of a door for a sign of life: ``{"now": SECONDS}`` by the clock that the node's heartbeats have."""
USER: Final = "X-Lmxd-Fleet-User"
"""The caller for whom a gateway asks; a node believes it of a gateway's certificate alone. Absent: nobody's key."""
WAITED: Final = "X-Lmxd-Fleet-Waited"
"""Seconds that the request has waited already, here and at other nodes: clocks of two boxes need not agree."""
USED: Final = "X-Lmxd-Fleet-Used"
"""Recent byte-seconds of that user at all other nodes, believed as the user is."""
WEIGHT: Final = "X-Lmxd-Fleet-Weight"
"""The weight of that user in the fleet. Absent: the node's own configuration has it."""
ANSWERED_BY: Final = "X-Lmxd-Node"
"""The node that answered, told to the client."""
LIST: Final = "/v1/models"
"""The path of a gateway at which models are listed."""


def heartbeat(node: str) -> str:
    """The subject of a node's heartbeats."""
    return f"lmxd.heartbeat.{node}"


def calls(node: str) -> str:
    """The beginning of the subjects of a node's service: ``calls(node).plan``, ``.request`` …"""
    return f"lmxd.node.{node}"


def having(models: Iterable[str]) -> str:
    """The remedy where a model is named that no node has. ``models``: those that nodes have."""
    return f"there are: {shortened(', '.join(sorted(set(models))), 500) or 'none'}"
