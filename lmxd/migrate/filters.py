"""llama-swap's filters as what a profile sets and strips, and the names by which it sets others as variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lmxd.config.filters import names_in, wrong_name, wrong_tag, wrong_value
from lmxd.config.names import fitting
from lmxd.migrate.entries import Entry
from lmxd.migrate.leaves import Leaves, shown
from lmxd.migrate.report import About

_BY_ID: Final = "setParamsByID"
_LONGEST_TAG: Final = 40
"""Characters of a tag that is made up."""


def carry(entry: Entry, filters: Leaves, name: str, left: About) -> None:
    """Let a profile strip and set the same. ``name``: the model's where it comes from.

    There every further name of ``setParamsByID`` is an alias; here it is that of a variant, which has a tag besides.
    """
    stripped = _stripped(filters, left)
    own, variants = _settable(filters.part("setParams"), "setParams", left), dict[str, Any]()
    aliases: list[str] = entry.settings.get("aliases", [])
    by_id = filters.part(_BY_ID)
    for id in by_id:
        found = _settable(by_id.part(id), f"{_BY_ID}.{id}", left)
        if id != name:
            variants[_tag(id, name, variants)] = {"set": found, "aliases": [id]}
        elif found:
            own = {key: value for key, value in own.items() if not _is_within(key, found)} | found
            if aliases or len(list(by_id)) > 1:
                left(f"filters.{_BY_ID}.{id}: counts by every name here, unless a variant sets otherwise")
    named = [id for variant in variants.values() for id in variant["aliases"]]
    entry.settings["aliases"] = [alias for alias in aliases if alias not in named]
    entry.settings |= {
        key: value for key, value in (("set", own), ("strip", stripped), ("variants", variants)) if value
    }


def _is_within(name: str, others: Mapping[str, Any]) -> bool:
    return any(name.startswith(f"{other}.") for other in others)


def _stripped(filters: Leaves, left: About) -> list[str]:
    """The names of ``stripParams``, or of the older ``strip_params`` where that says none."""
    key = "stripParams" if filters.peek("stripParams") else "strip_params"
    found = []
    for name in names_in(",".join(filters.items(key))):
        if why := wrong_name(name):
            left(f"filters.{key}: {why}")
        else:
            found.append(name)
    return found


def _settable(parameters: Leaves, where: str, left: About) -> dict[str, Any]:
    found = {}
    for name in parameters:
        value = parameters.take(name)
        if why := wrong_name(name) or wrong_value(value):
            left(f"filters.{where}.{name}: {why} (it was {shown(name, value) or 'empty'})")
        else:
            found[name] = value
    return found


def _tag(id: str, name: str, taken: dict[str, Any]) -> str:
    """A tag for what is called ``id``: what that has beyond the model's name, if it can be one."""
    beyond = id.removeprefix(name).lstrip(":-_./") or id
    tag = beyond if wrong_tag(beyond) is None else "-".join(fitting(beyond).replace(":", "/").split("/"))[:_LONGEST_TAG]
    wanted, number = tag if wrong_tag(tag) is None else "variant", 1
    tag = wanted
    while tag in taken:
        number += 1
        tag = f"{wanted}-{number}"
    return tag
