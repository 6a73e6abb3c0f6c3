"""A plan turned into SGLang's command line. Everything that decides about memory is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from lmxd.engines.engine import Address, Command, Plan
from lmxd.engines.environment import environment
from lmxd.engines.launching import free_port, new_key, secret_settings, temporary, whose
from lmxd.engines.metered import OFFLINE

_MOST: Final = 0.99
"""The largest part of a device that is named: SGLang refuses all of it."""
_ALWAYS: Final = OFFLINE | {
    "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "false",  # else each look at /health is a request, of a second at least
    "SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK": "false",  # else it refuses cards of which others use one more
}


def command(program: Path, plan: Plan, shown: Mapping[str, str], own: Mapping[str, str] | None = None) -> Command:
    """Its command line, on a loopback port, for it has no Unix sockets. ``own``: variables as configured.

    Its key is in a file: SGLang reads no variable for it, and every user of the machine can read a command line.
    LmxdError if the files cannot be written.
    """
    key, key_file = new_key(plan)
    settings, port = secret_settings(plan, f"api-key: {key}\n"), free_port()
    argv = (str(program), "serve", "--config", str(settings), *_words(plan, port), *plan.flags)
    env = environment(temporary(plan) | dict(own or {})) | _ALWAYS | dict(shown) | whose(plan)
    return Command(argv=argv, env=env, key=key, address=Address(key_file=key_file, port=port))


def _words(plan: Plan, port: int) -> Iterator[str]:
    launch = plan.launch
    yield from ("--model-path", str(plan.model), "--served-model-name", plan.profile)
    yield from ("--host", "127.0.0.1", "--port", str(port), "--enable-metrics")
    yield from ("--log-level", "warning")  # below that, it writes its key into its log
    yield from ("--context-length", str(launch.context), "--max-running-requests", str(launch.slots))
    yield from ("--max-total-tokens", str(plan.kv_tokens), "--mem-fraction-static", _fraction(plan))
    if len(plan.gpus) > 1:
        yield from ("--tp-size", str(len(plan.gpus)))


def _fraction(plan: Plan) -> str:
    """The most that weights and cache may take, as a part of what is free when it starts.

    The cache keeps to the tokens that it is told; with too small a part it would get fewer, or none.
    """
    return f"{min(_MOST, plan.size / max(1, plan.capacity - plan.used)):.4f}"
