"""The parts of a request's body that are looked at, as they must be. No objects are made of all else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from lmxd.errors import LmxdError
from lmxd.gateway.http.forms import is_form, short_fields

_MAX_PARTS: Final = 500_000
"""Strings and objects of a body that is read into objects: some 50 MB of them."""
T = TypeVar("T")
ModelName = Annotated[str, Meta(max_length=256)]
Number = int | float
"""Any number of JSON: clients write 7.0 for 7."""
Tokens = Annotated[float, Meta(ge=-(2**31), lt=2**31)]


class NamedRequest(Struct):
    """A request of OpenAI's API: which model, and whether the answer is a stream."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    stream: bool | None = None


class StreamedRequest(Struct):
    """A request to a path of an instance."""

    stream: bool | None = None


class Options(Struct, omit_defaults=True):
    """Options of ollama's, of which num_ctx is the lease's; all others are about how ollama loads, and are left out."""

    num_ctx: float | None = None
    num_predict: Tokens | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Tokens | None = None
    min_p: float | None = None
    typical_p: float | None = None
    seed: Number | None = None
    stop: str | list[str] | None = None
    repeat_penalty: float | None = None
    repeat_last_n: Tokens | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class Function(Struct):
    """A function that was called."""

    name: str | None = None
    arguments: Raw = Raw(b"{}")


class ToolCall(Struct):
    """A call of a tool."""

    function: Function


class Message(Struct):
    """A message of a chat."""

    role: str = "user"
    content: str | None = ""
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[ToolCall] | None = None


class Question(Struct):
    """The part that all requests of ollama's API have."""

    model: ModelName | None = None
    name: ModelName | None = None
    stream: bool | None = None
    options: Options | None = None
    format: Raw = Raw()
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    keep_alive: float | str | None = None

    @property
    def wanted(self) -> str:
        """The model's name. LmxdError ``invalid_params`` if none is named."""
        return _named(self.model or self.name)


def _named(name: str | None) -> str:
    if not name:
        raise LmxdError("invalid_params", "model: none is named", "name one of /api/tags")
    return name


class Chat(Question):
    """A request to /api/chat."""

    messages: list[Message] | None = None
    tools: Raw = Raw()


class Generate(Question):
    """A request to /api/generate."""

    prompt: str | None = None
    system: str | None = None
    suffix: str | None = None
    images: list[str] | None = None
    raw: bool | None = None


class Embed(Question):
    """A request to /api/embed."""

    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: Annotated[int, Meta(ge=0, lt=2**31)] | None = None


class LegacyEmbed(Question):
    """A request to /api/embeddings."""

    prompt: str | None = None


class ModelChange(Struct):
    """A request of ollama's API to change what models there are."""

    model: ModelName | None = None
    name: ModelName | None = None
    source: ModelName | None = None
    stream: bool | None = None

    @property
    def wanted(self) -> str:
        """The model's name. LmxdError ``invalid_params`` if none is named."""
        return _named(self.model or self.name or self.source)


def decode(body: bytes, kind: type[T]) -> T:
    """A body as it is wanted. LmxdError ``invalid_params`` names the wrong field; ``invalid_request``: no JSON."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        why, _, field = str(error).partition(" - at `$")
        if field or why.startswith("Object missing"):
            place = field.rstrip("`").lstrip(".")
            raise LmxdError("invalid_params", f"{place}: {why}" if place else why, "docs/gateway.md") from error
        raise LmxdError("invalid_request", f"the body is no such JSON: {why}", "send an object") from error
    except (ValueError, RecursionError) as error:
        raise LmxdError("invalid_request", f"the body is no JSON in UTF-8: {error}", "send an object") from error


def decode_all(body: bytes, kind: type[T]) -> T:
    """The same for a body that becomes many objects. LmxdError ``invalid_request`` if those were too many."""
    return decode(bounded(body), kind)


def bounded(body: bytes) -> bytes:
    """A body that may become objects. LmxdError ``invalid_request`` if those were too many."""
    if body.count(b'"') + body.count(b"{") > _MAX_PARTS:
        raise LmxdError(
            "invalid_request", "the body has too many parts", f"{_MAX_PARTS} quotes and braces are the most"
        )
    return body


def decode_object(body: bytes) -> Mapping[str, Any]:
    """Any JSON object. LmxdError ``invalid_request`` if it is none."""
    return decode_all(body, dict[str, Any])


def wants_stream(body: bytes) -> bool:
    """Whether the answer to a body is to be a stream; False for a body that is for the instance to judge."""
    try:
        return b'"stream"' in body and bool(decode(body, StreamedRequest).stream)
    except LmxdError:
        return False


def named_in(body: bytes, content_type: str) -> NamedRequest:
    """The model that a body names, which is JSON or a form. LmxdError as ``decode``, or if it is no such form."""
    if not is_form(content_type):
        return decode(body, NamedRequest)
    fields = short_fields(body, content_type, ("model", "stream"))
    said: dict[str, Any] = dict(fields) | ({"stream": fields["stream"] == "true"} if "stream" in fields else {})
    return decode(msgspec.json.encode(said), NamedRequest)
