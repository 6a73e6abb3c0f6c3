"""The agents of bench/elastic.py: each says its conversations to a gateway, whole with every request."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from elastic_trace import Talk, Trace
from gateway_process import Gateway

PATIENCE = 900.0
"""Seconds for which an agent waits for an answer."""


@dataclass(slots=True)
class Answer:
    """The answer of one turn. ``asked``, ``first``, ``ended``: seconds of the run; ``computed``: of its prompt."""

    agent: int
    asked: float
    first: float = 0.0
    ended: float = 0.0
    tokens: list[int] = field(default_factory=list)
    computed: int = 0
    error: str = ""

    @property
    def waited(self) -> float:
        return self.first - self.asked


@dataclass(slots=True)
class Run:
    """What was answered, conversation by conversation, in the order of the trace; seconds that all of it took."""

    took: float
    talks: list[list[Answer]]

    @property
    def answers(self) -> list[Answer]:
        return [answer for talk in self.talks for answer in talk]

    @property
    def served(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.error]

    @property
    def errors(self) -> list[str]:
        return [answer.error for answer in self.answers if answer.error]

    @property
    def waits(self) -> list[float]:
        return sorted(answer.waited for answer in self.served)

    @property
    def at_once(self) -> int:
        """The most agents that got tokens at the same moment."""
        changes = sorted([(a.first, 1) for a in self.served] + [(a.ended, -1) for a in self.served])
        most = now = 0
        for _, change in changes:
            now += change
            most = max(most, now)
        return most


@dataclass(frozen=True, slots=True)
class Compared:
    """Two runs of one trace. ``equal`` of ``answers``, which both have; ``first``: where each other one differs."""

    answers: int
    equal: int
    talks: int
    equal_talks: int
    first: tuple[int, ...]


class Agents:
    """All of a trace, at one gateway. ``models``: the name that each agent asks for."""

    def __init__(self, trace: Trace, gateway: Gateway, models: Sequence[str]) -> None:
        self._trace, self._gateway, self._models = trace, gateway, models
        self._begun = time.monotonic()

    def run(self) -> Run:
        """Every agent has one conversation after the other, and all agents are at work at once."""
        self._begun = time.monotonic()
        start = threading.Barrier(len(self._trace.agents))

        def agent(talks: Sequence[Talk]) -> list[list[Answer]]:
            start.wait()
            return [self._held(talk) for talk in talks]

        with ThreadPoolExecutor(len(self._trace.agents)) as pool:
            said = list(pool.map(agent, self._trace.agents))
        return Run(self._now, [talk for talks in said for talk in talks])

    @property
    def _now(self) -> float:
        return time.monotonic() - self._begun

    def _held(self, talk: Talk) -> list[Answer]:
        """One conversation, until an answer fails."""
        so_far: list[int] = []
        found: list[Answer] = []
        for turn in talk.turns:
            time.sleep(turn.pause)
            so_far += turn.words
            answer = Answer(talk.agent, self._now)
            found.append(answer)
            try:
                self._ask(answer, so_far, talk.answer)
            except (OSError, ValueError) as error:
                answer.error = _said(error)
            answer.ended = self._now
            if not answer.error and len(answer.tokens) != talk.answer:
                answer.error = f"{len(answer.tokens)} tokens instead of {talk.answer}"
            if answer.error:
                break
            so_far += answer.tokens
        return found

    def _ask(self, answer: Answer, prompt: list[int], tokens: int) -> None:
        body = {
            "model": self._models[answer.agent],
            "prompt": prompt,
            "n_predict": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "return_tokens": True,
            "cache_prompt": True,
            "stream": True,
        }
        headers = {"Authorization": f"Bearer {self._gateway.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._gateway.url}/completion", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as lines:
            for line in lines:
                if not line.startswith(b"data: {"):
                    continue
                said = json.loads(line[6:])
                if "error" in said:
                    raise OSError(str(said["error"])[:200])
                if said.get("tokens"):
                    answer.first = answer.first or self._now
                    answer.tokens += said["tokens"]
                answer.computed = said.get("timings", {}).get("prompt_n", answer.computed)


def _said(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.read()[:200].decode(errors='replace')}"
    return f"{type(error).__name__} {error}"[:200]


def compared(one: Run, other: Run) -> Compared:
    """Token by token. A conversation goes on from its own answers: after one that differs, all that follow may."""
    pairs = [
        (a.tokens, b.tokens)
        for talk, same in zip(one.talks, other.talks, strict=True)
        for a, b in zip(talk, same, strict=False)
    ]
    differing = [
        next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        for a, b in pairs
        if a != b
    ]
    whole = sum(
        [a.tokens for a in talk] == [b.tokens for b in same] for talk, same in zip(one.talks, other.talks, strict=True)
    )
    return Compared(len(pairs), len(pairs) - len(differing), len(one.talks), whole, tuple(differing))
