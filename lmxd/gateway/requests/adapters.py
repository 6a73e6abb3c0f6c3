"""The adapters that a request asks for: llama-server takes an id that it does not know for none at all."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from lmxd.errors import LmxdError
from lmxd.gateway.requests.failures import ErrorFormat
from lmxd.gateway.requests.wanted import decode
from lmxd.rpc.books import ModelInfo

_SIGNS: Final = re.compile(rb'"lora"|\\u00')
"""Words without which a body names no adapters; the second may hide the first."""


class _Scaled(Struct):
    """One adapter by its number, and how much of it is added."""

    id: Annotated[int, Meta(ge=0, lt=2**31)]
    scale: float


class _Asked(Struct):
    """The part of a request that names adapters."""

    lora: Raw = Raw()


def require_adapters(path: str, body: bytes, model: ModelInfo) -> None:
    """LmxdError ``invalid_params`` for adapters that the model does not have, or that would not be heeded."""
    if not _SIGNS.search(body) or model.media is None:
        return
    try:
        said = bytes(msgspec.json.decode(body, type=_Asked).lora)
    except (ValueError, RecursionError):
        return  # what it is, is for the instance to say
    if said in (b"", b"null"):
        return
    names = [PurePath(path).name for path in model.adapters]
    there = ", ".join(f"{number}: {name}" for number, name in enumerate(names))
    remedy = f"it has {there}" if there else "an administrator gives it some by the key lora"
    try:
        wanted = decode(said, list[_Scaled])
    except LmxdError as error:
        what = f"lora: {error.message}"
        raise LmxdError("invalid_params", what, f'send [{{"id": 0, "scale": 1}}]; {remedy}') from error
    if wrong := [each.id for each in wanted if each.id >= len(names)]:
        raise LmxdError("invalid_params", f"lora: {model.model} has no adapter {wrong[0]}", remedy)
    if ErrorFormat.of(path) is ErrorFormat.ANTHROPIC:
        what = "lora: llama-server heeds it in no request of Anthropic's API"
        raise LmxdError("invalid_params", what, "ask by /v1/chat/completions, /v1/responses or ollama's API")
