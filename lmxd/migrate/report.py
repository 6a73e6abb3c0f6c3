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
    """Sentences about what was not carried over, and things that are not needed here, with the models that had them.

    The same thing of many models is said once.
    """

    unneeded: dict[str, list[str]] = field(default_factory=dict)
    """Sentence -> the models that it is about."""
    _left: dict[str, list[str]] = field(default_factory=dict)
    _room: int = _MOST
    _unsaid: int = 0

    @property
    def left(self) -> list[str]:
        """Sentences about what was not carried over."""
        return [_about(sentence, whose) for sentence, whose in self._left.items()]

    def say(self, sentence: Sentence, whose: str = "") -> None:
        """Note what could not be carried over."""
        self._note(self._left, sentence, whose, each=True)

    def unneed(self, what: str, why: str, whose: str = "") -> None:
        """Note what needs no counterpart."""
        self._note(self.unneeded, f"{what}: {why}", whose)

    def rest(self, leaves: Iterable[tuple[str, object]], reasons: Mapping[str, str], whose: str = "") -> None:
        """Note the leaves that nobody took, those of a key together. ``reasons``: key -> why it has no counterpart."""
        for key, values in grouped(leaves):
            what = f"{key}: {reasons.get(key, NO_COUNTERPART)}"
            for line in textwrap.wrap("; ".join(values), _LONGEST - 100 - min(len(what), 200)) or [""]:
                self.say(what + (f" (it was {line})" if line else ""), whose)

    def about(self, name: str) -> About:
        """The same for one model."""
        return About(self, name)

    def lines(self) -> dict[str, list[str]]:
        """Headline -> sentences."""
        left = [*self.left, *([f"and {self._unsaid} more things: import less at once"] if self._unsaid else [])]
        unneeded = [f"{what}{_of(whose)}" for what, whose in self.unneeded.items()]
        return {"not carried over as it was:": left, "not needed here:": unneeded}

    def _note(self, among: dict[str, list[str]], sentence: Sentence, whose: str, *, each: bool = False) -> None:
        """``each``: what is said again counts as what is new, since finding the words takes time."""
        if self._room <= 0:
            self._unsaid += 1
            return
        words = shortened(made(sentence), _LONGEST)
        self._room -= len(whose) if words in among and not each else len(words)
        among.setdefault(words, []).append(whose)


@dataclass(frozen=True, slots=True)
class About:
    """The report on one model."""

    report: Report
    name: str

    def __call__(self, sentence: Sentence) -> None:
        """Note what could not be carried over."""
        self.report.say(sentence, self.name)

    def unneed(self, what: str, why: str) -> None:
        """Note what needs no counterpart."""
        self.report.unneed(what, why, self.name)

    def rest(self, leaves: Iterable[tuple[str, object]], reasons: Mapping[str, str]) -> None:
        """Note the leaves that nobody took."""
        self.report.rest(leaves, reasons, self.name)


def made(sentence: Sentence) -> str:
    """The words of a sentence."""
    return sentence if isinstance(sentence, str) else sentence()


def _about(sentence: str, whose: list[str]) -> str:
    """A sentence that begins with its model, or ends with its models."""
    return f"{whose[0]}: {sentence}" if whose[0] and set(whose) == {whose[0]} else f"{sentence}{_of(whose)}"


def _of(whose: list[str]) -> str:
    named = ", ".join(dict.fromkeys(name for name in whose if name))
    return f" ({named})" if named else ""
