"""A plan turned into the command line of text-generation-launcher. Everything that decides about memory is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from lmxd.engines.engine import Address, Command, Plan
from lmxd.engines.environment import environment
from lmxd.engines.launching import free_port, new_key, temporary, temporary_path, whose
from lmxd.engines.metered import OFFLINE

_WIGGLE: Final = 0.99
"""The part of its fraction that it uses, by default 0.9: a tenth of what others use would be missing. 1 it refuses."""
_ALWAYS: Final = OFFLINE | {"TGI_WIGGLE_ROOM": str(_WIGGLE), "USAGE_STATS": "off"}


def command(program: Path, plan: Plan, shown: Mapping[str, str], own: Mapping[str, str] | None = None) -> Command:
    """Its command line, on a loopback port, for it has no Unix sockets. ``own``: variables as configured.

    Its key is a variable; the launcher itself writes it on the command line of its router, where every user of the
    machine can read it. LmxdError if the files cannot be written.
    """
    key, key_file = new_key(plan)
    port, shards = free_port(), temporary_path(plan.home, plan.instance) / "shard"
    argv = (str(program), *_words(plan, port, shards), *plan.flags)
    env = environment(temporary(plan) | dict(own or {})) | _ALWAYS | dict(shown) | whose(plan) | {"API_KEY": key}
    return Command(argv=argv, env=env, key=key, address=Address(key_file=key_file, port=port))


def _words(plan: Plan, port: int, shards: Path) -> Iterator[str]:
    launch = plan.launch
    yield from ("--model-id", str(plan.model), "--hostname", "127.0.0.1", "--port", str(port))
    yield from ("--prometheus-port", str(free_port()))  # 9000 otherwise, of every instance
    yield from ("--max-total-tokens", str(launch.context), "--max-input-tokens", str(launch.context - 1))
    yield from ("--max-concurrent-requests", str(launch.slots), "--cuda-memory-fraction", _fraction(plan))
    yield from ("--num-shard", str(len(plan.gpus)), "--shard-uds-path", str(shards))
    if len(plan.gpus) > 1:
        yield from ("--master-port", str(free_port()))  # each instance has one, or two of them meet


def _fraction(plan: Plan) -> str:
    """The part of the device that is in use once it has its own: its cache is what that leaves beside the weights."""
    return f"{min(1.0, (plan.used + plan.size) / plan.capacity / _WIGGLE):.4f}"
