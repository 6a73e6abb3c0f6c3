"""A file behind a URL is fetched: gone on with where it was broken off, whole before it has its name."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import OpenerDirector

from lmxd.errors import LmxdError
from lmxd.files import open_regular, sha256_of
from lmxd.models.ranges import BROKEN, opened, shown

_BLOCK: Final = 2**20
_SPARE: Final = 2**30
"""Bytes of a disk that are left free, however long the file is."""
_RANGE: Final = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)")
_LENGTH: Final = re.compile(r"\d{1,18}")
_AGAIN: Final = "try again: what was fetched is kept"


def fetch(
    url: str,
    directory: Path,
    told: Callable[[int, int], None],
    sha256: str | Callable[[], str] | None = None,
    spare: int = _SPARE,
    opener: OpenerDirector | None = None,
    size: int = 0,
) -> Path:
    """Fetch a file into a directory. ``told`` hears of bytes fetched, of how many, which is 0 if nobody says.

    ``sha256``: its checksum, or how it is found out once the file has come. ``size``: its bytes, where they are known:
    no more are taken. One that is there with this checksum and ``size`` is not fetched again.

    LmxdError ``model_file_missing``; ``bad_model_file`` if its checksum or ``size`` is another; ``config`` if the
    disk would have less than ``spare`` bytes left.
    """
    path = directory / Path(unquote(urlsplit(url).path)).name
    partial = path.with_name(f"{path.name}.part")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if size and sha256 is not None and _is_there(path, size, sha256):
            told(size, size)
            return path
        first = partial.stat().st_size if partial.exists() else 0
        try:
            with opened(url, {}, first, opener=opener) as answer:
                found, whole = _received(answer, url, partial, first, told, _Bounds(size, spare))
        except LmxdError as error:
            if not _ended_at(first, error):
                raise
            found, whole = first, size or first
        if found < whole:
            problem = f"{shown(url)}: it ended after {found} of {whole} bytes"
            raise LmxdError("model_file_missing", problem, _AGAIN)
        if sha256 is not None:
            _require(partial, _said(sha256), url)
        partial.replace(path)
    except BROKEN as error:
        raise LmxdError("model_file_missing", f"{shown(url)}: {error}", _AGAIN) from error
    return path


def _said(sha256: str | Callable[[], str]) -> str:
    return (sha256 if isinstance(sha256, str) else sha256()).lower()


def _is_there(path: Path, size: int, sha256: str | Callable[[], str]) -> bool:
    """Whether a file has come before: of several, those behind it may have been broken off."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != size:
        return False
    return sha256_of(path) == _said(sha256)


def _require(partial: Path, sha256: str, url: str) -> None:
    if sha256_of(partial) != sha256:
        partial.unlink()
        remedy = "check it, or fetch it from elsewhere"
        raise LmxdError("bad_model_file", f"{shown(url)}: its SHA-256 is another", remedy)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """``size``: bytes that a file is to have, 0 if nobody says. ``spare``: bytes that the disk is to have left."""

    size: int
    spare: int

    def require(self, partial: Path, at: int, more: int, url: str) -> None:
        """LmxdError if a file that has ``at`` bytes may not have so many more.

        ``bad_model_file`` if it would be longer than was said, and then it is removed; ``config`` if the disk is full.
        """
        if self.size and at + more > self.size:
            partial.unlink()
            what = f"{shown(url)}: it is longer than the {self.size} bytes that were said"
            raise LmxdError("bad_model_file", what, "fetch it from elsewhere")
        if more > shutil.disk_usage(partial.parent).free - self.spare:
            problem = f"{partial.parent} has not room for it: {more / 2**30:.2f} GiB, beside those left free"
            raise LmxdError("config", problem, "make room, or name another directory with --to")


def _received(
    answer: Any, url: str, partial: Path, first: int, told: Callable[[int, int], None], bounds: _Bounds
) -> tuple[int, int]:
    """(the bytes that a partial file has in the end, those that it is to have). OSError, HTTPException, LmxdError."""
    goes_on = answer.status == 206 and _begins_at(answer, first)
    if answer.status == 206 and not goes_on:
        problem = f"{shown(url)}: its server sends another part than was asked for"
        raise LmxdError("model_file_missing", problem, f"remove {partial}, and fetch it anew")
    length = answer.headers.get("Content-Length") or ""
    begin = first if goes_on else 0
    whole = bounds.size or (begin + int(length) if _LENGTH.fullmatch(length) else 0)
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if goes_on else os.O_TRUNC)
    with open(open_regular(partial, flags, 0o644), "ab" if goes_on else "wb") as file:
        if bounds.size:  # what is said to be whole may be said by anybody
            bounds.require(partial, begin, max(0, whole - begin), url)
        while block := answer.read(_BLOCK):
            bounds.require(partial, file.tell(), len(block), url)
            file.write(block)
            told(file.tell(), whole)
        os.fsync(file.fileno())
        return file.tell(), whole


def _ended_at(size: int, error: LmxdError) -> bool:
    """Whether a server refuses because nothing comes after so many bytes: a fetch may have been killed just then."""
    refused = error.__cause__
    if not isinstance(refused, HTTPError) or refused.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return False
    return size > 0 and refused.headers.get("Content-Range") == f"bytes */{size}"


def _begins_at(answer: Any, first: int) -> bool:
    """Whether a part of a file begins where it was asked to."""
    match = _RANGE.fullmatch(answer.headers.get("Content-Range") or "")
    return match is not None and int(match[1]) == first
