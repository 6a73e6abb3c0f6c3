"""A request to go on with an answer: the one that a client made, with what has been said to it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import msgspec
from msgspec import Raw

from lmxd.errors import LmxdError
from lmxd.gateway.answers.written import Written
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.filters import Fields, synonyms
from lmxd.gateway.requests.need import LIMITS
from lmxd.gateway.requests.wanted import bounded

_RESPONSES: Final = "/v1/responses"
_CHATS: Final = ("/v1/chat/completions", "/v1/messages", _RESPONSES)
_TEXTS: Final = ("/v1/completions", "/completion")
"""Paths of requests whose answer can go on elsewhere: of chats, and of texts."""
_SEVERAL: Final = ("n", *synonyms("n"))
_NOT: Final = (
    *("logprobs", "top_logprobs", "n_probs", "post_sampling_probs"),
    *("response_format", "json_schema", "grammar", "suffix", "echo", "id_slot"),
    *("add_generation_prompt", "continue_final_message", "output_config", "output_format"),
)
"""Parameters by which an answer is more than its text, or the engine has to have begun with it: a grammar would begin
again in the middle, and probabilities are told of the rest alone."""
_TOOLS: Final = ("tools", "functions")
"""Parameters with which an answer may become more than a text."""
_NOTHING: Final = (None, False, 0, "")


def goes_on(call: UpstreamCall) -> bool:
    """Whether the answer to a request can go on elsewhere, by its path."""
    return _path(call) in (*_CHATS, *_TEXTS)


def likely_goes_on(call: UpstreamCall) -> bool:
    """Whether the answer to a request can go on elsewhere, by all that it says: it may still begin with a thought."""
    try:
        fields = msgspec.json.decode(bounded(call.body), type=Fields)
        return goes_on(call) and _can_go_on(fields) and not any(_value(fields, name) for name in _TOOLS)
    except (LmxdError, msgspec.MsgspecError, ValueError, RecursionError):
        return False


def is_chat(call: UpstreamCall) -> bool:
    """Whether an engine repeats what it goes on with: llama-server does so in chats."""
    return _path(call) in _CHATS


def is_repeatable(call: UpstreamCall) -> bool:
    """Whether the same request is likely answered the same: always the likeliest token, or with a seed."""
    try:
        fields = msgspec.json.decode(bounded(call.body), type=Fields)
        greedy = _value(fields, "temperature") == 0 or _value(fields, "top_k") == 1
        return greedy or _value(fields, "seed") not in (None, -1)
    except (LmxdError, msgspec.MsgspecError, ValueError, RecursionError):
        return False


def continuation(call: UpstreamCall, written: Written) -> UpstreamCall | None:
    """The request that has an engine go on with an answer; None if that cannot be said to it, or not be told."""
    if not written.plain or not written.text or not goes_on(call):
        return None
    try:
        fields = msgspec.json.decode(bounded(call.body), type=Fields)
        if not _can_go_on(fields) or _may_stop(fields, written.text):
            return None
        more = _more(call, fields, written)
    except (LmxdError, msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return None
    if more is None:
        return None
    return replace(call, body=msgspec.json.encode(fields | _left(fields, written.said) | more))


def _can_go_on(fields: Fields) -> bool:
    """Whether nothing is asked for that a rest cannot be told of, or not obey."""
    several = any(_value(fields, name) not in (None, 1) for name in _SEVERAL)
    return not several and all(_value(fields, name) in _NOTHING for name in _NOT)


def _path(call: UpstreamCall) -> str:
    return call.path.partition("?")[0]


def _more(call: UpstreamCall, fields: Fields, written: Written) -> dict[str, Any] | None:
    if not is_chat(call):
        return _text(fields, written)
    return _response(fields, written.text) if _path(call) == _RESPONSES else _chat(fields, written.text)


def _value(fields: Fields, name: str) -> Any:
    return msgspec.json.decode(fields.get(name, Raw(b"null")))


def _may_stop(fields: Fields, text: str) -> bool:
    """Whether a text may end within a word that is to stop it: the engine would not know the rest of that again."""
    said = _value(fields, "stop") or _value(fields, "stop_sequences") or []
    words = [said] if isinstance(said, str) else said
    return any(text.endswith(word[:end]) for word in words for end in range(1, len(word)))


def _left(fields: Fields, said: int) -> dict[str, int]:
    """The limits that a request says, less what has been said."""
    limits = {name: _value(fields, name) for name in LIMITS if name in fields}
    return {name: max(1, int(limit) - said) for name, limit in limits.items() if limit is not None and limit > 0}


def _chat(fields: Fields, text: str) -> dict[str, Any] | None:
    """The messages, with the answer so far as the last: if that is the assistant's already, it goes on with it."""
    messages = msgspec.json.decode(fields["messages"], type=list[Fields]) if "messages" in fields else []
    if not messages or _value(messages[-1], "role") != "assistant":
        return {"messages": [*messages, {"role": "assistant", "content": text}]}
    begun = _value(messages[-1], "content")
    if messages[-1].keys() - {"role", "content"} or not isinstance(begun, str):
        return None
    return {"messages": [*messages[:-1], {"role": "assistant", "content": _behind(begun, text)}]}


def _behind(begun: str, text: str) -> str:
    """The answer so far of one that had begun, which its engine may have repeated."""
    return text if text.startswith(begun) else begun + text


def _response(fields: Fields, text: str) -> dict[str, Any] | None:
    """The items of a request to the Responses API, likewise."""
    said = _value(fields, "input")
    items = [{"role": "user", "content": said}] if isinstance(said, str) else said
    match items:
        case [*before, {"role": "assistant", "content": [{"type": "output_text", "text": str(begun)}]}]:
            items, text = before, _behind(begun, text)
        case [*_, {"role": "assistant"}] | [] | None:
            return None
    part = {"type": "output_text", "text": text}
    return {"input": [*items, {"type": "message", "role": "assistant", "content": [part]}]}


def _text(fields: Fields, written: Written) -> dict[str, Any] | None:
    """The prompt and the answer so far: behind a prompt in tokens those of the answer, if its engine has named them."""
    prompt = _value(fields, "prompt")
    if isinstance(prompt, str):
        return {"prompt": prompt + written.text}
    if isinstance(prompt, list) and all(isinstance(each, int) for each in prompt):
        return {"prompt": prompt + written.tokens} if len(written.tokens) == written.said else None
    return None
