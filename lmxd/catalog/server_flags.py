"""The keys of a profile as llama-server's flags, but for those that decide about its size and its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lmxd.config.llama_cpp_keys import LlamaCppKeys
from lmxd.config.profile import Profile
from lmxd.engines.llama_cpp import ngrams

_SAMPLING: Final = {
    "temperature": "--temp",
    "top_k": "--top-k",
    "top_p": "--top-p",
    "min_p": "--min-p",
    "typical_p": "--typical",
    "repeat_penalty": "--repeat-penalty",
    "repeat_last_n": "--repeat-last-n",
    "presence_penalty": "--presence-penalty",
    "frequency_penalty": "--frequency-penalty",
    "seed": "--seed",
    "max_tokens": "--predict",
}
_ROPE: Final = {
    "scaling": "--rope-scaling",
    "scale": "--rope-scale",
    "freq_base": "--rope-freq-base",
    "freq_scale": "--rope-freq-scale",
    "original_context": "--yarn-orig-ctx",
}
_VALUES: Final = {
    "pooling": "--pooling",
    "chat_template": "--chat-template",
    "reasoning": "--reasoning",
    "reasoning_format": "--reasoning-format",
    "reasoning_budget": "--reasoning-budget",
    "cache_reuse": "--cache-reuse",
    "grammar": "--grammar",
}
_SWITCHES: Final = {"embedding": "--embedding", "rerank": "--reranking", "props": "--props"}


def server_flags(profile: Profile, template: Path | None, grammar: Path | None) -> tuple[str, ...]:
    """The flags of a profile. ``template`` and ``grammar``: the files that it names."""
    return (*_of_keys(profile, template, grammar), *profile.engine_flags)


def _of_keys(keys: LlamaCppKeys, template: Path | None, grammar: Path | None) -> Iterator[str]:
    for name, flag in _SWITCHES.items():
        if getattr(keys, name):
            yield flag
    if keys.load_mode != "auto":
        yield from ("--load-mode", keys.load_mode)
    if keys.ngram is not None:
        yield from ngrams.words(keys.ngram)
    yield from _said(keys, _VALUES)
    yield from _said(keys.rope, _ROPE)
    yield from _said(keys.samplers, _SAMPLING)
    if keys.samplers.order:
        yield from ("--samplers", ";".join(keys.samplers.order))
    if keys.chat_template_kwargs:
        yield from ("--chat-template-kwargs", json.dumps(keys.chat_template_kwargs))
    if keys.jinja is not None:
        yield "--jinja" if keys.jinja else "--no-jinja"
    for flag, path in (("--chat-template-file", template), ("--grammar-file", grammar)):
        if path is not None:
            yield from (flag, str(path))


def _said(section: object, flags: dict[str, str]) -> Iterator[str]:
    for name, flag in flags.items():
        if (value := getattr(section, name)) is not None:
            yield from (flag, f"{value:g}" if isinstance(value, float) else str(value))
