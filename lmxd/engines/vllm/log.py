"""Reads vLLM's log: why it gave up. tests/engines/vllm_logs holds real ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lmxd.engines import python_log
from lmxd.engines.engine import Diagnosis
from lmxd.failures import FailureCode

_WRAPPERS: Final = re.compile(
    "Engine core initialization failed|EngineCore failed to start|see root cause|WorkerProc initialization failed"
)
_REASONS: Final = tuple(
    (code, re.compile(pattern, re.ASCII))
    for code, pattern in (
        (FailureCode.DISTURBED, "Error in memory profiling"),
        (
            FailureCode.OUT_OF_MEMORY,
            "Free memory on device|Available memory on node|No available memory for the cache blocks"
            "|out of memory|OutOfMemoryError|^MemoryError|[Cc]annot allocate memory|can't allocate memory|bad_alloc",
        ),
        (
            FailureCode.BAD_CONTEXT,
            "To serve at least one request with|greater than the derived max_model_len|smaller than max_model_len",
        ),
        (
            FailureCode.BAD_FLAG,
            "^error: |not supported on current platform|invalid (?:tool call|reasoning) parser"
            "|[Pp]arser '.{1,64}' not found"
            "|must be divisible by tensor parallel size|must be greater than or equal to max_num_seqs",
        ),
        (
            FailureCode.BAD_MODEL,
            "HFValidationError|LocalEntryNotFoundError|OfflineModeIsEnabled|SafetensorError|[Ii]nvalid repository ID"
            "|[Mm]odel architectures .* (?:are not supported|failed to be inspected)"
            "|does not recognize this architecture"
            "|Cannot find any model weights|[Cc]an't load (?:the )?(?:tokenizer|config)"
            "|[Cc]ouldn't instantiate the backend"
            "|not a valid JSON|^JSONDecodeError: |is not a local folder|[Uu]nrecognized model"
            "|[Uu]nknown quantization|quantization method"
            "|Attempted to load weight|exceeds dimension size|no module or parameter named"
            "|weights were not initialized",
        ),
        (FailureCode.BAD_COMPANION, "[Tt]he supplied chat template"),
        (FailureCode.SPAWN_FAILED, r"ipc path .* is longer than \d+ characters"),
        (FailureCode.ENDPOINT_IN_USE, "[Aa]ddress already in use"),
        (FailureCode.ENGINE_DIED, "EngineDeadError|EngineCore (?:died|encountered)"),
    )
)
_SENTENCES: Final = {
    FailureCode.DISTURBED: "the engine measured its device while others freed memory there",
    FailureCode.OUT_OF_MEMORY: "the engine ran out of memory",
    FailureCode.BAD_CONTEXT: "the engine could not set up the context",
    FailureCode.BAD_FLAG: "the engine did not understand its command line",
    FailureCode.BAD_MODEL: "the engine could not load the model",
    FailureCode.BAD_COMPANION: "the engine could not use what goes beside the model",
    FailureCode.SPAWN_FAILED: "the engine's own sockets would have too long a path, choose a shorter --socket",
    FailureCode.ENDPOINT_IN_USE: "the engine could not listen on its endpoint",
    FailureCode.ENGINE_DIED: "a process of the engine died",
}


def diagnose(status: int | None, log: Sequence[str]) -> Diagnosis:
    """The reason why vLLM ended with ``status``."""
    return python_log.diagnose(status, log, _REASONS, _SENTENCES, _WRAPPERS)
