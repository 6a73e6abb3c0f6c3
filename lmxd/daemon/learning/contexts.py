"""The tokens that conversations of elastic models had, by which the next leases start."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from lmxd.core.words import User
from lmxd.estimate.starts import ConversationSizes, KnownStarts, SizesOf
from lmxd.files import decoded, replace_text

_MOST_KEPT: Final = 512
"""Profiles and users whose conversations are kept; those that had none for longest go first."""


class Contexts:
    """The sizes of conversations by profile and user, in the file ``path``.

    It is a list of [profile, [uid, name] or null, count, start, below, {bucket: weight}], those who had the last
    conversation at the end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        found: dict[SizesOf, ConversationSizes] = {}
        with suppress(OSError, ValueError):
            document = decoded(path.read_text())
            for entry in document if isinstance(document, list) else ():
                if (read := _read(entry)) is not None:
                    found[read[0]] = read[1]
        self.known = KnownStarts(found)
        self._unwritten = False

    def seen(self, profile: str, user: User | None, used: int, steps: Sequence[int]) -> None:
        """A conversation is over that had so many tokens.

        ``user``: whose it was; None where nobody can tell. ``steps``: the contexts of the model, ascending.
        """
        sizes = dict(self.known.sizes)
        for whose in dict.fromkeys(((profile, None), (profile, user))):
            before = sizes.pop(whose, ConversationSizes())
            sizes[whose] = before.seeing(used, steps)
        for old in list(sizes)[:-_MOST_KEPT]:
            del sizes[old]
        self.known, self._unwritten = KnownStarts(sizes), True

    def forget(self, wanted: Callable[[str], bool]) -> int:
        """Drop those of the profiles that are ``wanted``; how many."""
        left = {whose: sizes for whose, sizes in self.known.sizes.items() if not wanted(whose[0])}
        dropped = len(self.known.sizes) - len(left)
        if dropped:
            self.known, self._unwritten = KnownStarts(left), True
            self.write()
        return dropped

    def write(self) -> None:
        """Write them down, if a conversation is over since they were written."""
        if not self._unwritten:
            return
        self._unwritten = False
        document = [
            [profile, user, sizes.count, sizes.start, sizes.below, dict(sizes.buckets)]
            for (profile, user), sizes in self.known.sizes.items()
        ]
        replace_text(self._path, json.dumps(document))  # if not, it is still known until the daemon ends


def _read(entry: Any) -> tuple[SizesOf, ConversationSizes] | None:
    """One entry of the file; None for what is none."""
    match entry:
        case [str(profile), ([int(), str()] | None) as user, int(count), int(start), int(below), dict(weights)]:
            whose: User | None = None if user is None else (user[0], user[1])
        case _:
            return None
    try:
        buckets = {int(bucket): float(weight) for bucket, weight in weights.items()}
    except (TypeError, ValueError, OverflowError):
        return None
    if min(count, start, below) < 0 or not all(0 <= b <= 64 and 0 < w < 100 for b, w in buckets.items()):
        return None
    return (profile, whose), ConversationSizes(buckets=buckets, count=count, start=start, below=below)
