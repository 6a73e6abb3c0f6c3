"""A model behind URLs: its file, or all parts of it, and the files that go with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import OpenerDirector

from lmxd.config.copied import BesideKey
from lmxd.errors import LmxdError
from lmxd.gguf.split import MAX_PARTS
from lmxd.models.checksums import checksum_at
from lmxd.models.fetching import fetch
from lmxd.models.quants import stem_of
from lmxd.models.ranges import copy_header, shown
from lmxd.models.reference import is_reference

_PART: Final = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})\.gguf", re.DOTALL)
_WORDS: Final = {"mmproj": "--mmproj", "draft": "--model-draft", "lora": "--lora"}
"""llama-server's for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UrlModel:
    """A model at a server. ``url``: of its file, or of the first part. ``beside``: further files by their keys.

    ``sizes``: bytes of each file by its name; empty where nobody says them.
    ``sha256``: the checksum of a file alone, the URL of it, or what stands behind each file's URL there: ``.sha256``.
    ``opener``: as for ``lmxd.models.ranges.opened``.
    """

    url: str
    beside: Sequence[tuple[BesideKey, str]] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    sha256: str | None = None
    opener: OpenerDirector | None = None

    def parts(self) -> list[str]:
        """The URLs of its file, or of all parts. LmxdError ``invalid_params`` if it is a later one of them."""
        path, mark, query = self.url.partition("?")
        if (found := _PART.fullmatch(path)) is None:
            return [self.url]
        number, count = int(found[2]), int(found[3])
        if number != 1 or not 1 <= count <= MAX_PARTS:
            what = f"{shown(self.url)} is part {number} of {count}"
            raise LmxdError("invalid_params", what, "say the URL of the first part")
        return [f"{found[1]}-{each:05}-of-{count:05}.gguf{mark}{query}" for each in range(1, count + 1)]

    @property
    def name(self) -> str:
        """Its name, unless another is said."""
        return stem_of(file_of(self.url))

    def paths(self, directory: Path) -> list[Path]:
        """Where its files come to."""
        return [directory / name for name in self._names()]

    def require_sizes(self) -> None:
        """LmxdError ``invalid_params`` if some files have a size and others have none: such may be of any."""
        if self.sizes and (unsaid := [name for name in self._names() if name not in self.sizes]):
            raise LmxdError("invalid_params", f"--size is not said of {', '.join(unsaid[:3])}", "say it of each file")

    def _names(self) -> list[str]:
        return [file_of(url) for url in (*self.parts(), *(url for _, url in self.beside))]

    def headers(self, directory: Path) -> tuple[Path, tuple[str, ...]]:
        """Its files there as holes behind their headers: the first, and llama-server's words for those beside it."""
        paths = [self._header(url, directory) for url in self.parts()]
        words: list[str] = []
        for key, url in self.beside:
            words += [_WORDS[key], str(self._header(url, directory / "beside"))]
        return paths[0], tuple(words)

    def fetched(
        self, directory: Path, told: Callable[[str, int, int], None]
    ) -> tuple[Path, list[tuple[BesideKey, Path]]]:
        """Its first file, and those beside it. ``told`` hears of each by name: bytes fetched, of how many.

        LmxdError as ``fetch``.
        """
        paths = [self._fetched(url, directory, told) for url in self.parts()]
        return paths[0], [(key, self._fetched(url, directory, told)) for key, url in self.beside]

    def _header(self, url: str, directory: Path) -> Path:
        path = directory / file_of(url)
        copy_header(url, {}, path, self.opener)
        return path

    def _fetched(self, url: str, directory: Path, told: Callable[[str, int, int], None]) -> Path:
        there = partial(told, file_of(url))
        size = self.sizes.get(file_of(url), 0)
        return fetch(url, directory, there, self._checksum(url), opener=self.opener, size=size)

    def _checksum(self, url: str) -> str | Callable[[], str] | None:
        said = self.sha256
        if said is None or not (said.startswith(".") or is_reference(said)):
            return said
        return partial(checksum_at, f"{url}{said}" if said.startswith(".") else said, self.opener)


def file_of(url: str) -> str:
    """The name of the file behind a URL."""
    return Path(unquote(urlsplit(url).path)).name


def with_files(settings: dict[str, Any], files: Sequence[tuple[BesideKey, Path]]) -> dict[str, Any]:
    """The settings of a profile with the paths of the files beside it: each adapter and its other settings in order."""
    made = dict(settings)
    adapters = [dict(each) for each in settings.get("lora", ())]
    used = 0
    for key, path in files:
        if key == "mmproj":
            made["mmproj"] = str(path)
        elif key == "draft":
            made["draft"] = {**settings.get("draft", {}), "path": str(path)}
        else:
            adapters[used : used + 1] = [{**(adapters[used] if used < len(adapters) else {}), "path": str(path)}]
            used += 1
    if used:
        made["lora"] = adapters[:used]
    return made
