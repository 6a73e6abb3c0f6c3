"""The codes of an instance's failure: each one that there is, in a sentence."""

from __future__ import annotations

from enum import StrEnum


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
    ENDPOINT_IN_USE = "endpoint_in_use"
    """The engine cannot listen on its endpoint."""
    ENDPOINT_TAKEN = "endpoint_taken"
    """Somebody else listens where the instance was to, or did: nothing is sent there."""
    MISPLACED = "misplaced"
    """The engine came up elsewhere than it was admitted, on the CPU for example."""
    LOAD_TIMEOUT = "load_timeout"
    """The engine was not ready within `load_timeout`."""
    SPAWN_FAILED = "spawn_failed"
    """The process of the engine could not be started."""
    LOST = "lost"
    """The instance did not outlast a restart of lmxd."""
    INTERNAL = "internal"
    """lmxd itself failed at the instance."""
