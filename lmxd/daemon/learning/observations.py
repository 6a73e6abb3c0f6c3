"""Observations of real instances, kept in a file: one JSON document, replaced as a whole."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmxd.estimate.backends import Backend
from lmxd.estimate.learned import Card, Learned, Observation, kept
from lmxd.files import decoded, replace_text

log = logging.getLogger(__name__)

_VERSION = 1
"""The version of the file's format. A file of another one is set aside."""
_MOST = 512
"""Observations that are kept; the oldest go first."""


class Observations:
    """All observations, in the file ``path``; without one they last as long as the daemon."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.learned = Learned(_read(path)) if path is not None else Learned()

    def note(self, new: Observation) -> None:
        """Add what was seen of a launch, or merge it with what is known of the same one. What cannot be is left out."""
        found = kept(self.learned.observations, new, _MOST)
        if not found[-1].plausible:
            log.warning("%s: it was seen to take what no such launch takes: nothing is learned from it", new.model)
            return
        self._replace(found)

    def forget(self, wanted: Callable[[Observation], bool]) -> int:
        """Drop those that are ``wanted``; how many."""
        left = tuple(o for o in self.learned.observations if not wanted(o))
        dropped = len(self.learned.observations) - len(left)
        if dropped:
            self._replace(left)
        return dropped

    def _replace(self, observations: tuple[Observation, ...]) -> None:
        self.learned = Learned(observations)
        if self._path is None:
            return
        document = {"version": _VERSION, "observations": [asdict(o) for o in observations]}
        replace_text(self._path, json.dumps(document))  # if not, it is still known until the daemon ends


def _read(path: Path) -> tuple[Observation, ...]:
    """The observations in a file; one that cannot be read is set aside, loudly, and learning starts anew."""
    try:
        document = decoded(path.read_text())
        if document["version"] != _VERSION:
            raise ValueError(f"version {document['version']}")
        found = [_observation(o) for o in document["observations"]]
        if absurd := sum(not o.plausible for o in found):
            log.warning("%s: %d observations are of no launch that can be: forgotten", path, absurd)
        return tuple(o for o in found if o.plausible)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        log.warning("%s cannot be used (%s): set aside, learning starts anew", path, error)
        with suppress(OSError):
            path.replace(path.with_name(f"{path.name}.unusable"))
        return ()


def _observation(entry: dict[str, Any]) -> Observation:
    figures = ("buffers", "predicted", "loaded", "prompted", "count")
    if any(not isinstance(entry[name], int) or entry[name] < 0 for name in figures):
        raise ValueError("impossible figures")
    if any(not isinstance(entry[name], str) for name in ("launch", "file", "model")):
        raise ValueError("names that are none")
    return Observation(**{**entry, "card": _card(entry["card"])})


def _card(entry: dict[str, Any]) -> Card:
    """Earlier versions, which knew CUDA alone, wrote the name, the driver and the build."""
    compute = entry.get("compute")
    return Card(
        name=str(entry["name"]),
        driver=str(entry["driver"]),
        build=str(entry["build"]),
        backend=Backend(entry.get("backend", Backend.CUDA)),
        multiprocessors=int(entry.get("multiprocessors", 0)),
        compute=None if compute is None else (int(compute[0]), int(compute[1])),
    )
