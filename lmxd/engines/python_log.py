"""Reads the logs of servers in Python: the errors in them that are causes, without the stack above them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from lmxd.engines.ends import by_signal
from lmxd.engines.engine import Diagnosis
from lmxd.engines.signs_of_life import last_part
from lmxd.failures import FailureCode
from lmxd.text import shortened

_PREFIX: Final = re.compile(
    r"^(?:\([\w.-]+(?: pid=\d+)?\) )?(?:(?:ERROR|CRITICAL|WARNING|INFO) [\d-]{5,10} [\d:.,]{8,15} )?"
    r"(?:\[[\w./]+:\d+\] ?)?",
    re.ASCII,
)
"""The process, the level, the time and the place, as vLLM begins its lines."""
_RAISED: Final = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception)): (\S.*)$", re.ASCII)
_USAGE: Final = re.compile(r"^[\w. -]{1,80}: (error: .*)$", re.ASCII)
_OF_NATIVE_CODE: Final = re.compile(r"^(?:terminate called after .*|.*std::bad_alloc.*)$", re.ASCII)
_VALIDATED: Final = re.compile(r"^\d+ validation errors? for ", re.ASCII)
_DETAIL: Final = re.compile(r" \[type=\w+, .*$", re.ASCII)
_LONGEST: Final = 300
"""Characters of a cause in a failure's sentence."""
_MOST: Final = 64
"""Causes that are looked at, the last ones: a server that fails at each request may say thousands."""

_INCOMPLETE: Final = re.compile("^(?:ModuleNotFound|Import)Error: ", re.ASCII)
"""An environment that lacks something, which a model of another kind might not need."""

Reasons = Sequence[tuple[FailureCode, re.Pattern[str]]]


def causes(log: Sequence[str]) -> Iterator[str]:
    """The errors of a log, each with its type, in order; of those that a check of values found, what it found."""
    lines = [_PREFIX.sub("", line, 1) for line in log]
    for number, line in enumerate(lines):
        if (usage := _USAGE.match(line)) is not None:
            yield usage[1]
        elif (raised := _RAISED.match(line)) is not None:
            said = raised[2]
            if _VALIDATED.match(said) and (found := _found(lines[number + 1 : number + 4])):
                said = found
            yield f"{raised[1]}: {said}"
        elif _OF_NATIVE_CODE.match(line):
            yield line


def _found(lines: Sequence[str]) -> str:
    """The first line that is indented: the name of the value comes before it, if there is one."""
    return next((_DETAIL.sub("", line.strip(), 1) for line in lines if line.startswith("  ")), "")


def diagnose(
    status: int | None,
    log: Sequence[str],
    reasons: Reasons,
    sentences: Mapping[FailureCode, str],
    wrappers: re.Pattern[str],
) -> Diagnosis:
    """The first cause that is known since it last served; else the first of all since, else what the status tells.

    ``wrappers``: errors that only say that there was another one.
    """
    found = [cause for cause in list(causes(last_part(log)))[-_MOST:] if not wrappers.search(cause)]
    for cause in found:
        for code, pattern in reasons:
            if pattern.search(cause):
                return Diagnosis(code=code, message=f"{sentences[code]}: {shortened(cause, _LONGEST)}")
        if _INCOMPLETE.match(cause):
            said = f"the engine's environment lacks what it needs: {shortened(cause, _LONGEST)}"
            return Diagnosis(code=FailureCode.ENGINE_BROKEN, message=said)
    if (ended := by_signal(status)) is not None:
        return ended
    last = shortened(found[0], _LONGEST) if found else "its log does not say why"
    return Diagnosis(code=FailureCode.EXITED, message=f"the engine exited with status {status}: {last}")
