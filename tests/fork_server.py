"""A Python that has imported lmxd already, and forks into whatever ``python -m lmxd`` is asked for: see forked.py.

``python tests/fork_server.py FD``: a request comes over the Unix socket FD, as JSON with the three standard files
beside it; its answer is the pid. A child is one of whoever started this server, by CLONE_PARENT: it can be waited for.
Where that was killed, nobody waits, and this server ends what is left.
"""

from __future__ import annotations

import array
import ctypes
import gc
import importlib
import json
import os
import platform
import runpy
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, Final

CLONE: Final = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
"""The number of the system call; None where it is not known, and nothing can be forked."""
CLONE_PARENT: Final = 0x8000
BOUND: Final = 2**20
"""Bytes of a request, with its environment."""
MODULES: Final = {"lmxd": "lmxd.__main__", "lmxd.cli.main": "lmxd.cli.main"}
"""Words after ``-m``, and the modules that they mean."""
READY: Final = b"ready"
GRACE: Final = 10.0
"""Seconds that what is left has to end itself, and what it has started."""
AHEAD: Final = (
    *MODULES.values(),
    "lmxd.cli.leases",
    "lmxd.cli.running",
    "lmxd.cli.views",
    "lmxd.daemon.assembly",
    "lmxd.fleet.commands",
    "lmxd.fleet.node.process",
    "lmxd.gateway.commands",
    "lmxd.gateway.ollama.pulls",
    "lmxd.gateway.process",
    "lmxd.systemd",
    "pynvml",
    "uvloop",
)
"""What most programs need; the rest is imported by those that need it."""


def warm() -> None:
    for name in AHEAD:
        importlib.import_module(name)
    for name in MODULES.values():
        del sys.modules[name]  # it is imported once more, as __main__
    alone = os.listdir("/proc/self/task")
    assert len(alone) == 1, f"a process of {len(alone)} threads cannot be forked"
    gc.collect()
    gc.freeze()


def forked() -> int:
    """As os.fork, but the child is our parent's.

    Python is told before and after, as it is by its own fork: it has locks and a thread to put right.
    """
    assert CLONE is not None, "who asks has looked"
    python = ctypes.pythonapi
    syscall = ctypes.PyDLL(None).syscall
    syscall.restype = ctypes.c_long
    python.PyOS_BeforeFork()
    pid = int(syscall(ctypes.c_long(CLONE), ctypes.c_long(CLONE_PARENT | signal.SIGCHLD), *[ctypes.c_long(0)] * 4))
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    assert pid >= 0, "it could not be forked"
    return pid


def serve(asked: socket.socket, children: list[int]) -> dict[str, Any] | None:
    """In each child, its request; in the server None, once nobody asks any more. ``children``: gets their pidfds."""
    while True:
        said, passed, *_ = asked.recvmsg(BOUND, socket.CMSG_SPACE(3 * 4))
        if not said:
            return None
        files = array.array("i", passed[0][2])
        pid = forked()
        if pid == 0:
            asked.close()
            for number, file in enumerate(files):
                os.dup2(file, number)
        for file in (*files, *(children if pid == 0 else over(children, 0.0))):
            os.close(file)
        if pid == 0:
            found: dict[str, Any] = json.loads(said)
            return found
        children.append(os.pidfd_open(pid))
        asked.send(str(pid).encode())


def over(children: list[int], seconds: float) -> list[int]:
    """Take out those that have ended by then, or all as soon as they have. Returns them, by their pidfds."""
    ended, deadline = list[int](), time.monotonic() + seconds
    while children:
        left = max(0.0, deadline - time.monotonic())
        if not (now := select.select(children, [], [], left)[0]):
            break
        children[:] = [child for child in children if child not in now]
        ended += now
    return ended


def end(children: list[int]) -> None:
    """End those of a test that was killed. SIGINT has lmxd end its instances, too; one that is frozen hears SIGKILL."""
    over(children, 0.0)
    for number in (signal.SIGINT, signal.SIGKILL):
        for child in children:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, number)
        over(children, GRACE)


def find_first(directories: list[str]) -> None:
    """Import from these first, as by PYTHONPATH at a start: what they have of their own has not been imported yet."""
    sys.path[1:1] = directories
    for name, module in [(n, m) for n, m in sys.modules.items() if "." not in n and n != "__main__"]:
        for place in (
            f"{directory}/{file}" for directory in directories for file in (f"{name}.py", f"{name}/__init__.py")
        ):
            if os.path.exists(place):
                if place != getattr(module, "__file__", None):
                    for each in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                        del sys.modules[each]
                break


def become(request: dict[str, Any]) -> None:
    """All that exec would have brought about."""
    if request["session"]:
        os.setsid()
    if request["umask"] >= 0:
        os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["-m", *request["words"]]
    sys.path[0] = request["cwd"]
    find_first([each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each])
    # The server's own know whether its files can be sought in.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.path[0] = os.getcwd()
    warm()
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the tests', which end theirs by this server
    children: list[int] = []
    request = None
    with socket.socket(fileno=int(sys.argv[1])) as asked, suppress(ConnectionError):
        asked.send(READY)
        request = serve(asked, children)
    if request is None:
        end(children)
    else:
        signal.signal(signal.SIGINT, on_interrupt)
        become(request)
