"""The names that other programs have for keys of a profile: llama-server, ollama and llama-swap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lmxd.config.llama_cpp_keys import SamplersConfig
from lmxd.engines.llama_cpp.flags import FLAGS, why_not

_KEYS: Final[Mapping[str, str]] = {
    "num_ctx": "context_length",
    "num_gpu": "gpu_layers",
    "num_thread": "threads",
    "num_batch": "batch_size",
    "num_predict": "samplers.max_tokens",
    "n_predict": "samplers.max_tokens",
    "temp": "samplers.temperature",
    "keep_alive": "idle_timeout",
    "ttl": "idle_timeout",
    "adapter": "lora",
    "mlock": "load_mode: mlock",
    "use_mlock": "load_mode: mlock",
    "no_mmap": "load_mode: none",
    "use_mmap": "load_mode: mmap",
}
"""Names of ollama and llama-swap, and of flags that a key says with another word -> the key."""


def called_elsewhere(name: str) -> str:
    """The key, or else the way, for what another program calls ``name``; empty if none does."""
    if name in _KEYS:
        return f"use the key {_KEYS[name]}"
    if name in SamplersConfig.model_fields:
        return f"use the key samplers.{name}"
    word = name.replace("_", "-")
    flag = next((each for each in (f"--{word}", f"-{word}") if each in FLAGS), None)
    if flag is None:
        return ""
    if not FLAGS[flag].allowed:
        return why_not(flag).removeprefix(f"{flag} is refused: ")
    return f"engine_flags takes it: [{flag}{', VALUE' if FLAGS[flag].arity else ''}]"
