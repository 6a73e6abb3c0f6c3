"""Any other server as an ``Engine``: its command line from a template, readiness by a URL, activity by connections."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from typing import Final

from lmxd.engines import python_log
from lmxd.engines.connections import on_port
from lmxd.engines.engine import Activity, Address, Command, Diagnosis, Endpoint, Plan
from lmxd.engines.environment import OF_GPUS
from lmxd.engines.http import get
from lmxd.engines.launching import free_port, free_socket, new_key, temporary, whose
from lmxd.engines.llama_cpp.log import diagnose
from lmxd.engines.signs_of_life import last_part
from lmxd.engines.silence import Silences
from lmxd.engines.templates import places
from lmxd.engines.visibility import natively
from lmxd.errors import LmxdError
from lmxd.failures import FailureCode

_PASSED_ON = {
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "HF_HOME",
    "XDG_CACHE_HOME",
    "VIRTUAL_ENV",
} | OF_GPUS
_MOST = 0.99
"""The largest part of a device that is ever named: an engine that is told all of it leaves nothing for its context."""
_NO_WRAPPER: Final = re.compile("(?!)")
_REASONS: Final = (
    (FailureCode.OUT_OF_MEMORY, re.compile("out of memory|OutOfMemoryError|^MemoryError|[Cc]annot allocate memory")),
    (FailureCode.BAD_FLAG, re.compile("^error: ")),
    (FailureCode.ENDPOINT_IN_USE, re.compile("[Aa]ddress already in use")),
)
_SENTENCES: Final = {
    FailureCode.OUT_OF_MEMORY: "the engine ran out of memory",
    FailureCode.BAD_FLAG: "the engine did not understand its command line",
    FailureCode.ENDPOINT_IN_USE: "the engine could not listen on its endpoint",
}


class CommandEngine:
    """Any other server as an engine."""

    def __init__(self) -> None:
        self._silences = Silences()

    def require(self) -> None:
        """Its program is found when it starts: only its user knows of it."""

    def command(self, plan: Plan) -> Command:
        key, key_file = new_key(plan)
        on_unix = "socket" in places(*plan.command, *plan.env.values())
        where = free_socket(plan) if on_unix else None
        port = None if on_unix else free_port()
        values = {
            "port": port,
            "socket": where,
            "device": ",".join(plan.gpu_ids) or "cpu",
            **_fractions(plan),
            "memory_mb": plan.size // 2**20,
            "model": plan.model or "",
            "ctx": plan.launch.context,
            "slots": plan.launch.slots,
            "name": plan.profile,
            "key_file": key_file,
        }
        own = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        said = {name: word.format(key=key, **values) for name, word in plan.env.items()}
        env = own | temporary(plan) | said | _shown(plan) | whose(plan)
        argv = tuple(word.format(**values) for word in plan.command)
        address = Address(key_file=key_file, socket=where, port=port, health=plan.health)
        return Command(argv=argv, env=env, key=key, address=address)

    async def ready(self, endpoint: Endpoint) -> bool:
        status, _ = await get(endpoint, endpoint.health)
        return status == 200

    async def activity(self, endpoint: Endpoint) -> Activity | None:
        """A client that is connected may be waiting for an answer, no other can be. The kernel knows who has asked."""
        if endpoint.socket is not None:
            found = await asyncio.to_thread(self._silences.at_work, endpoint.socket)
            return Activity(busy=found > 0, work=0.0, processing=found, guessed=True)
        there = await asyncio.to_thread(on_port, int(endpoint.url.rpartition(":")[2]))
        seen = [traffic for traffic in there if traffic.is_work]
        answered = any(traffic.is_answered for traffic in seen)
        return Activity(busy=bool(seen), work=0.0, processing=len(seen), guessed=not answered)

    async def save(self, endpoint: Endpoint, slots: int) -> bool:
        return False

    async def restore(self, endpoint: Endpoint, slots: int) -> bool:
        return False

    def misplaced(self, plan: Plan, log: Sequence[str]) -> str | None:
        return None

    def buffers(self, plan: Plan, log: Sequence[str]) -> float:
        return 0.0

    def diagnose(self, plan: Plan, status: int | None, log: Sequence[str]) -> Diagnosis:
        """As for llama-server; and most others are in Python, whose stack ends with the cause."""
        lines = last_part(log)
        found = diagnose(status, lines)
        if found.code is FailureCode.EXITED and any(python_log.causes(lines)):
            return python_log.diagnose(status, lines, _REASONS, _SENTENCES, _NO_WRAPPER)
        return found


def _fractions(plan: Plan) -> dict[str, str]:
    """The same bytes as engines want them said: of the device, of what is free of it, and beside what is used of it."""
    parts = {
        "memory_fraction": plan.size / plan.capacity,
        "memory_fraction_of_free": plan.size / max(1, plan.capacity - plan.used),
        "memory_fraction_with_used": (plan.used + plan.size) / plan.capacity,
    }
    return {name: f"{min(_MOST, part):.4f}" for name, part in parts.items()}


def _shown(plan: Plan) -> dict[str, str]:
    """The variables that show it its GPUs. LmxdError if there are none for these."""
    if (found := natively(plan.gpus)) is None:
        names = ", ".join(plan.gpu_ids)
        remedy = "let the engine's user open /dev/kfd and /dev/dri, or choose another device"
        raise LmxdError("engine_missing", f"{plan.profile} cannot be told to use {names} alone", remedy)
    return found
