"""A plan turned into vLLM's command line. Everything that decides about memory is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from lmxd.engines.engine import Address, Command, Plan
from lmxd.engines.environment import environment
from lmxd.engines.launching import free_socket, kept_key, temporary, whose

_LEAST: Final = "0.01"
"""Of a device's memory. vLLM does not start if so much is not free, though it takes no notice of it otherwise, for
the cache's bytes are said."""
_ALWAYS: Final = {
    "VLLM_NO_USAGE_STATS": "1",  # else it reports where it runs to its makers
    "VLLM_HOST_IP": "127.0.0.1",  # its own parts speak over it, else over whatever leads to the internet
    "HF_HUB_OFFLINE": "1",  # the model is on disk, and a path that is not there is no name of one to fetch
    "VLLM_LOGGING_COLOR": "0",
}
_TOLD_TO_SLEEP: Final = {"VLLM_SERVER_DEV_MODE": "1"}
"""Opens /sleep and /wake_up, and more that is nobody's but ours: the gateway passes none of them on."""


def command(program: Path, plan: Plan, shown: Mapping[str, str], own: Mapping[str, str] | None = None) -> Command:
    """Its command line: on a Unix socket, for it answers some paths without a key. ``own``: as configured.

    ``shown``: the variables that show it its GPUs. LmxdError if its files cannot be written.
    """
    env = environment(temporary(plan) | dict(own or {})) | _ALWAYS | dict(shown) | whose(plan)
    env |= _TOLD_TO_SLEEP if plan.sleeps else {}
    key, key_file = kept_key(plan)  # up to 0.24 at least its cache of what torch compiled is by the key, too
    socket = free_socket(plan)
    argv = (str(program), "serve", *_words(plan, socket), *plan.flags)
    address = Address(key_file=key_file, socket=socket)
    return Command(argv=argv, env=env | {"VLLM_API_KEY": key}, key=key, address=address)


def _words(plan: Plan, socket: Path) -> Iterator[str]:
    launch = plan.launch
    yield from (str(plan.model), "--served-model-name", plan.profile, "--uds", str(socket))
    yield from ("--max-model-len", str(launch.context), "--max-num-seqs", str(launch.slots))
    yield from ("--kv-cache-memory-bytes", str(plan.kv_bytes), "--gpu-memory-utilization", _LEAST)
    if len(plan.gpus) > 1:
        yield from ("--tensor-parallel-size", str(len(plan.gpus)))
    if plan.sleeps:
        yield "--enable-sleep-mode"
