"""Paths of an instance that are shut for clients: they act on what it has of others, or on its files."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from lmxd.errors import LmxdError

_SHUT: Final = frozenset(("slots", "lora-adapters", "props"))
"""Words of paths that may be read alone: what is sent there saves, reads and erases prompts, or changes all answers."""
_SHUT_ALTOGETHER: Final = frozenset(("stream", "streams", "tools", "cors-proxy", "models", "mcp"))
"""Words of paths that are for nobody: answers of others by name, files, other hosts, other models. But for the list."""
_OF_OTHER_ENGINES: Final = frozenset(
    "abort_request abort_requests flush_cache release_memory_occupation resume_memory_occupation load_lora_adapter "
    "unload_lora_adapter sleep wake_up is_sleeping release_kv_cache_memory server_info "
    "reset_prefix_cache reset_mm_cache reset_encoder_cache "
    "start_profile stop_profile shutdown collective_rpc control pause pause_generation resume continue_generation "
    "set_internal_state open_session close_session clear_hicache_storage_backend "
    "attach_hicache_storage_backend detach_hicache_storage_backend hicache slow_down set_trace_level scale_elastic_ep "
    "is_scaling_elastic_ep fault_tolerance kv_event_sources is_paused get_world_size tokenizer_info "
    "start_expert_distribution_record stop_expert_distribution_record dump_expert_distribution_record freeze_gc "
    "configure_logging load_model reset get_server_info".split()
)
"""Words of the paths of SGLang, vLLM and transformers serve that stop, change or record what others have there, or
tell the instance's key."""
_LISTS: Final = ("v1/models", "models")
_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_ROUNDS: Final = 8
"""The most times that a path is decoded: one that says something else each time is none that anybody meant."""


def require_open(method: str, path: str) -> None:
    """LmxdError ``not_permitted`` for a path of an instance that is not for clients, however it is written."""
    words = _words(path)
    reads = method in _SAFE
    shut = set() if reads and _plain(path) in _LISTS else _SHUT_ALTOGETHER | (set() if reads else _SHUT)
    shut = shut | _OF_OTHER_ENGINES
    if words is not None and not words & shut and not any(map(_exchanges_weights, words)):
        return
    message = f"{method} {path.partition('?')[0]!r} is not for clients of the gateway"
    raise LmxdError("not_permitted", message, "it acts on what other users have there; lease an instance for it")


def _exchanges_weights(word: str) -> bool:
    """vLLM and SGLang have a dozen paths that begin, finish, check or undo an exchange. A parameter is none."""
    return "weight" in word and "=" not in word


def _plain(path: str) -> str:
    return path.partition("?")[0].strip("/")


def _words(path: str) -> set[str] | None:
    """The words between the slashes of a path, decoded, in small letters; None if it cannot be decoded in the end."""
    for _ in range(_ROUNDS):
        if (decoded := unquote(path)) == path:
            return {word.strip(" .\t\0") for word in re.split(r"[/\\?#;&]+", path.lower())}
        path = decoded
    return None
