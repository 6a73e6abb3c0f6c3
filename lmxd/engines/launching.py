"""Parts of every engine's launch: its key in a file, its socket's path, and whose child it is."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket
from typing import Final

from lmxd.engines.engine import Plan
from lmxd.errors import LmxdError
from lmxd.files import file_name, remove_tree

SOCKET_PATH_MAX: Final = 107
"""Bytes of a Unix socket's path: sun_path has 108, and the last is 0 (unix(7))."""
SOCKET_NAME_MAX: Final = 21
"""Bytes that a home must leave for any instance's socket: one whose name is too long has a digest for its own."""
KEY: Final = re.compile(rb"[A-Za-z0-9_-]{43}\n")
"""A key's file, as ``new_key`` writes it: 32 bytes in base64."""
_SETTINGS: Final = "settings.yaml"
"""The name of a file with settings that no command line may say. SGLang takes none without this end."""
_SOCKET: Final = "s.sock"
"""The name of a socket in its instance's directory. llama-server takes a host for a socket by how it ends."""


def socket_path(home: Path, instance: str) -> Path:
    """The path of an instance's Unix socket, in a directory of its own: who runs it need not write into ours."""
    path = home / file_name(instance) / _SOCKET
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        path = home / hashlib.sha256(instance.encode()).hexdigest()[:14] / _SOCKET
    return path


def key_path(home: Path, instance: str) -> Path:
    """The path of the file with an instance's API key."""
    return home / f"{file_name(instance)}.key"


def temporary_path(home: Path, instance: str) -> Path:
    """The directory for an instance's temporary files. Its name is short: engines bind Unix sockets there, too."""
    return home / f"t-{hashlib.sha256(instance.encode()).hexdigest()[:10]}"


def record_path(home: Path, instance: str) -> Path:
    """The file that names what an instance shares in /dev/shm."""
    return home / f"{file_name(instance)}.shm"


def temporary(plan: Plan) -> dict[str, str]:
    """Environment: where temporary files go, unless something else is said. PrivateTmp's /tmp ends with our unit, an
    engine's files there would be gone though it runs on."""
    return {"TMPDIR": str(temporary_path(plan.home, plan.instance))}


def free_socket(plan: Plan) -> Path:
    """The path of an instance's Unix socket, with nothing there. LmxdError if it cannot be had."""
    path = socket_path(plan.home, plan.instance)
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise LmxdError("config", f"socket {path} is longer than {SOCKET_PATH_MAX} bytes", "choose a shorter --socket")
    try:
        path.parent.mkdir(mode=0o750, exist_ok=True)
        _open_as(path.parent, plan.home)
        path.unlink(missing_ok=True)  # no engine binds over one that is there
    except OSError as error:
        raise LmxdError("internal", f"{path}: {error.strerror}", "check the runtime directory") from error
    return path


def _open_as(directory: Path, home: Path) -> None:
    """Let the home's group pass, whatever umask and group we have. Raises OSError."""
    wanted, found = home.stat(), directory.stat()
    if found.st_gid != wanted.st_gid:  # the unit refuses the call, and has no need of it
        os.chown(directory, -1, wanted.st_gid)
    directory.chmod(0o750)


def new_key(plan: Plan) -> tuple[str, Path]:
    """An instance's API key, and the file that it was written to for nobody but us to read. LmxdError if it cannot."""
    key, path = secrets.token_urlsafe(32), key_path(plan.home, plan.instance)
    _write_secret(path, key + "\n")
    return key, path


def kept_key(plan: Plan) -> tuple[str, Path]:
    """The same, but the key is that of the profile's instances before, for as long as the home lasts.

    It is for an engine that takes its environment for a part of what it compiled, and would compile all anew.
    """
    kept, path = plan.home / f"{file_name(plan.profile)}.kept", key_path(plan.home, plan.instance)
    key = _kept(kept)
    if key is None:
        key = secrets.token_urlsafe(32)
        _write_secret(kept, key + "\n")
    _write_secret(path, key + "\n")
    return key, path


def _kept(path: Path) -> str | None:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            found = file.read(64)
    except OSError:
        return None
    return found.decode().strip() if KEY.fullmatch(found) else None


def secret_settings(plan: Plan, text: str) -> Path:
    """The file that an instance's settings were written to, in a directory that its engine alone may see.

    LmxdError if it cannot be had.
    """
    directory = socket_path(plan.home, plan.instance).parent
    try:
        remove_tree(directory)
        directory.mkdir()
        directory.chmod(0o700)  # whatever our umask is
    except OSError as error:
        raise LmxdError("internal", f"{directory}: {error.strerror}", "check the runtime directory") from error
    _write_secret(directory / _SETTINGS, text)
    return directory / _SETTINGS


def _write_secret(path: Path, text: str) -> None:
    try:
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise LmxdError("internal", f"{path}: {error.strerror}", "check the runtime directory") from error


def free_port() -> int:
    """One that nobody listens on just now. If somebody takes it before the engine does, the launch takes another."""
    with socket(AF_INET, SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def whose(plan: Plan) -> dict[str, str]:
    """Environment: whose child it is, for an lmxd that finds it left behind."""
    return {"LMXD_INSTANCE": plan.instance, "LMXD_HOME": str(plan.home)}
