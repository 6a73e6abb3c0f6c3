"""The steps of ``lmxd pull``: sentences for people, or a line of JSON for each, in the words of ollama's API."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lmxd.errors import LmxdError
from lmxd.terminal import say, say_over


class PullReport:
    """Says how far a model is fetched. ``for_programs``: as lines of JSON, on standard output."""

    def __init__(self, *, for_programs: bool) -> None:
        self.for_programs = for_programs

    def step(self, status: str, sentence: str = "") -> None:
        """A step, as a status for programs and a sentence for people, who need not hear of each."""
        if self.for_programs:
            _say(status=status)
        elif sentence:
            say(sentence, err=True)

    def moved(self, status: str, done: int, whole: int, digest: str | None = None) -> None:
        """Bytes that have come, of how many."""
        if self.for_programs:
            _say(status=status, **({"digest": digest} if digest else {}), total=whole, completed=min(done, whole))
        else:
            say_over(f"{done / 2**20:,.0f} of {whole / 2**20:,.0f} MiB", last=done >= whole)

    def done(self, sentence: str, by_hand: Mapping[str, Any] | None = None) -> None:
        """The model is there. ``by_hand``: the keys of a profile that was not written, which programs are told."""
        if self.for_programs:
            _say(status="success", **({"by_hand": by_hand} if by_hand else {}))
        else:
            say(sentence)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Have an LmxdError be the last line, for programs. It is raised for people, who are told as of any."""
        try:
            yield
        except LmxdError as error:
            if not self.for_programs:
                raise
            _say(error={"code": error.code, "message": error.message, "remedy": error.remedy})
            sys.exit(error.exit_status)


def _say(**what: object) -> None:
    say(json.dumps(what), whole=True)
