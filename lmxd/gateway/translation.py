"""ollama's words put into OpenAI's, and back. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lmxd.errors import LmxdError

_OPTIONS: Final = {
    "num_predict": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "seed": "seed",
    "stop": "stop",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
"""Options of a request, of which num_ctx is the lease's; all others are about how ollama loads, and are left out."""


def asked(said: Mapping[str, Any], messages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A body for /v1/chat/completions."""
    body: dict[str, Any] = {"messages": list(_messages(messages))}
    body |= options(said)
    if said.get("tools"):
        body["tools"] = said["tools"]
    return body


def options(said: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling, format and streaming; ollama streams unless told otherwise."""
    given = said.get("options") or {}
    if not isinstance(given, dict):
        raise LmxdError("invalid_params", f"options is a {type(given).__name__}", "send an object")
    body: dict[str, Any] = {new: given[old] for old, new in _OPTIONS.items() if given.get(old) is not None}
    if body.get("max_tokens", 0) < 0:
        del body["max_tokens"]  # -1: as many as it takes
    match said.get("format"):
        case None | "":
            pass
        case "json":
            body["response_format"] = {"type": "json_object"}
        case dict() as schema:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        case other:
            raise LmxdError("invalid_params", f"format is {other!r}", "json, or a JSON Schema")
    if isinstance(said.get("think"), bool):
        body["chat_template_kwargs"] = {"enable_thinking": said["think"]}
    return body | {"model": said["model"], "stream": True, "stream_options": {"include_usage": True}}


def _messages(found: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """Calls of tools get the ids that OpenAI wants; what the tools answered belongs to them in their order."""
    calls, unanswered = 0, []
    for message in found:
        if not isinstance(message, Mapping):
            raise LmxdError("invalid_params", f"messages holds {message!r}", "send objects with role and content")
        made: dict[str, Any] = {"role": message.get("role", "user"), "content": _content(message)}
        if tools := message.get("tool_calls"):
            made["tool_calls"] = []
            for called in tools:
                function = called.get("function", {})
                calls += 1
                unanswered.append(f"call_{calls}")
                arguments = json.dumps(function.get("arguments", {}))
                made["tool_calls"].append(
                    {
                        "id": f"call_{calls}",
                        "type": "function",
                        "function": {"name": function.get("name"), "arguments": arguments},
                    }
                )
        if made["role"] == "tool":
            made["tool_call_id"] = unanswered.pop(0) if unanswered else "call_0"
        yield made


def _content(message: Mapping[str, Any]) -> Any:
    text, images = message.get("content", ""), message.get("images") or []
    if not images:
        return text
    pictures = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}} for image in images]
    return [{"type": "text", "text": text}, *pictures]


class Answer:
    """One answer: OpenAI's chunks, one after the other, as ollama's messages; and how it ended."""

    def __init__(self) -> None:
        self.reason = "stop"
        self.counts: dict[str, int] = {}
        self._calls: dict[int, dict[str, Any]] = {}

    def take(self, chunk: Mapping[str, Any]) -> dict[str, Any]:
        """The message that a chunk comes to; empty if it says nothing new."""
        self._count(chunk)
        message: dict[str, Any] = {}
        for choice in chunk.get("choices", ())[:1]:
            delta = choice.get("delta") or {"content": choice.get("text")}
            if delta.get("content"):
                message["content"] = delta["content"]
            if delta.get("reasoning_content"):
                message["thinking"] = delta["reasoning_content"]
            for called in delta.get("tool_calls") or ():
                self._call(called)
            if ended := choice.get("finish_reason"):
                self.reason = "length" if ended == "length" else "stop"
                if self._calls:
                    message["tool_calls"] = self._made()
        return message

    def _call(self, called: Mapping[str, Any]) -> None:
        kept = self._calls.setdefault(called.get("index", 0), {"name": "", "arguments": ""})
        function = called.get("function") or {}
        kept["name"] += function.get("name") or ""
        kept["arguments"] += function.get("arguments") or ""

    def _made(self) -> list[dict[str, Any]]:
        calls, self._calls = self._calls, {}
        return [{"function": {"name": c["name"], "arguments": _object(c["arguments"])}} for c in calls.values()]

    def _count(self, chunk: Mapping[str, Any]) -> None:
        if usage := chunk.get("usage"):
            self.counts |= {
                "prompt_eval_count": usage.get("prompt_tokens", 0),
                "eval_count": usage.get("completion_tokens", 0),
            }
        if timings := chunk.get("timings"):
            self.counts |= {
                "prompt_eval_duration": int(timings.get("prompt_ms", 0) * 1e6),
                "eval_duration": int(timings.get("predicted_ms", 0) * 1e6),
            }


def _object(arguments: str) -> dict[str, Any]:
    """A small model may have written anything."""
    try:
        found = json.loads(arguments or "{}")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"arguments": arguments}
