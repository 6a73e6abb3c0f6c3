"""Reads the log of text-generation-launcher: why it gave up. The texts are those of the sources of 3.3.7."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lmxd.engines import python_log
from lmxd.engines.engine import Diagnosis
from lmxd.failures import FailureCode

_WRAPPERS: Final = re.compile("^Error: (?:ShardCannotStart|ShardFailed|ShardDisconnected|Webserver|Backend)")
_REASONS: Final = tuple(
    (code, re.compile(pattern, re.ASCII))
    for code, pattern in (
        (FailureCode.OUT_OF_MEMORY, "Not enough memory to handle|out of memory|OutOfMemoryError|NotEnoughMemory"),
        (FailureCode.BAD_CONTEXT, "`max_(?:input|total)_tokens`|max_position_embeddings"),
        (FailureCode.BAD_FLAG, "^error: |ArgumentValidation|NotEnoughCUDADevices"),
        (
            FailureCode.BAD_MODEL,
            "DownloadError|HFValidationError|LocalEntryNotFoundError|SafetensorError|[Uu]nrecognized model"
            "|NotImplemented|[Uu]nsupported model type|[Cc]an't load (?:the )?(?:token|conf)",
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
_COLORS: Final = re.compile(r"\x1b\[[0-9;]*m")
_BY_CLAP: Final = re.compile("^error: ")
"""The parser of a command line in Rust says no name of a program."""


def diagnose(status: int | None, log: Sequence[str]) -> Diagnosis:
    """The reason why the launcher ended with ``status``."""
    lines = [_BY_CLAP.sub("launcher: error: ", _COLORS.sub("", line)) for line in log]
    return python_log.diagnose(status, lines, _REASONS, _SENTENCES, _WRAPPERS)
