"""The address at which an HTTP server listens: one of the configuration, on loopback or a Unix socket."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from lmxd.errors import LmxdError


async def listen(runner: web.AppRunner, key: str, address: str, mode: int | None = None) -> None:
    """Begin to, at ``127.0.0.1:PORT`` or ``unix:PATH``; ``mode`` is the socket file's.

    LmxdError ``config``, which names the ``key``, if that cannot be had.
    """
    try:
        if address.startswith("unix:"):
            path = Path(address.removeprefix("unix:"))
            path.unlink(missing_ok=True)
            await web.UnixSite(runner, str(path)).start()
            if mode is not None:
                path.chmod(mode)
        else:
            host, _, port = address.rpartition(":")
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as error:
        raise LmxdError("config", f"{key} {address}: {error.strerror}", "choose another") from error
