"""A model's file as its node offers it to others, and where."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from pydantic import Field

from lmxd.rpc.messages import Result

PREFIX: Final = "/fleet/files"
"""The beginning of the paths of files at a node's door."""
_PLAIN: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}"
_PLAIN_NAME: Final = re.compile(_PLAIN)
SHA256: Final = ".sha256"
"""Behind the path of a file: its checksum as 64 digits, or 202 as long as it is computed."""


class Manifest(Result):
    """A model's file: its name where it comes to, and its bytes."""

    model: str
    file: str = Field(pattern=rf"^{_PLAIN}\.gguf$")
    size: int = Field(ge=1)


def file_name(model: str, own: str) -> str:
    """The name of a copy: that of the model, so that a directory without profiles serves it by the same; else its own.

    ``own``: the name that the file has, with letters of any kind.
    """
    stem = model if _PLAIN_NAME.fullmatch(model) else re.sub(r"[^A-Za-z0-9._+-]+", "-", own.removesuffix(".gguf"))
    return f"{stem.strip('-.') or 'model'}.gguf"


def path_of(model: str, file: str = "") -> str:
    """The path of a model's manifest; of its ``file``, if that is named."""
    return f"{PREFIX}/{quote(model, safe='')}" + (f"/{quote(file, safe='')}" if file else "")
