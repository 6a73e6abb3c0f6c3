"""A user's own directories, as the XDG Base Directory specification has them."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from lmxd.errors import LmxdError


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's home: HOME, if it is an absolute path, else that of the account. LmxdError ``config`` if neither."""
    if (said := environ.get("HOME", "")).startswith("/"):
        return Path(said)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError as error:
        raise LmxdError("config", f"the home of uid {os.getuid()} is not known", "set HOME") from error


def own_directory(variable: str, usual: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The directory that a variable names, which counts if it is an absolute path; else the usual one in the home.

    LmxdError ``config`` as ``home``.
    """
    named = environ.get(variable, "")
    return Path(named) if named.startswith("/") else home(environ) / usual
