"""Reads llama-server's log: the buffers it says it has, and why it gave up.

Wordings move between builds, so the patterns of failures are loose, and an exit that none of them
explains is still a failure (tests/engines/logs holds real ones). Those of figures are whole lines. What the
model itself says (model_text.py) counts neither for figures nor for reasons.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lmxd.engines.ends import by_signal
from lmxd.engines.engine import Diagnosis
from lmxd.engines.llama_cpp.model_text import said
from lmxd.errors import LmxdError
from lmxd.estimate.files import read_model
from lmxd.failures import FailureCode

STAMP: Final = r"^(?:\d[\d.]* [A-Z] )?"
"""The beginning of a line: the time and the level, in builds that print them."""
_BUFFER: Final = re.compile(
    STAMP + r"\w+: +(\w+) +(?:model|KV|RS|compute|output) buffer size = +(\d{1,9}(?:\.\d+)?) MiB$", re.ASCII
)
_OFFLOADED: Final = re.compile(STAMP + r"\w+: offloaded (\d{1,6})/(\d{1,6}) layers to GPU$", re.ASCII)
_USING: Final = re.compile(
    STAMP + r"\w+: using device \w+ \(.*\) \(([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\) - \d+ MiB free$", re.ASCII
)
_SLOTS: Final = re.compile(STAMP + r"\w+ +\w+: initializing.* n_slots = ", re.ASCII)
"""Everything is allocated by then. What follows is of templates, which can print whatever they like, and of clients."""
_SERVES: Final = re.compile(STAMP + r"(?:main|srv +\w+): (?:model loaded|all slots are idle)$", re.ASCII)
"""It got over all that it said before, such as memory that it did not get and did without."""
_FIGURES: Final = ("buffer size", "offloaded ", "n_slots")
"""Phrases of these lines. A file that says one of them is no file to learn from."""

_FATAL: Final = re.compile(
    STAMP + r"(?:CUDA error: out of memory|terminate called after throwing an instance of 'std::bad_alloc')$", re.ASCII
)
"""The last words of ggml and of the C++ library, before they abort the process."""

_REASONS: tuple[tuple[FailureCode, re.Pattern[str]], ...] = (
    (
        FailureCode.OUT_OF_MEMORY,
        re.compile(
            r"out of memory|failed to allocate|unable to allocate|cannot allocate memory|bad_alloc"
            r"|ErrorOutOfDeviceMemory|failed to reserve compute",
            re.IGNORECASE | re.ASCII,
        ),
    ),
    (
        FailureCode.BAD_COMPANION,
        re.compile(
            r"failed to apply lora adapter|failed to load lora adapter|mismatch between text model|wrong mmproj"
            r"|failed to load multimodal model|failed to load draft model|the supplied chat template is not supported"
            r"|chat template parsing error|failed to parse grammar",
            re.IGNORECASE | re.ASCII,
        ),
    ),
    (
        FailureCode.BAD_FLAG,
        re.compile(
            r"^error: |invalid argument: |error while handling argument|unknown argument", re.MULTILINE | re.ASCII
        ),
    ),
    (
        FailureCode.BAD_MODEL,
        re.compile(
            r"error loading model|failed to load model|unknown model architecture|invalid magic|is not within the file"
            r"|failed to read|gguf_init|wrong number of tensors|missing tensor",
            re.IGNORECASE | re.ASCII,
        ),
    ),
    (
        FailureCode.ENDPOINT_IN_USE,
        re.compile(r"couldn't bind|could not bind|address already in use", re.IGNORECASE | re.ASCII),
    ),
    (
        FailureCode.BAD_CONTEXT,
        re.compile(r"failed to create[ _]context|failed to initialize the context", re.IGNORECASE | re.ASCII),
    ),
)
_SENTENCES = {
    FailureCode.OUT_OF_MEMORY: "the engine ran out of memory",
    FailureCode.BAD_COMPANION: "the engine could not use what goes beside the model",
    FailureCode.BAD_FLAG: "the engine did not understand its command line",
    FailureCode.BAD_MODEL: "the engine could not load the model file",
    FailureCode.ENDPOINT_IN_USE: "the engine could not listen on its endpoint",
    FailureCode.BAD_CONTEXT: "the engine could not set up the context",
}
ERROR: Final = re.compile(r"^\d[\d.]* E |(?=error|terminate)", re.ASCII)
"""The beginning of an error, and of the last words of a process."""


def buffers(log: Sequence[str], model: Path | None = None) -> dict[str, float]:
    """MiB by the backend's name for the place, all kinds of buffers summed. Empty if the model may have said so."""
    sizes: dict[str, float] = {}
    for match in _figures(_BUFFER, log, model):
        sizes[match[1]] = sizes.get(match[1], 0.0) + float(match[2])
    return sizes


def addresses(log: Sequence[str]) -> list[str]:
    """PCI addresses of the devices that it says it uses; empty if it does not say them."""
    return [match[1] for line in log if (match := _USING.match(line))]


def offloaded(log: Sequence[str], model: Path | None = None) -> tuple[int, int] | None:
    """(layers on GPUs, all layers) as the log says it last; None if it does not, or the model may have said so."""
    found = list(_figures(_OFFLOADED, log, model))
    return (int(found[-1][1]), int(found[-1][2])) if found else None


def _figures(pattern: re.Pattern[str], log: Sequence[str], model: Path | None) -> Iterator[re.Match[str]]:
    if said(model, _FIGURES):
        return
    for line in log:
        if _SLOTS.match(line):
            return
        if match := pattern.match(line):
            yield match


def diagnose(status: int | None, log: Sequence[str], model: Path | None = None) -> Diagnosis:
    """The first reason in the log that is known, with the line that says so; else what the status tells.

    A model's template can compute any line, and does from the slots on. Then only the last words of a process that
    aborted are believed; a template's own error ends it with a status.
    """
    errors = _errors(log)
    believed = _believed(status, log, model)
    text = "\n".join(_errors(believed) or believed)
    found = [(code, match) for code, pattern in _REASONS for match in pattern.finditer(text)]
    doubtful = said(model, (match[0] for _, match in found))
    for code, match in found:
        if match[0] not in doubtful:
            line = text[: match.end()].count("\n")
            return Diagnosis(code=code, message=f"{_SENTENCES[code]}: {text.split(chr(10))[line].strip()}")
    if (ended := by_signal(status)) is not None:
        return ended
    if not errors and (problem := _unreadable(model)):
        return Diagnosis(code=FailureCode.BAD_MODEL, message=f"{_SENTENCES[FailureCode.BAD_MODEL]}: {problem}")
    last = errors[-1].strip() if errors else "its log does not say why"
    return Diagnosis(code=FailureCode.EXITED, message=f"the engine exited with status {status}: {last}")


def _unreadable(model: Path | None) -> str:
    """The problem of a model file; empty if there is none.

    llama-server's log has a thread of its own, which may not have written yet when the process exits.
    """
    try:
        if model is not None:
            read_model(model)
    except LmxdError as error:
        return error.message
    return ""


def _errors(log: Sequence[str]) -> list[str]:
    return [ERROR.sub("", line, 1) for line in log if ERROR.match(line)]


def _believed(status: int | None, log: Sequence[str], model: Path | None) -> Sequence[str]:
    slots = next((n for n, line in enumerate(log) if _SLOTS.match(line)), None)
    if model is None or slots is None:
        return log
    loading = [] if any(_SERVES.match(line) for line in log[slots:]) else log[:slots]
    return [*loading, *(line for line in log[slots:] if status == -signal.SIGABRT and _FATAL.match(line))]
