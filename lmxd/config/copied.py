"""The settings of a profile that count on another box, too: neither paths and programs, nor where its layers are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from lmxd.config.profile import Profile
from lmxd.engines.vllm.flags import ANYWHERE, FLAGS

BesideKey: TypeAlias = Literal["mmproj", "draft", "lora"]
"""The key of a profile that names a file beside the model."""
SIZES: Final = frozenset(("context", "elastic", "context_length", "slots", "kv_tokens", "gpus"))
"""Keys that say how large it is."""
_COPIED: Final = SIZES | {
    "kv_unified", "swa_full", "cache_type_k", "cache_type_v", "flash_attention", "batch_size", "ubatch_size",
    "mtp", "ngram", "embedding", "rerank", "pooling", "rope",
    "chat_template", "chat_template_kwargs", "jinja", "reasoning", "reasoning_format", "reasoning_budget",
    "cache_reuse", "samplers", "grammar", "aliases", "set", "strip", "engine_flags",
}  # fmt: skip


def copied(profile: Profile) -> dict[str, Any]:
    """The keys of a profile for a copy of it, as JSON. Of files beside it, all but their paths."""
    said = profile.model_dump(mode="json", include=set(_COPIED), exclude_defaults=True)
    for key in ("draft", "lora"):
        found = profile.model_dump(mode="json", include={key}, exclude_unset=True).get(key)
        if isinstance(found, dict):
            said[key] = _pathless(found)
        elif found:
            said[key] = [_pathless(each) for each in found]
    return said


def allowed(settings: Mapping[str, Any], *, directory: bool = False) -> dict[str, Any]:
    """The settings of those that another box may say. Their values are held against the schema later on.

    ``directory``: of vLLM, whose flags may name paths and repositories, and have it run a model's own code.
    """
    said = {key: value for key, value in settings.items() if key in _COPIED}
    if directory:
        words = said.pop("engine_flags", None)
        if isinstance(words, list) and (flags := FLAGS.of(list(map(str, words)), ANYWHERE)):
            said["engine_flags"] = flags
    if isinstance(draft := settings.get("draft"), dict):
        said["draft"] = _pathless(draft)
    if isinstance(adapters := settings.get("lora"), list):
        said["lora"] = [_pathless(each) for each in adapters if isinstance(each, dict)]
    return said


def _pathless(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "path"}
