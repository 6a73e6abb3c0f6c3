"""The trace of bench/elastic.py: agents whose conversations follow a heavy tail, the same for the same seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

MEDIAN, LARGE, ONE_IN = 1500, 16_000, 10
"""Tokens of a conversation: the median, and what one in ``ONE_IN`` exceeds."""
SIGMA = math.log(LARGE / MEDIAN) / NormalDist().inv_cdf(1 - 1 / ONE_IN)
"""Of the lognormal distribution that has both."""
LEAST, MOST = 200, 800
"""Tokens that a turn adds to a prompt."""
ANSWER, TOP = 128, 32_768
WORDS = range(300, 1200)
"""Token ids without a special one, in SmolLM2's vocabulary and in that of synthetic models."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Everything in tokens is divided by ``by``, so that shares of the context stay as they are."""

    by: int = 1

    def of(self, tokens: int) -> int:
        return max(1, tokens // self.by)

    @property
    def answer(self) -> int:
        return self.of(ANSWER)

    @property
    def top(self) -> int:
        return self.of(TOP)


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds that the agent works before it, and the tokens that it adds to the conversation."""

    pause: float
    words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation. Every request has all of it so far, and each answer has just ``answer`` tokens."""

    agent: int
    turns: tuple[Turn, ...]
    answer: int

    @property
    def tokens(self) -> int:
        """Of the context that it needs in the end."""
        return sum(len(turn.words) + self.answer for turn in self.turns)

    def steps(self, steps: Sequence[int]) -> int:
        """How many of ascending ``steps`` of a context it outgrows."""
        return sum(self.tokens > step for step in steps)


@dataclass(frozen=True, slots=True)
class Trace:
    """What each agent says, one conversation after the other."""

    agents: tuple[tuple[Talk, ...], ...]

    def __iter__(self) -> Iterator[Talk]:
        return (talk for talks in self.agents for talk in talks)

    @property
    def answers(self) -> int:
        return sum(len(talk.turns) for talk in self)


def trace(seed: int, agents: int, talks: int, scale: Scale, *, pause: float = 0.0, above: float = 0.0) -> Trace:
    """So many ``talks`` of each of ``agents``, whose pauses are ``pause`` seconds in the mean.

    Sizes are drawn one from each of as many strata as there are conversations, so that a short trace has its share
    of large ones, too. ``above``: only of the sizes that this part of all conversations does not reach.
    """
    chance = random.Random(seed)
    count = agents * talks
    sizes = [size_at(above + (1 - above) * (n + chance.random()) / count) for n in range(count)]
    chance.shuffle(sizes)
    said = [_talk(chance, n % agents, sizes[n], scale, pause) for n in range(count)]
    return Trace(tuple(tuple(said[n::agents]) for n in range(agents)))


def size_at(part: float) -> int:
    """Tokens that this part of all conversations does not exceed; none has more than ``TOP``."""
    least = min(max(part, 1e-9), 1 - 1e-9)
    return min(TOP, round(MEDIAN * math.exp(SIGMA * NormalDist().inv_cdf(least))))


def _talk(chance: random.Random, agent: int, size: int, scale: Scale, pause: float) -> Talk:
    """Turns until the next one would exceed ``size`` tokens; at least one."""
    turns: list[Turn] = []
    left = scale.of(size)
    least, most, answer = scale.of(LEAST), scale.of(MOST), scale.answer
    while not turns or left >= least + answer:
        count = min(chance.randint(least, most), max(least, left - answer))
        turns.append(Turn(chance.expovariate(1 / pause) if pause else 0.0, tuple(chance.choices(WORDS, k=count))))
        left -= count + answer
    return Talk(agent, tuple(turns), answer)
