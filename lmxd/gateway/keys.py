"""API keys of the gateway. The file holds hashes alone: it may be read by anybody, and a key is shown once."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError

_PREFIX: Final = "lmxd-"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE: Final = re.compile(rf"({_NAME.pattern})\s+sha256:([0-9a-f]{{64}})(\s+admin)?")


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a key. ``admin`` may stop, pin and have devices yielded, and sees what belongs to whom."""

    name: str
    admin: bool


def _hash(key: str) -> str:
    """Keys are random and long: no salt is needed, and none of the slow hashes. Any bytes of a header have a hash."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


class Keys:
    """The known keys, as a table of hashes: how long a look-up takes says nothing of the key."""

    def __init__(self, path: Path) -> None:
        """LmxdError ``config`` if the file cannot be used."""
        self._callers: dict[str, Caller] = {}
        for number, line in enumerate(_lines(path), start=1):
            words = line.partition("#")[0].strip()
            if not words:
                continue
            if (match := _LINE.fullmatch(words)) is None:
                raise LmxdError("config", f"{path}, line {number} is no key", "lmxd key NAME adds one")
            self._callers[match[2]] = Caller(match[1], admin=match[3] is not None)

    def caller(self, key: str) -> Caller | None:
        return self._callers.get(_hash(key))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise LmxdError("config", f"gateway.keys_file {path}: {why}", "lmxd key NAME makes it") from error


def add(path: Path, name: str, *, admin: bool) -> str:
    """A new key, in the place of an older one of that name. LmxdError if the file cannot be used."""
    if _NAME.fullmatch(name) is None:
        raise LmxdError("config", f"{name!r} is no name for a key", "use letters, digits and . _ -")
    if path.exists():
        Keys(path)  # a file that is none of ours is left alone
    kept = [x for x in (_lines(path) if path.exists() else []) if x.split() and x.split()[0] != name]
    key = _PREFIX + secrets.token_urlsafe(32)
    line = f"{name} sha256:{_hash(key)}" + (" admin" if admin else "")
    _write(path, "\n".join((*kept, line, "")))
    return key


def _write(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w", encoding="utf-8") as file:
            file.write(text)
        beside.replace(path)
    except OSError as error:
        raise LmxdError("config", f"{path}: {error.strerror}", "run as root, or choose another keys_file") from error
