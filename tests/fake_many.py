"""An engine of several processes, as vLLM is: fake_many.py PLACE PORT [--mute].

A server with a resource tracker, a core that it forks, and a worker that the core forks. Each overwrites its
environment, as setproctitle does, and they share a file in /dev/shm. The others outlive a server that is killed, and
end with SIGTERM. ``--mute``: the worker has other outputs than the log. It makes directories within directories in
TMPDIR, and writes its pids and the name of what it shares to PLACE/started, before it serves. PLACE/stubborn keeps the
worker from ending with SIGTERM.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

PLACE, PORT = Path(sys.argv[1]), int(sys.argv[2])


def hide() -> None:
    """Overwrite the environment that /proc shows, and keep a copy to hand on."""
    libc = ctypes.CDLL(None)
    for name, value in os.environ.items():
        libc.setenv(os.fsencode(name), os.fsencode(value), 1)
    words = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(words[47]), int(words[48])
    ctypes.memset(begin, 0, end - begin)


def work(below: bool, name: str, told: int) -> None:
    """The life of the core, and of the worker below it."""
    hide()
    stubborn = not below and (PLACE / "stubborn").exists()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if stubborn else lambda *_: os._exit(0))
    if below:
        if os.fork() == 0:
            work(False, name, told)
    elif "--mute" in sys.argv:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
    shared = SharedMemory(name)
    assert shared.size
    os.write(told, b"%d " % os.getpid())
    os.close(told)
    while True:
        signal.pause()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def need() -> None:
    """Do what engines cannot do without: ask for network interfaces, as gloo does, and run code that was just made."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.bind((0, 0))
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def main() -> None:
    hide()
    need()
    nested = Path(os.environ["TMPDIR"], "a", "b")
    nested.mkdir(parents=True)
    (nested / "file").write_text("made by an engine")
    shared = SharedMemory(create=True, size=4096)
    tracker = int(Path(f"/proc/self/task/{os.getpid()}/children").read_text())
    heard, told = os.pipe()
    if os.fork() == 0:
        work(True, shared.name, told)
    os.close(told)
    said = b""
    while more := os.read(heard, 64):
        said += more
    pids = (os.getpid(), tracker, *map(int, said.split()))
    (PLACE / "started").write_text(json.dumps({"pids": pids, "shared": shared.name}))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # as abrupt as can be: nothing is unlinked here
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()


if __name__ == "__main__":
    main()
