"""The checksum of a file whose server says it at a URL of its own, since it takes as long as to read the file."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.request import OpenerDirector

from lmxd.errors import LmxdError
from lmxd.models.ranges import BROKEN, opened, shown
from lmxd.models.reference import is_reference

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_ASKED: Final = 360
"""Times that it is asked for: a server that computes it answers 202 some 10 s after it was asked."""


def checksum_for(url: str, said: str | None, opener: OpenerDirector | None = None) -> str | Callable[[], str] | None:
    """The checksum of the file behind a URL, or how it is found out.

    ``said``: itself, its URL, or what stands behind the file's URL there: ``.sha256``.
    """
    if said is None or not (said.startswith(".") or is_reference(said)):
        return said
    return partial(checksum_at, f"{url}{said}" if said.startswith(".") else said, opener)


def checksum_at(url: str, opener: OpenerDirector | None = None) -> str:
    """The SHA-256 that is all of what a URL leads to. LmxdError ``model_file_missing`` if it is none.

    As long as its server answers 202 it is asked again.
    """
    try:
        for _ in range(_ASKED):
            with opened(url, {}, 0, opener=opener) as answer:
                if answer.status == HTTPStatus.ACCEPTED:
                    continue
                said = answer.read(100).decode("ascii", "replace").strip()
                if _SHA256.fullmatch(said):
                    return str(said)
                break
    except BROKEN as error:
        raise LmxdError(
            "model_file_missing", f"{shown(url)}: {error}", "try again: what was fetched is kept"
        ) from error
    raise LmxdError("model_file_missing", f"{shown(url)} does not say a SHA-256", "say it by --sha256")
