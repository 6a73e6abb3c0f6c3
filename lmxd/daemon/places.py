"""The daemon's directories and files: its socket, its instances' keys and sockets, their logs, and its lock."""

from __future__ import annotations

import fcntl
import grp
import logging
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lmxd.acl import open_to
from lmxd.engines.launching import SOCKET_NAME_MAX, SOCKET_PATH_MAX
from lmxd.errors import LmxdError
from lmxd.rpc.client import own_socket
from lmxd.xdg import own_directory

log = logging.getLogger(__name__)

GROUP = "lmxd"
ADMIN_GROUP = "lmxd-admin"
_BACKLOG = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """The paths that the daemon uses.

    ``home`` holds keys and sockets of instances, ``state`` what lasts. ``shared``: group lmxd may come in.
    """

    socket: Path
    home: Path
    logs: Path
    state: Path
    shared: bool


def places(socket_path: Path | None, *, user: bool) -> Places:
    """The paths as systemd says (RUNTIME_DIRECTORY, LOGS_DIRECTORY), else by convention.

    A socket named by hand keeps everything beside itself. Raises LmxdError for a path that cannot work.
    """
    if socket_path is not None:
        path = socket_path.absolute()
        home = path.with_name(path.name + ".d")
        found = Places(socket=path, home=home, logs=home / "log", state=home / "state", shared=False)
    elif user:
        path, lasting = own_socket(), own_directory("XDG_STATE_HOME", ".local/state") / "lmxd"
        home = path.with_name("lmxd")
        found = Places(socket=path, home=home, logs=lasting / "log", state=lasting, shared=False)
    else:
        runtime = Path(os.environ.get("RUNTIME_DIRECTORY", "/run/lmxd").split(":")[0])
        logs = Path(os.environ.get("LOGS_DIRECTORY", "/var/log/lmxd").split(":")[0])
        state_dir = Path(os.environ.get("STATE_DIRECTORY", "/var/lib/lmxd/state").split(":")[0])
        found = Places(socket=runtime / "lmxd.sock", home=runtime / "i", logs=logs, state=state_dir, shared=True)
    of_instances = found.home / ("x" * SOCKET_NAME_MAX)
    for path, what in ((found.socket, found.socket), (of_instances, f"of an instance in {found.home}")):
        if len(os.fsencode(path)) > SOCKET_PATH_MAX:
            remedy = "choose a shorter --socket" + (", or XDG_RUNTIME_DIR" if user else "")
            raise LmxdError("config", f"socket {what} is longer than {SOCKET_PATH_MAX} bytes", remedy)
    return found


@contextmanager
def occupy(where: Places) -> Iterator[None]:
    """Make the directories, and keep others out of them for as long as the block lasts.

    Raises LmxdError if another lmxd has them, or if a directory cannot be made or is not ours.
    """
    own = (where.home, where.state, where.logs)
    with ExitStack() as held:
        try:
            with _umask(0o022):  # the user's own may let a group write, or keep all others out of the socket's place
                for directory in sorted((where.socket.parent, *own), key=lambda x: len(x.parts)):  # may be nested
                    open_to_all = where.shared and directory == where.socket.parent
                    directory.mkdir(mode=0o755 if open_to_all else 0o750, parents=True, exist_ok=True)
            for directory in own:
                _require_ours(directory)
            for directory in (where.home, where.state):
                held.enter_context(_lock(directory))
        except OSError as error:
            raise LmxdError("config", f"{error.filename}: {error.strerror}", "run as root, or with --user") from error
        if where.shared:
            _open_to_groups(where.home, 0o750)
        yield


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


def _require_ours(directory: Path) -> None:
    """LmxdError if others can write there, or have put a link or a directory of theirs in its place."""
    mine, above = directory.lstat(), directory.parent.stat()
    if not stat.S_ISDIR(mine.st_mode):
        raise LmxdError("config", f"{directory} is not a directory itself", "remove it, or choose another --socket")
    if mine.st_uid != os.getuid() or _others_write(mine):
        raise LmxdError("config", f"{directory} can be written by others", "remove it, or choose another --socket")
    theirs = above.st_uid not in (0, os.getuid()) or stat.S_IMODE(above.st_mode) & 0o002
    if theirs and not above.st_mode & stat.S_ISVTX:
        problem = (
            f"{directory.parent} can be written by others, who could put something in the place of {directory.name}"
        )
        raise LmxdError("config", problem, "change its mode or its owner, or choose another --socket")


def _others_write(found: os.stat_result) -> bool:
    """Whether others can. A group of the user alone, to which umask 0002 opens what is made, is nobody else."""
    return bool(found.st_mode & 0o002 or (found.st_mode & 0o020 and not _is_alone_in(found.st_gid)))


def _is_alone_in(gid: int) -> bool:
    """Whether a group is the one of this user, and has no other member."""
    try:
        members, me = set(grp.getgrgid(gid).gr_mem), pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    others = {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == gid}
    return me.pw_gid == gid and (members | others) == {me.pw_name}


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock_or_refuse(lock, directory)
        yield
    finally:
        os.close(lock)


def _lock_or_refuse(lock: int, directory: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        message = f"another lmxd runs in {directory}"
        raise LmxdError("config", message, "stop it, or choose another --socket") from error


def listen(where: Places) -> socket.socket:
    """A listening socket at the place for it. A dead daemon's goes; the lock says that it is dead."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        where.socket.unlink(missing_ok=True)
        with _umask(0o177):
            sock.bind(str(where.socket))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise LmxdError("config", f"socket {where.socket}: {error.strerror}", "choose another --socket") from error
    return sock


def admit_groups(sock: socket.socket) -> None:
    """Open the system's socket, our own or systemd's, to the groups lmxd and lmxd-admin."""
    _open_to_groups(Path(os.fsdecode(sock.getsockname())), 0o660)


def _open_to_groups(path: Path, mode: int) -> None:
    """Open a path to the groups that there are; else only to ourselves."""
    try:
        gid = grp.getgrnam(GROUP).gr_gid
        if path.stat().st_gid != gid:  # the unit refuses the call, and has given it to the group
            os.chown(path, -1, gid)
        path.chmod(mode)
    except (KeyError, PermissionError):
        return
    try:
        open_to(path, grp.getgrnam(ADMIN_GROUP).gr_gid)
    except KeyError:
        pass
    except OSError as error:
        log.warning("%s is not for members of %s alone (%s): join %s, too", path, ADMIN_GROUP, error.strerror, GROUP)
