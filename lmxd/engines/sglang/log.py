"""Reads SGLang's log: why it gave up. The texts are those of the sources of 0.5.23."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lmxd.engines import python_log
from lmxd.engines.engine import Diagnosis
from lmxd.engines.signs_of_life import last_part
from lmxd.failures import FailureCode

_WRAPPERS: Final = re.compile("Rank 0 scheduler is dead|Initialization failed|Scheduler hit an exception")
_REASONS: Final = tuple(
    (code, re.compile(pattern, re.ASCII))
    for code, pattern in (
        (
            FailureCode.OUT_OF_MEMORY,
            "Not enough memory. Please try to increase|Loaded weights leave no GPU memory|out of memory"
            "|OutOfMemoryError|^MemoryError|The memory capacity is unbalanced",
        ),
        (FailureCode.BAD_CONTEXT, "is greater than the derived context_length"),
        (FailureCode.BAD_FLAG, "^error: |Unsupported config option"),
        (
            FailureCode.BAD_MODEL,
            "HFValidationError|LocalEntryNotFoundError|OfflineModeIsEnabled|SafetensorError|[Uu]nrecognized model"
            "|does not recognize this architecture|Cannot find any model weights|[Cc]an't load (?:the )?(?:token|conf)"
            "|Model architectures .* are not supported|[Uu]nknown quantization|does not appear to have a file named",
        ),
        (FailureCode.ENDPOINT_IN_USE, "[Aa]ddress already in use"),
    )
)
_SENTENCES: Final = {
    FailureCode.OUT_OF_MEMORY: "the engine ran out of memory",
    FailureCode.BAD_CONTEXT: "the engine could not set up the context",
    FailureCode.BAD_FLAG: "the engine did not understand its command line",
    FailureCode.BAD_MODEL: "the engine could not load the model",
    FailureCode.ENDPOINT_IN_USE: "the engine could not listen on its endpoint",
}
_DIED: Final = "Received sigquit from a child process"


def diagnose(status: int | None, log: Sequence[str]) -> Diagnosis:
    """The reason why SGLang ended with ``status``. A child that fails ends the whole with SIGKILL."""
    lines = last_part(log)
    found = python_log.diagnose(status, lines, _REASONS, _SENTENCES, _WRAPPERS)
    by_itself = found.code in (FailureCode.EXITED, FailureCode.KILLED)
    if not (by_itself and any(_DIED in line for line in lines)):
        return found
    cause = next(
        (cause for cause in python_log.causes(lines) if not _WRAPPERS.search(cause)), "its log does not say why"
    )
    return Diagnosis(code=FailureCode.ENGINE_DIED, message=f"a process of the engine died: {cause[:300]}")
