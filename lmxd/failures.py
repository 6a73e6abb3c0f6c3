"""The codes of an instance's failure: each one that there is, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class FailureCode(StrEnum):
    """The stable code of why an instance ended, or never came to serve."""

    EXITED = "exited"
    """The engine ended by itself, and its log says nothing that lmxd knows."""
    CRASHED = "crashed"
    """The engine died of a signal, such as SIGSEGV or SIGILL."""
    KILLED = "killed"
    """The engine died of SIGKILL, sent by the kernel for want of memory or by somebody."""
    OOM_KILLED = "oom_killed"
    """The kernel ended the engine, as it took more RAM than `memory_max_gb` allows."""
    OUT_OF_MEMORY = "out_of_memory"
    """The engine got less memory than it asked for, and gave up."""
    BAD_FLAG = "bad_flag"
    """The engine does not understand its command line."""
    BAD_MODEL = "bad_model"
    """The engine cannot load the model file."""
    BAD_COMPANION = "bad_companion"
    """The engine cannot use what goes beside the model: its projector, an adapter, a draft, a template or a grammar."""
    BAD_CONTEXT = "bad_context"
    """The engine cannot set up the context."""
    DISTURBED = "disturbed"
    """The engine measured its device while others freed memory there, and gave up; it is started again once."""
    ENGINE_DIED = "engine_died"
    """One of the engine's processes died, and the others gave up."""
    ENGINE_BROKEN = "engine_broken"
    """The engine's own environment lacks a module or library that it, or this model, needs."""
    ENDPOINT_IN_USE = "endpoint_in_use"
    """The engine cannot listen on its endpoint."""
    ENDPOINT_TAKEN = "endpoint_taken"
    """Somebody else listens where the instance was to, or did: nothing is sent there."""
    MISPLACED = "misplaced"
    """The engine came up elsewhere than it was admitted, on the CPU for example."""
    LOAD_TIMEOUT = "load_timeout"
    """The engine was not ready within `load_timeout`."""
    SLEEPLESS = "sleepless"
    """The engine did not fall asleep as it was told, or did not wake."""
    SPAWN_FAILED = "spawn_failed"
    """The process of the engine could not be started."""
    LOST = "lost"
    """The instance did not outlast a restart of lmxd."""
    INTERNAL = "internal"
    """lmxd itself failed at the instance."""


_USUAL: Final = "mend what its log says (lmxctl logs)"
_REMEDIES: Final[Mapping[str, str]] = {
    **dict.fromkeys(FailureCode, _USUAL),
    FailureCode.OUT_OF_MEMORY: "lower context_length, slots or batches of its profile, or raise estimated_memory_gb",
    FailureCode.OOM_KILLED: "raise memory_max_gb of its profile",
    FailureCode.BAD_FLAG: "mend the flags of its profile",
    FailureCode.BAD_MODEL: "fetch the model again, or take an engine that knows it",
    FailureCode.BAD_COMPANION: "mend the files that its profile names beside the model",
    FailureCode.BAD_CONTEXT: "lower context_length of its profile",
    FailureCode.ENGINE_BROKEN: "install what is missing into the environment of the engine",
    FailureCode.DISTURBED: "ask again",
    FailureCode.LOAD_TIMEOUT: "raise load_timeout of its profile",
}


def remedy_of(code: str) -> str:
    """The remedy for a failure; empty for a code of another kind, whose sentence has its own."""
    return _REMEDIES.get(code, "")
