"""Tokens that were given out, and not used yet: a file for each, named by the hash of its secret, which no file has."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from lmxd.errors import LmxdError
from lmxd.fleet import private_files
from lmxd.fleet.join_word import new_secret
from lmxd.fleet.members import MemberRole

LIFETIME: Final = 15 * 60.0
"""Seconds that a token counts."""


class TokenOffer(msgspec.Struct, frozen=True, kw_only=True):
    """The purpose of a token. ``name``: the one box that may use it, also to take its own place; None for any new one.

    ``until``: seconds since 1970.
    """

    roles: tuple[MemberRole, ...]
    name: str | None
    until: float


class TokenFiles:
    """Tokens as files of a directory. ``now``: seconds since 1970."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def issue(self, offer: TokenOffer, now: float) -> bytes:
        """The secret of a new token. Old ones are removed."""
        secret = new_secret()
        private_files.write(self._path(secret), msgspec.json.encode(offer))
        for path in self._directory.glob("*.json"):
            with suppress(OSError, ValueError):
                if self._read(path).until <= now:
                    path.unlink()
        return secret

    def look(self, secret: bytes, now: float) -> TokenOffer:
        """The purpose of a token. LmxdError ``not_permitted`` if it does not count."""
        try:
            offer = self._read(self._path(secret))
        except (OSError, ValueError) as error:
            raise _refused() from error
        if offer.until <= now:
            raise _refused()
        return offer

    def redeem(self, secret: bytes) -> None:
        """Use it up. LmxdError ``not_permitted`` if somebody else was quicker."""
        try:
            self._path(secret).unlink()
        except FileNotFoundError as error:
            raise _refused() from error

    def _read(self, path: Path) -> TokenOffer:
        return msgspec.json.decode(path.read_bytes(), type=TokenOffer)

    def _path(self, secret: bytes) -> Path:
        return self._directory / f"{hashlib.sha256(secret).hexdigest()}.json"


def _refused() -> LmxdError:
    """One sentence for all: a stranger learns nothing from it."""
    what = "this token was used, is older than 15 minutes, or was never given out"
    return LmxdError("not_permitted", what, "lmxd fleet token prints another one, on the box of the authority")
