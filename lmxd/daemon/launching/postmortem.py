"""The reason why an instance ended, from its exit status and its log."""

from __future__ import annotations

import asyncio
from typing import Final

from lmxd.core.words import Failure
from lmxd.daemon.launching.launched import Launched
from lmxd.failures import FailureCode
from lmxd.instances.logs import head, tail

_LAST_WORDS: Final = 20
"""Lines of the log that a failure carries: about a screen."""

_TAIL: Final = 200
"""Lines at the end of its log that may say why it ended, once it had served."""


async def postmortem(launched: Launched, status: int | None) -> Failure:
    """The failure of an instance that ended with ``status`` by itself."""
    if launched.process is not None and launched.process.out_of_memory:
        message = "the kernel ended it: it took more RAM than memory_max_gb allows"
        return Failure(code=FailureCode.OOM_KILLED, message=message, log=last_words(launched))
    lines = head(launched.log.path)
    if launched.ready_at is not None:
        lines += tail(launched.log.path, _TAIL)
    last = last_words(launched)  # now: once it has ended, its log may be removed
    found = await asyncio.to_thread(launched.engine.diagnose, launched.plan, status, lines)
    return Failure(code=found.code, message=found.message, log=last)


def last_words(launched: Launched) -> tuple[str, ...]:
    """The last lines of its log."""
    return tuple(tail(launched.log.path, _LAST_WORDS))
