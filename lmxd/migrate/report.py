"""The report on an import: of each thing that did not become a setting, a sentence."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from lmxd.migrate.leaves import grouped
from lmxd.text import shortened

_LONGEST: Final = 500
"""Characters of one sentence."""
_MOST: Final = 256 * 2**10
"""Characters of all: some thousand sentences. A file may be made of such things."""
NO_COUNTERPART: Final = "has no counterpart here"

Sentence = str | Callable[[], str]
"""Words, or what makes them: that costs nothing for one that is not listed."""


@dataclass(slots=True)
class Report:
    """Sentences about what was not carried over, and things that are not needed here, with the models that had them."""

    left: list[str] = field(default_factory=list)
    unneeded: dict[str, list[str]] = field(default_factory=dict)
    """Sentence -> the models that it is about."""
    _room: int = _MOST
    _unsaid: int = 0

    def say(self, sentence: Sentence) -> None:
        """Note what could not be carried over."""
        if self._room <= 0:
            self._unsaid += 1
            return
        words = shortened(made(sentence), _LONGEST)
        self._room -= len(words)
        self.left.append(words)

    def unneed(self, what: str, why: str, whose: str = "") -> None:
        """Note what needs no counterpart: the same thing of many models is said once."""
        if self._room <= 0:
            self._unsaid += 1
            return
        sentence = shortened(f"{what}: {why}", _LONGEST)
        self._room -= len(whose) if sentence in self.unneeded else len(sentence)
        self.unneeded.setdefault(sentence, []).append(whose)

    def rest(self, leaves: Iterable[tuple[str, object]], reasons: Mapping[str, str], whose: str = "") -> None:
        """Note the leaves that nobody took, those of a key together. ``reasons``: key -> why it has no counterpart."""
        for key, values in grouped(leaves):
            what = f"{whose}{key}: {reasons.get(key, NO_COUNTERPART)}"
            for line in textwrap.wrap("; ".join(values), _LONGEST - 100 - min(len(what), 200)) or [""]:
                self.say(what + (f" (it was {line})" if line else ""))

    def about(self, name: str) -> About:
        """The same for one model."""
        return About(self, name)

    def lines(self) -> dict[str, list[str]]:
        """Headline -> sentences."""
        left = [*self.left, *([f"and {self._unsaid} more things: import less at once"] if self._unsaid else [])]
        unneeded = [f"{what}{_of(whose)}" for what, whose in self.unneeded.items()]
        return {"not carried over as it was:": left, "not needed here:": unneeded}


@dataclass(frozen=True, slots=True)
class About:
    """The report on one model."""

    report: Report
    name: str

    def __call__(self, sentence: Sentence) -> None:
        """Note what could not be carried over."""
        self.report.say(lambda: f"{self.name}: {made(sentence)}")

    def unneed(self, what: str, why: str) -> None:
        """Note what needs no counterpart."""
        self.report.unneed(what, why, self.name)

    def rest(self, leaves: Iterable[tuple[str, object]], reasons: Mapping[str, str]) -> None:
        """Note the leaves that nobody took."""
        self.report.rest(leaves, reasons, f"{self.name}: ")


def made(sentence: Sentence) -> str:
    """The words of a sentence."""
    return sentence if isinstance(sentence, str) else sentence()


def _of(whose: list[str]) -> str:
    named = ", ".join(dict.fromkeys(name for name in whose if name))
    return f" ({named})" if named else ""
