"""A model behind URLs as Hugging Face has them: a directory with config.json, weights in *.safetensors, a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote, unquote, urlsplit
from urllib.request import OpenerDirector

from lmxd.errors import LmxdError
from lmxd.models.checksums import checksum_for
from lmxd.models.fetching import fetch
from lmxd.models.ranges import copy_header, shown
from lmxd.models.reference import is_reference
from lmxd.safetensors.files import CONFIG, INDEXES, MAX_DOCUMENT, MAX_FILES, TEXTS, is_document, is_plain
from lmxd.safetensors.header import read_header

_CHUNK: Final = 2**17
"""Bytes of a header that are asked for at once. Those of real files have 10 KB to 2 MB."""
_MOST_HEADERS: Final = 512 * 2**20
"""Bytes of all headers together. Those of the largest models have 50 MB."""


def is_directory(words: str) -> bool:
    """Whether the URL of a directory's config.json is meant."""
    return is_reference(words) and urlsplit(words).path.endswith(f"/{CONFIG}")


@dataclass(frozen=True, kw_only=True, slots=True)
class UrlDirectory:
    """A model's directory at a server. ``url``: of its config.json; the others are beside it.

    ``sizes``: bytes of each file by its name, which are all that belongs to it.
    ``sha256``: what stands behind each file's URL at that of its checksum; None where nobody says one.
    ``opener``: as for ``lmxd.models.ranges.opened``.
    """

    url: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    sha256: str | None = None
    opener: OpenerDirector | None = None

    @property
    def name(self) -> str:
        """Its name, unless another is said."""
        return unquote(urlsplit(self.url).path.split("/")[-2]) or "model"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    def require_files(self) -> None:
        """LmxdError ``invalid_params`` if its files are none of a model, or may not be there."""
        if CONFIG not in self.sizes:
            raise _wrong(f"--size is not said of {CONFIG}", "say it of each file of the directory")
        if found := [name for name in self.sizes if not is_plain(name)]:
            raise _wrong(
                f"--size {found[0][:200]!r} is neither of weights nor of a document beside them", "leave it out"
            )
        if found := [name for name in self.sizes if is_document(name) and self.sizes[name] > MAX_DOCUMENT]:
            raise _wrong(f"--size {found[0]} {self.sizes[found[0]]}: {MAX_DOCUMENT} at most", "see whether it is one")
        if len(self.sizes) > 2 * MAX_FILES:
            raise _wrong(f"{len(self.sizes)} files are more than {2 * MAX_FILES}", "say those of one model")
        if self.sha256 is not None and not self.sha256.startswith("."):
            raise _wrong(f"--sha256 {self.sha256} is of one file", "say .ENDING, of the URLs of all checksums")

    def require_alone(self, directory: Path) -> None:
        """LmxdError ``config`` if there are other files: an engine would take them for this model's."""
        own = {*self.sizes, *(f"{name}.part" for name in self.sizes)}
        there = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
        if others := [name for name in there if name not in own]:
            what = f"{directory} has {others[0]}, which is no file of this model"
            raise LmxdError("config", what, "move that directory away, or name another with --to")

    def left(self, directory: Path) -> int:
        """Bytes that have not come there yet."""
        there = (path.stat().st_size for name in self._names() for path in _either(directory / name))
        return max(0, self.size - sum(there))

    def hollow(self, directory: Path) -> None:
        """Have there what says how many bytes it takes: documents, and weights as holes behind their headers.

        LmxdError as ``fetch``, and ``bad_model_file`` for weights of another size than was said.
        """
        for name in (CONFIG, *TEXTS, *INDEXES):
            if name in self.sizes:
                fetch(self._url(name), directory, lambda *_: None, opener=self.opener, size=self.sizes[name])
        headers = 0
        for name in filter(lambda name: not is_document(name), self._names()):
            url, path = self._url(name), directory / name
            copy_header(url, {}, path, self.opener, read=partial(_read, name), chunk=_CHUNK)
            headers += path.stat().st_blocks * 512
            if path.stat().st_size != self.sizes[name]:
                what = f"{shown(url)}: it has {path.stat().st_size} bytes, and {self.sizes[name]} were said"
                raise LmxdError("bad_model_file", what, "fetch it from elsewhere")
            if headers > _MOST_HEADERS:
                raise LmxdError("bad_model_file", f"{shown(url)}: its headers do not end", "do not use this model")

    def fetched(self, directory: Path, told: Callable[[str, int, int], None]) -> None:
        """Its files, the last of which makes it a model. ``told`` as for ``UrlModel``. LmxdError as ``fetch``."""
        for name in self._names():
            url = self._url(name)
            checksum = checksum_for(url, self.sha256, self.opener)
            fetch(url, directory, partial(told, name), checksum, opener=self.opener, size=self.sizes[name])

    def _names(self) -> Iterator[str]:
        """The names of all files, config.json as the last."""
        yield from sorted(self.sizes, key=lambda name: (name == CONFIG, name))

    def _url(self, name: str) -> str:
        path, mark, query = self.url.partition("?")
        return f"{path.removesuffix(CONFIG)}{quote(name)}{mark}{query}"


def _either(path: Path) -> Iterator[Path]:
    """A file, and what has come of it, of those that there are."""
    yield from (each for each in (path, path.with_name(f"{path.name}.part")) if each.is_file())


def _read(name: str, file: BinaryIO, size: int) -> object:
    return read_header(file, size, name)


def _wrong(what: str, remedy: str) -> LmxdError:
    return LmxdError("invalid_params", what, remedy)
