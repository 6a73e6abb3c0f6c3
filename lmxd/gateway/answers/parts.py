"""The parts of an engine's answers that are looked at when they are put into ollama's words."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, field

from lmxd.errors import LmxdError

Milliseconds = Annotated[float, Meta(ge=0, le=1e12)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
T = TypeVar("T")


class CalledFunction(Struct):
    """A part of the name and of the arguments of a function that is to be called."""

    name: str | None = None
    arguments: str | None = None


class Called(Struct):
    """A part of a call of a tool."""

    index: int = 0
    function: CalledFunction | None = None


class Delta(Struct):
    """The new part of a message."""

    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[Called] | None = None


class LikelyToken(Struct, omit_defaults=True):
    """A token, and the logarithm of its probability; None for one that cannot be."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None


class ChosenToken(LikelyToken):
    """A token of the answer, and those that might have been in its place."""

    top_logprobs: list[LikelyToken] | None = None


class Probabilities(Struct):
    """The tokens of a chunk."""

    content: list[ChosenToken] | None = None


class Choice(Struct):
    """One of the answers; there is one."""

    delta: Delta | None = None
    text: str | None = None
    logprobs: Probabilities | None = None
    finish_reason: str | None = None


class Usage(Struct):
    """Tokenized."""

    prompt_tokens: Count = 0
    completion_tokens: Count = 0


class Timings(Struct):
    """Times that the engine took."""

    prompt_ms: Milliseconds = 0.0
    predicted_ms: Milliseconds = 0.0


class Chunk(Struct):
    """One event of a stream."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: Raw = Raw()


class Vector(Struct):
    """The vector of one text."""

    embedding: list[float]


class Vectors(Struct):
    """An answer of /v1/embeddings."""

    data: list[Vector]
    usage: Usage = field(default_factory=Usage)


class Tokenized(Struct):
    """An answer of /tokenize."""

    tokens: list[int]


class EngineProblem(Struct):
    """An engine's error."""

    message: str | None = None
    type: str | None = None
    code: int | str | None = None


class EngineError(Struct):
    """An engine's answer that is no success, as llama-server, vLLM and FastAPI say it."""

    error: EngineProblem | str | None = None
    message: str | None = None
    detail: Any = None


def understood(body: bytes, kind: type[T]) -> T:
    """A part of an engine's answer. LmxdError ``bad_answer`` if it is something else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise LmxdError("bad_answer", f"the instance says {body[:200]!a}: {error}", "see to the engine") from error
