"""Programs of lmxd as processes of their own that need not import it: a server has, and forks (fork_server.py).

A start takes a second of a processor, of which imports are nearly all. The process is a child of the test, as with
subprocess.Popen, and has its own words, environment, directory and files; SIGKILL and its end are the same.
"""

from __future__ import annotations

import array
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
from typing import Any, Final

import fork_server

_lock = threading.Lock()
_servers: dict[int, socket.socket] = {}
"""By process of tests: a server's children are those of who started it."""
servers: list[subprocess.Popen[bytes]] = []
"""The programs that fork. Each ends when nobody can ask it any more, and first what a killed test has left."""
_AT_START: Final = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")
"""Variables that are read as a program starts: with others than ours it is really started, but for PYTHONPATH."""
_PIPES: Final = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_USUAL: Final = {
    "preexec_fn": None,
    "pass_fds": (),
    "shell": False,
    "executable": None,
    "process_group": -1,
    "gid": None,
    "gids": None,
    "uid": None,
}
"""Nothing of these is asked for where it is forked."""


class Forked(subprocess.Popen[Any]):
    """subprocess.Popen; ``[sys.executable, "-m", "lmxd" or "lmxd.cli.main", ...]`` is forked instead of started."""

    def _execute_child(self, *given: Any) -> None:
        names = inspect.signature(super()._execute_child).parameters  # type: ignore[misc]
        asked = dict(zip(names, given, strict=True))
        if not _can_be_forked(asked):
            super()._execute_child(*given)  # type: ignore[misc]
            return
        theirs = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        files = [own if file == -1 else file for own, file in enumerate(theirs)]
        request = {
            "module": asked["args"][2],
            "words": asked["args"][3:],
            "env": dict(os.environ if asked["env"] is None else asked["env"]),
            "cwd": os.fspath(asked["cwd"] or os.getcwd()),
            "session": asked["start_new_session"],
            "umask": asked["umask"],
        }
        self.pid = _fork(json.dumps(request).encode(), files)
        self._child_created = True
        pipes = [asked[name] for name in _PIPES]
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run(
    words: list[str], *, input: str | None = None, timeout: float = 120, **more: Any
) -> subprocess.CompletedProcess[str]:
    """subprocess.run with its output as text."""
    stdin, pipe = None if input is None else subprocess.PIPE, subprocess.PIPE
    with Forked(words, stdin=stdin, stdout=pipe, stderr=pipe, text=True, **more) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def _can_be_forked(asked: dict[str, Any]) -> bool:
    """No for what is not of lmxd, and for what only a start can have."""
    words = asked["args"]
    if fork_server.CLONE is None or isinstance(words, str) or words[:2] != [sys.executable, "-m"]:
        return False
    env = os.environ if asked["env"] is None else asked["env"]
    own, its = ({k: v for k, v in e.items() if k.startswith(_AT_START)} for e in (os.environ, env))
    path = its.pop("PYTHONPATH", None)
    if path != own.pop("PYTHONPATH", None) and any(map(_is_run_at_start, (path or "").split(os.pathsep))):
        return False
    usual = all(asked[name] == value for name, value in _USUAL.items())
    return usual and own == its and words[2] in fork_server.MODULES


def _is_run_at_start(directory: str) -> bool:
    return os.path.exists(os.path.join(directory, "sitecustomize.py"))


def _fork(request: bytes, files: list[int]) -> int:
    with _lock:
        server = _servers.get(os.getpid()) or _begin()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
        server.sendmsg([request], rights)
        return int(server.recv(64))


def _begin() -> socket.socket:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        words = [sys.executable, fork_server.__file__, str(its.fileno())]
        servers.append(subprocess.Popen(words, pass_fds=[its.fileno()]))
    assert ours.recv(64) == fork_server.READY
    _servers[os.getpid()] = ours
    return ours
