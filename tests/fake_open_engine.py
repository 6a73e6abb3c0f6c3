"""An engine without a key: fake_open_engine.py ADDRESS PORT PLACE. It serves health on a port.

It adds a line with its port to PLACE/ports, and waits for PLACE/go before it listens; after SIGUSR1 it no longer does.
It answers whole requests and leaves connections open, as servers do.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        pass


class V6Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


def main() -> None:
    address, port, place = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    with (place / "ports").open("a") as ports:
        print(port, file=ports)
    while not (place / "go").exists():
        time.sleep(0.01)
    server = (V6Server if ":" in address else ThreadingHTTPServer)((address, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.signal(signal.SIGUSR1, lambda *_: server.socket.shutdown(socket.SHUT_RDWR))
    threading.Event().wait()


if __name__ == "__main__":
    main()
