"""A file behind a URL is fetched: gone on with where it was broken off, whole before it has its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from lmxd.errors import LmxdError
from lmxd.files import sha256_of
from lmxd.models.ranges import opened, shown

_BLOCK: Final = 2**20


def fetch(url: str, directory: Path, told: Callable[[int, int], None], sha256: str | None = None) -> Path:
    """Fetch a file into a directory. ``told`` hears of bytes fetched, of how many.

    LmxdError ``model_file_missing``; ``bad_model_file`` if its checksum is another than ``sha256``.
    """
    path = directory / Path(unquote(urlsplit(url).path)).name
    directory.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    first = partial.stat().st_size if partial.exists() else 0
    try:
        with opened(url, {}, first) as answer:
            goes_on = answer.status == 206
            first = first if goes_on else 0
            whole = first + int(answer.headers.get("Content-Length") or 0)
            with partial.open("ab" if goes_on else "wb") as file:
                while block := answer.read(_BLOCK):
                    file.write(block)
                    told(file.tell(), whole)
                os.fsync(file.fileno())
    except OSError as error:
        raise LmxdError(
            "model_file_missing", f"{shown(url)}: {error}", "try again: what was fetched is kept"
        ) from error
    if (size := partial.stat().st_size) < whole:
        problem = f"{shown(url)}: it ended after {size} of {whole} bytes"
        raise LmxdError("model_file_missing", problem, "try again: what was fetched is kept")
    if sha256 is not None and sha256_of(partial) != sha256.lower():
        partial.unlink()
        raise LmxdError(
            "bad_model_file", f"{shown(url)}: its SHA-256 is another", "check it, or fetch it from elsewhere"
        )
    partial.replace(path)
    return path
