"""Keys that were once: a file that still has one is read as before, with a warning that says what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

RETIRED: Final[Mapping[str, str]] = {
    "admission_control.min_residency": "an instance that nobody wants goes at once, and how long one that others "
    "wait for goes on serving follows from load times (quantum_loads): take it out",
    "gateway.linger": "each request has a lease of its own, and none is kept for the next: take it out",
}
"""Key, with its sections -> why it has no effect, and what to do."""


def without_retired(data: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The file's content without retired keys, and a warning for each that was there."""
    kept, warnings = dict(data), []
    if isinstance(kept.get("models"), dict):
        kept["models"] = {name: _renamed(profile) for name, profile in kept["models"].items()}
        old = [name for name, profile in kept["models"].items() if profile is not data["models"][name]]
        warnings += [f"models.{name}.cpu_spill is called fit now: write fit: auto, or take it out" for name in old]
    for key, instead in RETIRED.items():
        if _take_out(kept, key.split(".")):
            warnings.append(f"{key} has no effect any more: {instead}")
    return kept, tuple(warnings)


def _renamed(profile: Any) -> Any:
    """A profile with the keys that its keys of old are called now."""
    if not isinstance(profile, dict) or not isinstance(profile.get("cpu_spill"), bool):
        return profile
    now = {key: value for key, value in profile.items() if key != "cpu_spill"}
    return {"fit": "auto", **now} if profile["cpu_spill"] else now


def _take_out(data: dict[str, Any], path: list[str]) -> bool:
    """Returns whether it was there. The sections that it was in are copied, not changed."""
    name, *rest = path
    if not rest:
        return data.pop(name, _ABSENT) is not _ABSENT
    if not isinstance(data.get(name), dict):
        return False
    data[name] = dict(data[name])
    return _take_out(data[name], rest)


_ABSENT: Final = object()
