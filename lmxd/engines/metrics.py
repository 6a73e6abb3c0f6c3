"""Figures that an engine says in Prometheus' text format. They are not trusted: one that cannot be true is none."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lmxd.engines.engine import Activity, Endpoint
from lmxd.engines.http import get
from lmxd.throttle import Throttle

_SAMPLE: Final = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)(?: \d+)?$", re.MULTILINE | re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,16}(?:\.\d{1,16})?(?:e[-+]?\d{1,2})?", re.ASCII)
COUNTER: Final = 2.0**53
"""The largest count that is believed: beyond it, one more is no other number."""
REQUESTS: Final = 10.0**6
"""The largest number of requests that is believed."""


def samples(text: str, wanted: Mapping[str, float]) -> dict[str, float]:
    """The figures of some names, those of all label sets of a name added up. ``wanted``: name -> the most of it.

    Raises ValueError if one is no number, or none that can be true.
    """
    found: dict[str, float] = {}
    for name, value in _SAMPLE.findall(text):
        if name not in wanted:
            continue
        if not _NUMBER.fullmatch(value) or found.get(name, 0.0) + float(value) > wanted[name]:
            raise ValueError(f"{name} {value[:40]!r}")
        found[name] = found.get(name, 0.0) + float(value)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureNames:
    """The names of its figures: requests that it is at and that wait, tokens of prompts and generated ones."""

    running: str
    waiting: str
    prompted: str
    generated: str

    @property
    def believed(self) -> dict[str, float]:
        """name -> the most that is believed of it."""
        requests, counters = (self.running, self.waiting), (self.prompted, self.generated)
        return dict.fromkeys(requests, REQUESTS) | dict.fromkeys(counters, COUNTER)

    def activity(self, found: Mapping[str, float] | None) -> Activity | None:
        """The activity that its figures tell; None if they are not there."""
        if found is None or self.running not in found:
            return None
        prompted, generated = found.get(self.prompted, 0.0), found.get(self.generated, 0.0)
        return Activity(
            busy=found[self.running] + found.get(self.waiting, 0.0) > 0,
            work=prompted + generated,
            prompted=prompted,
            processing=int(found[self.running]),
            generated=generated,
        )


class EngineFigures:
    """Asks engines of one kind for their figures."""

    def __init__(self, wanted: Mapping[str, float], log: logging.Logger, path: str = "/metrics") -> None:
        """``wanted``: name -> the most that is believed of it."""
        self._wanted = wanted
        self._log = log
        self._path = path
        self._complaints = Throttle(most=1, window=600.0)

    async def ask(self, endpoint: Endpoint) -> dict[str, float] | None:
        """The figures that an instance says; None if it does not answer, or says what cannot be true."""
        status, text = await get(endpoint, self._path)
        if status != 200:
            return None
        try:
            return samples(text, self._wanted)
        except ValueError as error:
            self._complain(endpoint, str(error))
            return None

    def _complain(self, endpoint: Endpoint, problem: str) -> None:
        """Once in a while: it is asked every few seconds."""
        now, where = time.monotonic(), str(endpoint.socket or endpoint.url)
        self._complaints.due(now)
        if self._complaints.passes(where, now):
            self._log.warning("what it does is not known: the engine at %s says %s", where, problem)
