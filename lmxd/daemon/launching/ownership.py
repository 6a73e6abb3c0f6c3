"""Gives the files of an instance to the user that its engine runs as."""

from __future__ import annotations

import os
from typing import Final

from lmxd.accounts import SystemUser
from lmxd.daemon.launching.launched import Start
from lmxd.engines.launching import socket_path

_SHARED: Final = 0o2750
"""For the engine to write, and for the group of the home to enter: sockets made there are of that group, too."""


def hand_over(start: Start, account: SystemUser) -> None:
    """Have ``account`` own the key, its own directory and the prompt cache of an instance. Raises OSError.

    The home stays ours, so that nobody can put a link where these are. Only for root.
    """
    address, home = start.address, start.plan.home
    assert address is not None
    os.chown(address.key_file, account.uid, -1, follow_symlinks=False)
    own = socket_path(home, start.plan.instance).parent
    if address.socket is not None:
        os.chown(own, account.uid, home.stat().st_gid, follow_symlinks=False)
        own.chmod(_SHARED)
    elif own.is_dir():  # with settings that nobody else may read
        for path in (own, *own.iterdir()):
            os.chown(path, account.uid, -1, follow_symlinks=False)
    passed = [home]
    if start.plan.prompts is not None:
        os.chown(start.plan.prompts, account.uid, -1, follow_symlinks=False)
        passed += start.plan.prompts.parents[:2]
    for directory in passed:  # to pass through, not to look around
        directory.chmod(directory.stat().st_mode | 0o001)
