"""Files behind a URL, read from some byte on: of a model, its header suffices for an estimate."""

from __future__ import annotations

import http.client
import io
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import Message
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast
from urllib.parse import urlsplit
from urllib.request import OpenerDirector

from lmxd.errors import LmxdError
from lmxd.gguf.header import read_header

CHUNK: Final = 4 * 2**20
"""Bytes that are asked for at once. Most headers, which have the vocabulary, are of 3 to 12 MB."""
_LARGEST_HEADER: Final = 512 * 2**20
_TIMEOUT: Final = 30.0
"""Seconds for which a server may say nothing."""
BROKEN: Final = (OSError, http.client.HTTPException, ValueError)
"""A network, or a server that does not speak HTTP, or a name that no file can have."""
_SCHEMES: Final = ("http", "https")
_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTP. A token is for the host that it was given for: the hub sends to hosts of others.

    Nor does it go from a connection that nobody can read to one that all can.
    """

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        there, here = urlsplit(newurl), urlsplit(req.full_url)
        if there.scheme not in _SCHEMES:
            raise urllib.error.URLError(f"it leads to {there.scheme}:, which is not followed")
        made = super().redirect_request(req, fp, code, msg, cast("Any", headers), newurl)
        if made is not None and (there.netloc != here.netloc or (there.scheme, here.scheme) == ("http", "https")):
            made.remove_header("Authorization")
        return made


_OPENER: Final = urllib.request.build_opener(_Redirects)


def opened(
    url: str, headers: Mapping[str, str], first: int, last: int | None = None, opener: OpenerDirector | None = None
) -> Any:
    """The answer to a request for bytes ``first`` to ``last``. LmxdError ``model_file_missing`` if it is refused.

    ``opener``: connects, by default to anybody whom the system trusts.
    """
    end = "" if last is None else str(last)
    asked = {**headers, "Range": f"bytes={first}-{end}", "Accept-Encoding": "identity"}
    try:
        request = urllib.request.Request(url, headers=asked)  # noqa: S310 (a reference has no other scheme)
        return (opener or _OPENER).open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        remedy = "check its name; for a gated model, accept its terms and set HF_TOKEN"
        raise LmxdError("model_file_missing", f"{shown(url)}: {error.code} {error.reason}", remedy) from error
    except BROKEN as error:
        why = getattr(error, "reason", None) or error
        raise LmxdError("model_file_missing", f"{shown(url)}: {why}", "check the network, and HF_ENDPOINT") from error


def shown(url: str) -> str:
    """A URL without its query, which may be a signature."""
    return url.partition("?")[0]


class RangeFile(io.RawIOBase):
    """A file behind a URL, read from its beginning on, ``chunk`` by chunk of bytes. ``size``: its bytes."""

    def __init__(
        self, url: str, headers: Mapping[str, str], opener: OpenerDirector | None = None, chunk: int = CHUNK
    ) -> None:
        self._url = url
        self._chunk = chunk
        self._headers = headers
        self._opener = opener
        self._at = 0
        self.data = bytearray()
        """Its beginning, as far as it was read."""
        self.size = self._more()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(self._at + len(buffer), self.size)
        while len(self.data) < wanted:
            self._more()
        found = self.data[self._at : wanted]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _more(self) -> int:
        """Read the next chunk; returns the size of the whole."""
        first = len(self.data)
        if first >= _LARGEST_HEADER:
            raise LmxdError("bad_model_file", f"{shown(self._url)}: its header does not end", "do not use this file")
        with opened(self._url, self._headers, first, first + self._chunk - 1, self._opener) as answer:
            match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if answer.status != 206 or match is None or int(match[1]) != first:
                problem = f"{shown(self._url)}: its server sends no parts of files"
                raise LmxdError("model_file_missing", problem, "fetch it whole: lmxd pull --anyway")
            try:
                read = answer.read(self._chunk)
            except BROKEN as error:
                raise LmxdError("model_file_missing", f"{shown(self._url)}: {error}", "try again") from error
        if not read:
            raise LmxdError("model_file_missing", f"{shown(self._url)}: its server sends nothing", "try again")
        self.data += read
        return int(match[3])


def copy_header(
    url: str,
    headers: Mapping[str, str],
    to: Path,
    opener: OpenerDirector | None = None,
    *,
    read: Callable[[BinaryIO, int], object] = read_header,
    chunk: int = CHUNK,
) -> None:
    """Make ``to`` the file behind a URL with a hole for all that follows its header: its size, but not its bytes.

    ``read``: reads the header of a file of so many bytes, by default a GGUF file's; ValueError: why it is none.
    ``chunk``: bytes that are asked for at once.

    LmxdError ``model_file_missing``, ``bad_model_file``.
    """
    source = RangeFile(url, headers, opener, chunk)
    try:
        read(io.BufferedReader(source), source.size)
    except ValueError as error:
        raise LmxdError("bad_model_file", f"{shown(url)}: {error}", "choose another file") from error
    fresh = to.with_name(f".{to.name}.new")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(source.data)
            file.truncate(source.size)
        fresh.replace(to)
    except (OSError, OverflowError) as error:  # it may be said to be larger than any file
        fresh.unlink(missing_ok=True)
        raise LmxdError("bad_model_file", f"{shown(url)}: {error}", "choose another file") from error
