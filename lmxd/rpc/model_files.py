"""Messages about the file of a model, and what it can do."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from lmxd.rpc.messages import Params, Result

CAPABILITIES: Final = "of completion, embedding, rerank, tools, vision, audio and thinking"


class ModelFileInfo(Result):
    """The file of a model."""

    size: int = Field(description="bytes of all its parts")
    modified: float = Field(description="seconds since 1970")
    digest: str = Field(description="64 hexadecimal digits that stay the same as long as the file does")
    architecture: str
    format: str = Field("gguf", description="gguf or safetensors")
    parameters: int = Field(description="how many; 0 if it does not say")
    quantization: str
    trained_ctx: int | None = Field(description="tokens of the context for which the model was trained")


class ShowParams(Params):
    """The model to describe."""

    model: str


class Shown(Result):
    """A model as its file describes it."""

    model: str
    file: ModelFileInfo | None = Field(description="null for a model that has none here")
    capabilities: list[str] = Field(description=CAPABILITIES)
    metadata: dict[str, int | float | bool | str] = Field(description="the file's, but for lists")
    template: str | None = Field(description="the template of its chats")
