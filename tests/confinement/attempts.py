"""Code that tries to get out of its confinement. Prints, as JSON, what came of each attempt.

``python attempts.py PLACE CONFINED``: PLACE is a directory with things to reach, CONFINED is 1 or 0.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lmxd.confinement.confined import confine
from lmxd.confinement.landlock import READ, Right

PLACE = Path(sys.argv[1])
PARENT = os.getppid()
CONFINED = sys.argv[2] == "1"
PORT = int((PLACE / "port").read_text())
DATAGRAMS = str(PLACE / "datagrams.sock")
libc = ctypes.CDLL(None, use_errno=True)
libc_word = ctypes.c_uint64()


def call(number: int, *arguments: object) -> None:
    """A system call by its number on x86_64, past every wrapper."""
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def forked(fork: Callable[[], int]) -> None:
    if fork() == 0:
        os._exit(0)


def raw_fork(number: int, *arguments: object) -> None:
    pid = libc.syscall(number, *arguments)
    if pid == 0:
        os._exit(0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), "refused")


def connect(family: int, kind: int, address: object) -> None:
    with socket.socket(family, kind) as sock:
        sock.settimeout(5)
        sock.connect(address)  # type: ignore[arg-type]


def send_datagram() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", DATAGRAMS)


NAMESPACES = (0x20000, *(1 << bit for bit in range(25, 31)))
"""CLONE_NEWNS; NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""


def reach_clone(namespace: int) -> None:
    """Done if the kernel itself refuses: a thread without CLONE_SIGHAND is invalid, so that none is ever made."""
    libc.syscall(56, 0x10000 | namespace, None, None, None, None)
    if ctypes.get_errno() != errno.EINVAL:
        raise OSError(ctypes.get_errno(), "refused")


def bind_port() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))


def own_signals() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        fcntl.fcntl(sock, fcntl.F_SETOWN, PARENT)


def own_by_ioctl() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        fcntl.ioctl(sock, 0x8901, PARENT.to_bytes(4, "little"))


REFUSED: dict[str, Callable[[], object]] = {
    "read another's key": (PLACE / "other.key").read_text,
    "list the state directory": lambda: list((PLACE / "state").iterdir()),
    "unlink": (PLACE / "state/ledger.db").unlink,
    "truncate": lambda: os.truncate(PLACE / "state/ledger.db", 0),
    "append": lambda: (PLACE / "state/ledger.db").open("ab"),
    "rename": lambda: (PLACE / "state/ledger.db").rename(PLACE / "state/away"),
    "change a mode": lambda: (PLACE / "state/ledger.db").chmod(0o777),
    "change times": lambda: os.utime(PLACE / "state/ledger.db", (1, 1)),
    "set an attribute": lambda: os.setxattr(PLACE / "state/ledger.db", "user.x", b"x"),
    "make a file": lambda: (PLACE / "state/new").touch(),
    "make a file in scratch": lambda: (PLACE / "scratch/new").touch(),
    "make a file in /dev/shm": lambda: os.close(os.open(f"/dev/shm/x{os.getpid()}", os.O_CREAT | os.O_WRONLY)),
    "make a directory": lambda: (PLACE / "state/dir").mkdir(),
    "make a link": lambda: (PLACE / "scratch/link").symlink_to("/etc/passwd"),
    "make a hard link": lambda: os.link(PLACE / "model.gguf", PLACE / "scratch/hard"),
    "make a fifo": lambda: os.mkfifo(PLACE / "scratch/fifo"),
    "write to the model": lambda: (PLACE / "model.gguf").open("r+b"),
    "run a program": lambda: subprocess.run(["/bin/true"], check=True),
    "exec": lambda: os.execv("/bin/true", ["/bin/true"]) if not CONFINED else call(59, b"/bin/true", None, None),
    "fork": lambda: forked(os.fork),
    "fork by number": lambda: raw_fork(57),
    "clone without a thread": lambda: raw_fork(56, 17, None, None, None, None),
    **{f"have a thread in a namespace {bit:#x}": partial(reach_clone, bit) for bit in NAMESPACES},
    "leave the session": os.setsid,
    "connect to a socket's path": lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, str(PLACE / "lmxd.sock")),
    "connect to an abstract socket": lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{PLACE}"),
    "send a datagram": send_datagram,
    "connect by TCP": lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", PORT)),
    "connect by UDP": lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 53)),
    "listen on a port": bind_port,
    "open netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4).close(),
    "make a pair of sockets": socket.socketpair,
    "signal the parent": lambda: os.kill(PARENT, 0),
    "signal its thread": lambda: call(234, PARENT, PARENT, 0),
    "send it SIGIO": own_signals,
    "send it SIGIO by ioctl": own_by_ioctl,
    "open a pidfd": lambda: os.close(os.pidfd_open(PARENT)),
    "trace the parent": lambda: call(101, 16, PARENT, None, None),
    "read its memory": lambda: call(310, PARENT, (ctypes.c_size_t * 2)(ctypes.addressof(libc_word), 8), 1, None, 0, 0),
    "read its environment": Path(f"/proc/{PARENT}/environ").read_bytes,
    "bound its files": lambda: call(302, PARENT, 7, None, (ctypes.c_uint64 * 2)()),
    "make a ring for calls": lambda: call(425, 2, (ctypes.c_char * 120)()),
    "make a file in memory": lambda: os.close(os.memfd_create("x")),
    "make a namespace": lambda: call(272, 0x10000000),
    "change the root": lambda: os.chroot("/"),
}
"""What must be refused. Some of it would be refused to an ordinary user anyhow."""


def threads() -> None:
    found: list[int] = []
    running = [threading.Thread(target=lambda: found.append(threading.get_native_id())) for _ in range(8)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(10)
    assert len(set(found)) >= 1
    assert len(found) == 8


def listen() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(PLACE / "scratch/s.sock"))
        sock.listen()


ALLOWED: dict[str, Callable[[], object]] = {
    "read the model": (PLACE / "model.gguf").read_bytes,
    "have threads": threads,
    "listen in scratch": listen,
    "read a library": lambda: [ctypes.CDLL(name) for name in ("libm.so.6", "librt.so.1")],
    "have memory": lambda: bytearray(64 * 2**20),
}


def attempt(what: Callable[[], object]) -> str:
    try:
        what()
    except Exception as error:
        return f"refused: {error!r}"
    return "done"


if CONFINED:
    confine({PLACE / "model.gguf": READ, PLACE / "scratch": Right.MAKE_SOCK}, memory=8 * 2**30, seconds=20)
    wanted = REFUSED | ALLOWED
else:
    wanted = {name: REFUSED[name] for name in sys.argv[3:]} | ALLOWED
print(json.dumps({name: attempt(what) for name, what in wanted.items()}), flush=True)
sys.stdin.read()
