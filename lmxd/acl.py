"""Access control lists of files (acl(5)): more groups or users than a file's own, in the kernel's format."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

_VERSION: Final = 2
_NOBODY: Final = 0xFFFFFFFF
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def open_to(path: Path, gid: int) -> None:
    """Give a group the rights that the file's own group has; in a directory, on what is made in it, too.

    A file made there with mode 0600 stays its owner's. Raises OSError: not ours, or a file system without lists.
    """
    found = path.stat()
    mode = found.st_mode
    owner, group, others = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    os.setxattr(path, "system.posix_acl_access", _with_group(owner, group, others, gid))
    if path.is_dir():
        os.setxattr(path, "system.posix_acl_default", _with_group(7, 7, 0, gid))


def open_to_users(path: Path, uids: Iterable[int]) -> None:
    """Let some users read and write a file, beside its owner and root, and nobody else. Raises OSError as above."""
    users = [(_USER, 6, uid) for uid in sorted(set(uids) - {path.stat().st_uid, 0})]
    mask = [(_MASK, 6, _NOBODY)] if users else []  # without both, it is a mere mode
    entries = [(_USER_OBJ, 6, _NOBODY), *users, (_GROUP_OBJ, 0, _NOBODY), *mask, (_OTHER, 0, _NOBODY)]
    os.setxattr(path, "system.posix_acl_access", _acl(entries))


def _with_group(owner: int, group: int, others: int, gid: int) -> bytes:
    return _acl(
        [
            (_USER_OBJ, owner, _NOBODY),
            (_GROUP_OBJ, group, _NOBODY),
            (_GROUP, group, gid),
            (_MASK, group, _NOBODY),
            (_OTHER, others, _NOBODY),
        ]
    )


def _acl(entries: Sequence[tuple[int, int, int]]) -> bytes:
    """The list as the kernel takes it: entries in the order of their tags, all little-endian."""
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
