"""ollama's words put into OpenAI's, and back. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from lmxd.errors import LmxdError
from lmxd.gateway.answers.parts import Called, Chunk
from lmxd.gateway.requests.answer_format import ANY_OBJECT
from lmxd.gateway.requests.wanted import Chat, Generate, Message, Options, Question
from lmxd.text import escaped

_OPTIONS: Final = {"num_predict": "max_tokens"}
"""Options of ollama's that OpenAI calls otherwise."""
_WHOLE: Final = ("num_predict", "top_k", "seed", "repeat_last_n")
"""Options that engines want as whole numbers, and clients write as any."""
_MAX_SEED: Final = 2**32 - 1
"""A seed has 32 bits; -1 is this one, which stands for any."""
_WHOLE_CONTEXT: Final = 2**17
"""The last tokens that are not to be repeated, where -1 means all. llama-server has a place in memory for each."""
_MAX_LOGPROBS: Final = 2**17
"""Tokens of an answer whose probabilities are put together."""
_MAX_TEXT: Final = 64 * 2**20
"""Bytes of an answer that is put together whole."""
_MAX_CALLS: Final = 1024
"""Calls of tools in an answer."""
_MAX_CALLED: Final = 4 * 2**20
"""Bytes of their names and arguments: all of them become objects."""
_MAX_DEPTH: Final = 100
"""Objects within each other in arguments: encoding goes down as deep."""
_NOTHING: Final = (b"", b"null")
_LONGEST_HEAD: Final = 64
"""Characters of a URL up to what it says of its content: base64 has no colon."""


def asked(said: Chat | Generate, messages: Iterable[Message]) -> dict[str, Any]:
    """A body for /v1/chat/completions."""
    body: dict[str, Any] = {"messages": list(_messages(messages))}
    body |= options(said) | chat_logprobs(said)
    if isinstance(said, Chat) and (tools := bytes(said.tools)) not in (*_NOTHING, b"[]"):
        if not tools.startswith(b"["):
            raise LmxdError("invalid_params", "tools: Expected `array | null`", "docs/gateway.md")
        body["tools"] = said.tools
    return body


def options(said: Question) -> dict[str, Any]:
    """Sampling, format and streaming; ollama streams unless told otherwise."""
    body = _sampling(said.options or Options())
    wanted = bytes(said.format)
    if wanted.startswith(b"{"):
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": said.format}}
    elif wanted == b'"json"':
        body["response_format"] = ANY_OBJECT
    elif wanted not in (*_NOTHING, b'""'):
        raise LmxdError(
            "invalid_params", f"format: {escaped(wanted.decode(errors='replace'))[:60]}", "json, or a JSON Schema"
        )
    return (
        body | _thinking(said.think) | {"model": said.wanted, "stream": True, "stream_options": {"include_usage": True}}
    )


def _sampling(options: Options) -> dict[str, Any]:
    given = {name: value for name, value in msgspec.structs.asdict(options).items() if value is not None}
    given.pop("num_ctx", None)
    given |= {name: int(given[name]) for name in _WHOLE if name in given}
    if "seed" in given:
        given["seed"] &= _MAX_SEED
    if given.get("num_predict", 0) < 0:
        del given["num_predict"]  # -1: as many as it takes
    if given.get("repeat_last_n", 0) < 0:
        given["repeat_last_n"] = _WHOLE_CONTEXT
    return {_OPTIONS.get(name, name): value for name, value in given.items()}


def _thinking(think: bool | str | None) -> dict[str, Any]:
    """Templates know a switch, or a level: which, the model's author knows. Engines pass on both."""
    if think is None or isinstance(think, bool):
        return {} if think is None else {"chat_template_kwargs": {"enable_thinking": think}}
    level = "high" if think == "max" else think
    return {
        "reasoning_effort": level,
        "chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": level},
    }


def chat_logprobs(said: Question) -> dict[str, Any]:
    """Probabilities of tokens, for /v1/chat/completions."""
    return {"logprobs": True, "top_logprobs": said.top_logprobs or 0} if said.logprobs else {}


def raw_logprobs(said: Question) -> dict[str, Any]:
    """The same for /v1/completions; OpenAI's engines call that otherwise than llama-server."""
    count = max(1, said.top_logprobs or 0)
    return {"logprobs": count, "n_probs": count} if said.logprobs else {}


def _messages(found: Iterable[Message]) -> Iterable[dict[str, Any]]:
    """Calls of tools get the ids that OpenAI wants; what the tools answered belongs to them in their order."""
    calls, unanswered = 0, []
    for message in found:
        made: dict[str, Any] = {"role": message.role, "content": _content(message)}
        if message.thinking:
            made["reasoning_content"] = message.thinking
        for called in message.tool_calls or ():
            calls += 1
            unanswered.append(f"call_{calls}")
            arguments = bytes(called.function.arguments).decode(errors="replace")
            function = {"name": called.function.name, "arguments": arguments}
            made.setdefault("tool_calls", []).append({"id": f"call_{calls}", "type": "function", "function": function})
        if made["role"] == "tool":
            made["tool_call_id"] = unanswered.pop(0) if unanswered else "call_0"
        yield made


def _content(message: Message) -> Any:
    if not message.images:
        return message.content
    pictures = [{"type": "image_url", "image_url": {"url": _url(image)}} for image in message.images]
    return [{"type": "text", "text": message.content}, *pictures]


def _url(image: str) -> str:
    """A picture in base64, of which engines look at the content alone; or the URL that some clients send instead."""
    return image if ":" in image[:_LONGEST_HEAD] else f"data:image/png;base64,{image}"


@dataclass(slots=True)
class _Call:
    """A call of a tool whose parts come one by one."""

    name: bytearray = field(default_factory=bytearray)
    arguments: bytearray = field(default_factory=bytearray)


class Whole:
    """The one message that the messages of an answer come to."""

    def __init__(self) -> None:
        self._texts: dict[str, bytearray] = {}
        self._lists: dict[str, list[Any]] = {}

    def add(self, message: dict[str, Any]) -> None:
        """LmxdError ``bad_answer`` if they are too long together."""
        for key, value in message.items():
            if isinstance(value, list):
                self._lists.setdefault(key, []).extend(value)
            else:
                self._texts.setdefault(key, bytearray()).extend(value.encode())
        if sum(map(len, self._texts.values())) > _MAX_TEXT:
            raise _too_much(f"the answer is longer than {_MAX_TEXT} bytes")
        if len(self._lists.get("logprobs", ())) > _MAX_LOGPROBS:
            raise _too_much(f"the probabilities of more than {_MAX_LOGPROBS} tokens")

    @property
    def message(self) -> dict[str, Any]:
        texts = {key: value.decode() for key, value in self._texts.items()}
        return texts | self._lists


class Answer:
    """One answer: OpenAI's chunks, one after the other, as ollama's messages; and how it ended."""

    def __init__(self) -> None:
        self.reason = "stop"
        self.counts: dict[str, int] = {}
        self._calls: dict[int, _Call] = {}
        self._called, self._called_bytes = 0, 0

    def take(self, chunk: Chunk) -> dict[str, Any]:
        """The message that a chunk comes to; empty if it says nothing new."""
        self._count(chunk)
        message: dict[str, Any] = {}
        for choice in (chunk.choices or ())[:1]:
            delta = choice.delta
            if content := choice.text if delta is None else delta.content:
                message["content"] = content
            if delta is not None and delta.reasoning_content:
                message["thinking"] = delta.reasoning_content
            if choice.logprobs is not None and choice.logprobs.content:
                message["logprobs"] = msgspec.to_builtins(choice.logprobs.content)
            for called in (delta and delta.tool_calls) or ():
                self._call(called)
            if ended := choice.finish_reason:
                self.reason = "length" if ended == "length" else "stop"
                if self._calls:
                    message["tool_calls"] = self._made()
        return message

    def _call(self, part: Called) -> None:
        if part.index not in self._calls:
            self._called += 1
            self._calls[part.index] = _Call()
        if part.function is not None:
            kept, name, arguments = self._calls[part.index], part.function.name or "", part.function.arguments or ""
            kept.name.extend(name.encode())
            kept.arguments.extend(arguments.encode())
            self._called_bytes += len(name.encode()) + len(arguments.encode())
        if self._called > _MAX_CALLS or self._called_bytes > _MAX_CALLED:
            raise _too_much(f"more than {_MAX_CALLS} calls of tools, or {_MAX_CALLED} bytes of them")

    def _made(self) -> list[dict[str, Any]]:
        calls, self._calls = self._calls, {}
        return [
            {"function": {"name": c.name.decode(), "arguments": _object(c.arguments.decode())}} for c in calls.values()
        ]

    def _count(self, chunk: Chunk) -> None:
        if usage := chunk.usage:
            self.counts |= {"prompt_eval_count": usage.prompt_tokens, "eval_count": usage.completion_tokens}
        if timings := chunk.timings:
            self.counts |= {
                "prompt_eval_duration": int(timings.prompt_ms * 1e6),
                "eval_duration": int(timings.predicted_ms * 1e6),
            }


def _too_much(what: str) -> LmxdError:
    return LmxdError("bad_answer", f"the instance says too much: {what}", "see to the engine")


def _object(arguments: str) -> dict[str, Any]:
    """A small model may have written anything."""
    try:
        found = msgspec.json.decode(arguments or "{}")
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) and not _deep(found) else {"arguments": arguments}


def _deep(found: Any) -> bool:
    level = [found]
    for _ in range(_MAX_DEPTH):
        inner = (x.values() if isinstance(x, dict) else x for x in level if isinstance(x, dict | list))
        level = [y for x in inner for y in x]
    return bool(level)
