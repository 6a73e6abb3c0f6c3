"""The answer to each flag of llama-server: a profile may add it, has a key for it, or is refused it with the reason."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lmxd.engines.llama_cpp import flag_table as table
from lmxd.engines.llama_cpp.flag_table import RefusedFlags
from lmxd.engines.llama_cpp.flag_values import KINDS
from lmxd.text import shortened

_NEGATIVE: Final = re.compile("-[0-9.]")
_NEAR: Final = 0.85
"""Likeness from which a word is taken for a misspelled flag."""
_SHOWN: Final = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """One spelling of a flag: how many words follow it, of which kind, and whether a profile may add it.

    ``kind``: what a value must be; a text by default. ``choices``: the values that there are, if they are few.
    """

    arity: int = 0
    kind: str = "text"
    choices: tuple[str, ...] = ()
    key: str = ""
    refusal: RefusedFlags | None = None

    @property
    def allowed(self) -> bool:
        return not self.key and self.refusal is None


@dataclass(frozen=True, slots=True)
class Given:
    """A flag of a command line by its name, with the values that follow it. ``joined``: by = in the same word."""

    name: str
    values: tuple[str, ...]
    joined: bool = False
    stray: bool = False

    @property
    def value(self) -> str:
        return " ".join(self.values)


def _allowed() -> Iterator[tuple[str, Flag]]:
    yield from ((name, Flag()) for name in table.SWITCHES.split())
    for kind, names in table.VALUES.items():
        yield from ((name, Flag(arity=1, kind=kind)) for name in names.split())
    for names, choices in table.CHOICES.items():
        yield from ((name, Flag(arity=1, choices=tuple(choices.split()))) for name in names.split())


def _others() -> Iterator[tuple[str, Flag]]:
    for name, (key, _) in SWITCH_KEYS.items():
        yield name, Flag(key=key)
    for name, key in KEYS.items():
        yield name, Flag(arity=1, key=key)
    for name, key in DRAFT_KEYS.items():
        yield name, Flag(arity=1, key=f"draft.{key}")
    for refusal in table.REFUSALS:
        yield from ((name, Flag(refusal=refusal)) for name in refusal.switches.split())
        for name in refusal.valued.split():
            yield name, Flag(arity=2 if name in table.PAIRS else 1, refusal=refusal)


KEYS: Final = {name: key for key, names in table.KEYS.items() for name in names.split()}
"""Flag with a value -> the key of a profile that says it."""
DRAFT_KEYS: Final = {name: key for key, names in table.DRAFT_KEYS.items() for name in names.split()}
"""The same of the keys of ``draft``."""
SWITCH_KEYS: Final[dict[str, tuple[str, bool | str]]] = {
    name: (key, value) for key, value, names in table.SWITCH_KEYS for name in names.split()
}
"""Switch -> the key of a profile and its value that say it."""
ALLOWED: Final = dict(_allowed())
"""The flags that a profile may add."""
FLAGS: Final = ALLOWED | dict(_others())
"""All flags that are known, by each of their names."""


def given(words: Sequence[str]) -> Iterator[Given]:
    """The flags of a command line with their values. A word that is neither is a ``stray`` one.

    Known flags take their values, but never another known flag; of unknown ones, a word that is no flag is the value.
    """
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        name, joined, value = word.partition("=")
        if not word.startswith("-"):
            yield Given(word, (), stray=True)
            continue
        name = canonical(name)
        if joined:
            yield Given(name, (value,), joined=True)
            continue
        flag, values = FLAGS.get(name), list[str]()
        while rest and len(values) < (1 if flag is None else flag.arity) and _is_value(rest[-1], flag):
            values.append(rest.pop())
        yield Given(name, tuple(values))


def canonical(name: str) -> str:
    """The name as llama-server reads it: _ in a long one is -."""
    return name.replace("_", "-") if name.startswith("--") else name


def _is_value(word: str, flag: Flag | None) -> bool:
    if canonical(word.partition("=")[0]) in FLAGS:
        return False
    return not word.startswith("-") or _NEGATIVE.match(word) is not None or (flag is not None and flag.allowed)


def problems(words: Sequence[str]) -> list[str]:
    """The faults of a profile's extra flags, one sentence each; none if they may be passed on."""
    found, before = [], ""
    for item in given(words):
        if (problem := problem_of(item, before)) is not None:
            found.append(problem)
        elif item.name not in words:
            found.append(f"{item.name}: write it so, with - in place of _")
        before = item.name
    return found


def problem_of(item: Given, before: str = "") -> str | None:
    """The fault of a flag as it is given to a profile; None if it may be added. ``before``: the flag before it."""
    if item.stray:
        return f"{shortened(item.name, _SHOWN)!r} is no flag, and no value of {before or 'one'}"
    flag = ALLOWED.get(item.name)
    if flag is None:
        return why_not(item.name)
    if item.joined:
        return f"{item.name}=…: write the flag and its value as two items" if flag.arity else _switch(item.name)
    if len(item.values) < flag.arity:
        return f"{item.name} needs a value"
    return f"{item.name} {wrong}" if flag.arity and (wrong := _wrong(flag, item.value)) else None


def _switch(name: str) -> str:
    return f"{name} is a switch: write it without a value"


def _wrong(flag: Flag, value: str) -> str | None:
    """The fault of the value of a flag; None if it may be one."""
    if flag.choices:
        return None if value in flag.choices else f"is {_shown(value)}: possible are {', '.join(flag.choices)}"
    fits, what = KINDS[flag.kind]
    return None if fits(value) else f"is {_shown(value)}, which is no {what}"


def _shown(value: str) -> str:
    return repr(shortened(value, _SHOWN))


def why_not(name: str) -> str:
    """Why a profile may not add a flag that is not among those allowed, and what to do instead."""
    flag = FLAGS.get(name)
    if flag is not None and flag.key:
        return f"{name} is refused: use the key {flag.key} instead{_as_key(name)}"
    if flag is not None and flag.refusal is not None:
        return f"{name} is refused: {flag.refusal.why}{f'; {flag.refusal.remedy}' if flag.refusal.remedy else ''}"
    return f"{shortened(name, _SHOWN)!r} is not a flag that a profile may add{_hint(name)}"


def _as_key(name: str) -> str:
    """A switch as its key and value."""
    if name not in SWITCH_KEYS:
        return ""
    key, value = SWITCH_KEYS[name]
    return f" ({key}: {str(value).lower()})"


def _hint(name: str) -> str:
    """The flag that may have been meant; else why one that is not known is refused."""
    usable = [known for known, flag in FLAGS.items() if flag.refusal is None]
    if not (near := difflib.get_close_matches(name[:_SHOWN], usable, n=1, cutoff=_NEAR)):
        return ": nobody knows what it does to memory and safety"
    key = FLAGS[near[0]].key
    return f" (did you mean {near[0]}{f', which is the key {key}' if key else ''}?)"


def computes_all_outputs(words: Sequence[str]) -> bool:
    """Embedding and reranking servers need an output for each token, which takes more memory."""
    return any(word in ("--embedding", "--embeddings", "--rerank", "--reranking") for word in words)


def stretches_context(words: Sequence[str]) -> bool:
    """Returns whether the profile scales positions, so that a context beyond the trained one is meant."""
    return any(word.startswith(("--rope-scal", "--yarn-")) for word in words)
