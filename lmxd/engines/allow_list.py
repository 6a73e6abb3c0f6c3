"""The flags of an engine that a profile may add: an allow-list, for a flag can change what was admitted."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lmxd.text import shortened

_NEAR: Final = 0.85
"""Likeness from which a word is taken for a misspelled flag."""
_SHOWN: Final = 60
_SWITCH: Final = "switch"
_NEGATIVE: Final = re.compile("-[0-9.]")


def _is_json(value: str) -> bool:
    try:
        return isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        return False


_KINDS: Final[Mapping[str, tuple[str, Callable[[str], bool]]]] = {
    "text": ("", bool),
    "count": ("a whole number from 0 up", lambda value: re.fullmatch("[0-9]{1,12}", value, re.ASCII) is not None),
    "number": ("a number", lambda value: re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", value, re.ASCII) is not None),
    "path": ("a whole path", lambda value: value.startswith("/")),
    "json": ("an object in JSON", _is_json),
}
"""Kind of value -> what it is called, and whether a word is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AllowList:
    """The answer to each flag of an engine. Flags are written with - between words.

    ``switches``: those without a value. ``values``: kind of value -> flags. ``choices``: flag -> its values.
    ``keys``: flag -> the key that stands for it. ``uncounted``: flag whose bytes no formula knows -> its kind,
    which may be switch. ``refused``: reason -> flags.
    """

    engine: str
    switches: frozenset[str]
    values: Mapping[str, frozenset[str]]
    choices: Mapping[str, tuple[str, ...]]
    keys: Mapping[str, str]
    uncounted: Mapping[str, str]
    refused: Mapping[str, frozenset[str]]

    def problems(self, words: Sequence[str], *, declared: bool = False) -> list[str]:
        """The reasons why a profile may not add these words. ``declared``: its bytes are those that it says itself."""
        return list(self._problems(words, declared=declared))

    def known(self) -> frozenset[str]:
        """All flags that there is an answer to."""
        valued = frozenset().union(*self.values.values(), *self.refused.values())
        return self.switches | valued | self.choices.keys() | self.keys.keys() | self.uncounted.keys()

    def is_switch(self, flag: str) -> bool:
        """Returns whether a flag, or the one that it is the negative of, takes no value."""
        meant = self._meant(flag)
        return meant in self.switches or self.uncounted.get(meant) == _SWITCH

    def _problems(self, words: Sequence[str], *, declared: bool) -> Iterator[str]:
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if not word.startswith("-") or _NEGATIVE.match(word):
                yield f"{shortened(word, _SHOWN)!r} follows no flag that takes it"
                continue
            flag, joined, value = word.partition("=")
            flag = self._meant(_spelled(flag))
            if (problem := self._refusal(flag, declared=declared)) is not None:
                yield problem
                while rest and not rest[0].startswith("-"):
                    rest.pop(0)
            elif self.is_switch(flag):
                if joined:
                    yield f"{flag} takes no value"
            elif not joined and (not rest or (rest[0].startswith("--"))):
                yield f"{flag} needs a value"
            elif (problem := self._wrong(flag, value if joined else rest.pop(0))) is not None:
                yield problem

    def _meant(self, flag: str) -> str:
        """The flag that one is the negative of, if it is of a switch: both have one answer."""
        positive = f"--{flag.removeprefix('--no-')}"
        refused = any(positive in flags for flags in self.refused.values())
        if flag.startswith("--no-") and (
            positive in self.switches or refused or self.uncounted.get(positive) == _SWITCH
        ):
            return positive
        return flag

    def of(self, words: Sequence[str], flags: Collection[str]) -> list[str]:
        """The words that are of some flags, with the values that follow them."""
        found, rest = list[str](), list(words)
        while rest:
            word = rest.pop(0)
            flag, joined, _ = word.partition("=")
            meant = self._meant(_spelled(flag))
            takes = not joined and not self.is_switch(meant) and rest and not rest[0].startswith("--")
            found += [word, *([rest.pop(0)] if takes else [])] if meant in flags else []
        return found

    def answers(self, flag: str) -> bool:
        """Returns whether there is an answer to a flag of its own."""
        return self._meant(flag) in self.known()

    def _refusal(self, flag: str, *, declared: bool) -> str | None:
        """The reason why a flag may not be there at all."""
        if flag in self.keys:
            return f"{flag} is refused: use the key {self.keys[flag]} instead"
        for why, flags in self.refused.items():
            if flag in flags:
                return f"{flag} is refused: {why}"
        if flag in self.uncounted:
            return None if declared else f"{flag} takes bytes that are not counted: say estimated_memory_gb as well"
        if flag in self.known():
            return None
        near = difflib.get_close_matches(flag, self.known(), n=1, cutoff=_NEAR)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{shortened(flag, _SHOWN)!r} is not a flag of {self.engine} that lmxd knows{hint}"

    def _wrong(self, flag: str, value: str) -> str | None:
        if flag in self.choices:
            there = self.choices[flag]
            return (
                None if value in there else f"{flag} is {shortened(value, _SHOWN)!r}: possible are {', '.join(there)}"
            )
        kind = self.uncounted.get(flag) or next(kind for kind, flags in self.values.items() if flag in flags)
        called, fits = _KINDS[kind]
        return None if fits(value) else f"{flag} is {shortened(value, _SHOWN)!r}: give {called or 'a value'}"


def _spelled(flag: str) -> str:
    """A long flag with - between its words: servers in Python take _ as well."""
    return flag.replace("_", "-") if flag.startswith("--") else flag


def is_on(words: Sequence[str], flag: str, *, usual: bool = False) -> bool:
    """Whether a switch is on by an engine's words: the last of it and its negative counts. ``usual``: without any."""
    off, found = f"--no-{flag.removeprefix('--')}", usual
    for word in map(_spelled, words):
        found = word == flag if word in (flag, off) else found
    return found


def value_of(words: Sequence[str], *flags: str) -> str | None:
    """The value that one of some flags has among an engine's words: the last, as its parser has it; None without."""
    found = None
    for place, word in enumerate(words):
        after = words[place + 1] if place + 1 < len(words) else ""
        flag, joined, value = word.partition("=")
        if _spelled(flag) in flags:
            found = value if joined else after
    return found
