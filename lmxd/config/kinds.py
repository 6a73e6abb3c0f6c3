"""The keys of a profile that only some kinds of engine have, and the flags that each kind may be given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from lmxd.config.llama_cpp_keys import LlamaCppKeys
from lmxd.config.section import Section
from lmxd.engines import templates
from lmxd.engines.engine import EngineKind
from lmxd.engines.llama_cpp import flags as llama_cpp
from lmxd.engines.sglang.flags import FLAGS as SGLANG
from lmxd.engines.tgi.flags import FLAGS as TGI
from lmxd.engines.vllm.flags import FLAGS as VLLM

_OF_LLAMA_SERVER: Final = (
    *("gpu_layers", "batch_size", "ubatch_size", "cache_type_k", "cache_type_v", "flash_attention", "threads"),
    *("suspend", "fit", "min_gpu_layers", *LlamaCppKeys.model_fields),
)
_OF_COMMANDS: Final = ("command", "env", "health", "open", "upstream_name")
_OF_DIRECTORIES: Final = ("gpus", "kv_tokens")
"""Of engines that serve a directory as Hugging Face has them."""
_SLEEP: Final = ("sleep",)
SINCE_0_4: Final = (*_OF_DIRECTORIES, *_SLEEP, "upstream_name")
"""Keys that name a variant only where they are said: without them it is as 0.4.0 named it, whose instances go on."""
_COUNTED_ALONE: Final = ("gpu_layers", "batch_size", "ubatch_size", "cache_type_k", "cache_type_v", "flash_attention")
"""Keys that a command may have all the same: its estimate of a GGUF file is by them."""
_FOREIGN: Final[Mapping[EngineKind, tuple[str, ...]]] = {
    EngineKind.LLAMA_CPP: (*_OF_COMMANDS, *_OF_DIRECTORIES, *_SLEEP),
    EngineKind.VLLM: (*_OF_LLAMA_SERVER, *_OF_COMMANDS),
    EngineKind.SGLANG: (*_OF_LLAMA_SERVER, *_OF_COMMANDS, *_SLEEP, "endpoint"),
    EngineKind.TGI: (*_OF_LLAMA_SERVER, *(k for k in _OF_COMMANDS if k != "open"), *_SLEEP, "endpoint", "kv_tokens"),
    EngineKind.COMMAND: (
        *("engine_flags", "endpoint", "program", *_OF_DIRECTORIES, *_SLEEP),
        *(key for key in _OF_LLAMA_SERVER if key not in (*_COUNTED_ALONE, "threads")),
    ),
}
"""The keys that a kind has not."""
_DECLARED: Final = (EngineKind.SGLANG, EngineKind.TGI)
"""Kinds whose bytes are those that a profile declares."""
_CALLED: Final = {
    EngineKind.LLAMA_CPP: "llama-server has no such key",
    EngineKind.VLLM: "vLLM has no such key",
    EngineKind.SGLANG: "SGLang has no such key",
    EngineKind.TGI: "TGI has no such key",
    EngineKind.COMMAND: "for other engines, but there is a command",
}


def _of_llama_server(words: Sequence[str], declared: bool) -> list[str]:
    return llama_cpp.problems(words)


def _of_vllm(words: Sequence[str], declared: bool) -> list[str]:
    return VLLM.problems(words, declared=declared)


def _of_sglang(words: Sequence[str], declared: bool) -> list[str]:
    return SGLANG.problems(words, declared=declared)


def _of_tgi(words: Sequence[str], declared: bool) -> list[str]:
    return TGI.problems(words, declared=declared)


_FLAGS: Final[Mapping[EngineKind, Callable[[Sequence[str], bool], list[str]]]] = {
    EngineKind.LLAMA_CPP: _of_llama_server,
    EngineKind.VLLM: _of_vllm,
    EngineKind.SGLANG: _of_sglang,
    EngineKind.TGI: _of_tgi,
}


def wrong_keys(profile: Section, kind: EngineKind, defaults: Mapping[str, Any]) -> Iterator[str]:
    """A sentence if a profile has keys that its kind of engine has not. ``defaults``: those of all keys."""
    if wrong := [key for key in _FOREIGN[kind] if getattr(profile, key) != defaults[key]]:
        yield f"{', '.join(wrong)}: {_CALLED[kind]}: take {'them' if len(wrong) > 1 else 'it'} out"
    if kind is EngineKind.VLLM and getattr(profile, "endpoint", None) == "tcp":
        yield "endpoint: vLLM answers some paths without a key: only unix is possible"
    if kind in _DECLARED and getattr(profile, "estimated_memory_gb", None) is None:
        yield f"estimated_memory_gb: say what it takes of each GPU, for no formula knows it with {kind}"
    if kind is EngineKind.TGI and not getattr(profile, "open", False):
        yield "open: every user of this machine can read TGI's key, on its command line: say open: true, or use vllm"


class Commanded(Protocol):
    """A profile, as far as its command is concerned."""

    @property
    def command(self) -> tuple[str, ...] | None: ...
    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def open(self) -> bool: ...
    @property
    def engine(self) -> str | None: ...
    @property
    def estimated_memory_gb(self) -> float | None: ...


def wrong_command(profile: Commanded) -> Iterator[str]:
    """A command listens where it is told to, and only its holders can use it, unless it is said to be open."""
    if (command := profile.command) is None:
        yield "engine: command is for a profile that says its command"
        return
    if profile.estimated_memory_gb is None:
        yield "estimated_memory_gb: say what command takes at first, for no formula knows it"
    if profile.engine not in (None, EngineKind.COMMAND):
        yield f"engine: {profile.engine} would not run it, for there is a command: take one of them out"
    places = templates.places(*command, *profile.env.values())
    if len(places & {"socket", "port"}) != 1:
        yield "command: say where it is to listen: {socket} must be in it, or {port} if it has no Unix sockets"
    closed = places & {"socket", "key", "key_file"}
    if not closed and not profile.open:
        yield (
            "command: every user of this machine could use it: tell it to listen on {socket}, or give it the key"
            " ({key_file} in command, {key} in env), or say open: true"
        )
    if closed and profile.open:
        yield f"open: it is not, for there is {{{min(closed)}}}: take open out"


def wrong_flags(words: Sequence[str], kind: EngineKind, *, declared: bool) -> list[str]:
    """The reasons why an engine may not be given some flags. ``declared``: the profile says its bytes itself."""
    return _FLAGS[kind](words, declared) if kind in _FLAGS else []
