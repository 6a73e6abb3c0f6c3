"""A model's files as its node offers them to others, and where."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from urllib.parse import quote

from pydantic import Field, model_validator

from lmxd.config.copied import BesideKey
from lmxd.rpc.messages import Result
from lmxd.safetensors.files import CONFIG, is_plain

PREFIX: Final = "/fleet/files"
"""The beginning of the paths of files at a node's door."""
_PLAIN: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}"
_PLAIN_NAME: Final = re.compile(_PLAIN)
_PART: Final = re.compile(r"-[0-9]{5}-of-[0-9]{5}$")
MOST_FILES: Final = 1100
SHA256: Final = ".sha256"
"""Behind the path of a file: its checksum as 64 digits, or 202 as long as it is computed."""


class OfferedFile(Result):
    """A file: its name where it comes to, and its bytes. ``key``: of the profile that names it; null: the model's."""

    file: str = Field(pattern=rf"^{_PLAIN}$")
    size: int = Field(ge=1)
    key: BesideKey | None = None


class Manifest(Result):
    """A model's files, all parts of its own first and in order; and ``settings`` of its profile, without any path.

    Of a directory for vLLM all that counts on any box. ``code``: files of it that are left out, since they are run.
    """

    model: str
    files: list[OfferedFile] = Field(min_length=1, max_length=MOST_FILES)
    settings: dict[str, Any] = Field({})
    code: list[Annotated[str, Field(pattern=rf"^{_PLAIN}$")]] = Field([], max_length=MOST_FILES)

    @property
    def is_directory(self) -> bool:
        return any(each.file == CONFIG for each in self.files)

    @property
    def first(self) -> str:
        """The file that stands for all."""
        return CONFIG if self.is_directory else self.files[0].file

    @model_validator(mode="after")
    def _of_one_kind(self) -> Manifest:
        names = [each.file for each in self.files]
        fits = is_plain if self.is_directory else _is_gguf
        if wrong := [name for name in names if not fits(name)]:
            raise ValueError(f"{wrong[0]} is no file of such a model")
        if self.is_directory and (len(set(names)) < len(names) or any(each.key for each in self.files)):
            raise ValueError("a file of a directory has one name, and no key")
        return self

    @property
    def size(self) -> int:
        return sum(each.size for each in self.files)


def _is_gguf(name: str) -> bool:
    return name.endswith(".gguf")


def file_name(model: str, own: str, beside: str = "") -> str:
    """The name of a copy: that of the model, so that a directory without profiles serves it by the same; else its own.

    ``own``: the name that the file has, with letters of any kind; the number of a part stays. ``beside``: such as
    ``mmproj``, for a file that goes with the model.
    """
    stem = own.removesuffix(".gguf")
    part = found[0] if (found := _PART.search(stem)) and not beside else ""
    plain = model if _PLAIN_NAME.fullmatch(model) else re.sub(r"[^A-Za-z0-9._+-]+", "-", stem.removesuffix(part))
    named = plain.strip("-.") or "model"
    return f"{beside}-{named}.gguf" if beside else f"{named}{part}.gguf"


def path_of(model: str, file: str = "") -> str:
    """The path of a model's manifest; of its ``file``, if that is named."""
    return f"{PREFIX}/{quote(model, safe='')}" + (f"/{quote(file, safe='')}" if file else "")
