"""The error where no node can be asked, with the reason."""

from __future__ import annotations

from collections.abc import Mapping

from lmxd.errors import LmxdError
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.finding.errors import Away, NodeRefusal
from lmxd.fleet.names import having
from lmxd.text import several


def nobody(table: NodeTable, model: str, refused: Mapping[str, Away | NodeRefusal], now: float) -> LmxdError:
    """The error for a client. ``refused``: the nodes that it asked, the last in the end."""
    said = [error for error in refused.values() if isinstance(error, NodeRefusal)]
    if said:
        return said[-1]
    if refused:
        what = "; ".join(error.message for error in refused.values())
        return LmxdError("stopped", f"no node that has {model} answers: {what}", "ask again")
    if not table.alive(now) and not any(node.speaks(now) for node in table.nodes.values()):
        what = "nothing has been heard of any node for a minute"
        return LmxdError("stopped", what, "an administrator looks whether lmxd fleet broker and lmxd fleet node run")
    if not table.offers(model):
        return LmxdError(
            "unknown_model",
            f"no node has a model {model!r}",
            having(x for node in table.nodes.values() for x in node.offered),
        )
    names = sorted(name for name, node in table.nodes.items() if model in node.offered)
    return LmxdError("stopped", f"{model} is at {several(names)} alone, of which none can be asked now", "ask again")
