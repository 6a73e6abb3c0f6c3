"""Reads llama-server's log: the buffers it says it has, and why it gave up.

Wordings move between builds, so the patterns are loose, and an exit that none of them
explains is still a failure (tests/engines/logs holds real ones).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from lmxd.engines.engine import Diagnosis
from lmxd.failures import FailureCode

_BUFFER = re.compile(r"(\S+) +(?:model|KV|RS|compute|output) buffer size = +([\d.]+) MiB")

_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")

_REASONS: tuple[tuple[FailureCode, re.Pattern[str]], ...] = (
    (
        FailureCode.OUT_OF_MEMORY,
        re.compile(
            r"out of memory|failed to allocate|unable to allocate|cannot allocate memory|bad_alloc"
            r"|ErrorOutOfDeviceMemory|failed to reserve compute",
            re.IGNORECASE,
        ),
    ),
    (
        FailureCode.BAD_FLAG,
        re.compile(r"^error: |invalid argument: |error while handling argument|unknown argument", re.MULTILINE),
    ),
    (
        FailureCode.BAD_MODEL,
        re.compile(
            r"error loading model|failed to load model|unknown model architecture|invalid magic|is not within the file"
            r"|failed to read|gguf_init|wrong number of tensors|missing tensor",
            re.IGNORECASE,
        ),
    ),
    (FailureCode.ENDPOINT_IN_USE, re.compile(r"couldn't bind|could not bind|address already in use", re.IGNORECASE)),
    (FailureCode.BAD_CONTEXT, re.compile(r"failed to create.context|failed to initialize the context", re.IGNORECASE)),
)
_SENTENCES = {
    FailureCode.OUT_OF_MEMORY: "the engine ran out of memory",
    FailureCode.BAD_FLAG: "the engine did not understand its command line",
    FailureCode.BAD_MODEL: "the engine could not load the model file",
    FailureCode.ENDPOINT_IN_USE: "the engine could not listen on its endpoint",
    FailureCode.BAD_CONTEXT: "the engine could not set up the context",
}
_PREFIX = re.compile(r"^\d+\.\d+\.\d+\.\d+ [A-Z] ")


def buffers(log: Sequence[str]) -> dict[str, float]:
    """MiB by the backend's name for the place, all kinds of buffers summed."""
    sizes: dict[str, float] = {}
    for line in log:
        if match := _BUFFER.search(line):
            sizes[match[1]] = sizes.get(match[1], 0.0) + float(match[2])
    return sizes


def offloaded(log: Sequence[str]) -> tuple[int, int] | None:
    """(layers on GPUs, all layers) as the log says it last; None if it does not."""
    found = [match for line in log if (match := _OFFLOADED.search(line))]
    return (int(found[-1][1]), int(found[-1][2])) if found else None


def diagnose(status: int | None, log: Sequence[str]) -> Diagnosis:
    """The first reason in the log that is known, with the line that says so; else what the status tells."""
    errors = [_PREFIX.sub("", line) for line in log if " E " in line or line.startswith("error") or "terminate" in line]
    text = "\n".join(errors) or "\n".join(log)
    for code, pattern in _REASONS:
        if match := pattern.search(text):
            line = text[: match.end()].count("\n")
            return Diagnosis(code=code, message=f"{_SENTENCES[code]}: {text.splitlines()[line].strip()}")
    if status == -signal.SIGKILL:
        return Diagnosis(
            code=FailureCode.KILLED, message="the engine was killed, by the kernel for want of memory or by somebody"
        )
    if status == -signal.SIGILL:
        message = "the engine has instructions that this processor lacks (SIGILL): take another build"
        return Diagnosis(code=FailureCode.CRASHED, message=message)
    if status is not None and status < 0:
        return Diagnosis(code=FailureCode.CRASHED, message=f"the engine crashed ({signal.Signals(-status).name})")
    said = errors[-1].strip() if errors else "its log does not say why"
    return Diagnosis(code=FailureCode.EXITED, message=f"the engine exited with status {status}: {said}")
