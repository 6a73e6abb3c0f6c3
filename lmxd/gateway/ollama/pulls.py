"""Models that administrators have fetched over HTTP: by ``lmxd pull``, as a process of its own.

Only from the hub, and only where the gateway's user may write the configuration: as one user's own gateway may. The
system's has neither that nor a way into the network.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from lmxd.config.keys import Caller
from lmxd.config.names import LATEST
from lmxd.config.writing import may_write
from lmxd.errors import LmxdError, known
from lmxd.gateway.requests.failures import StatusError

log = logging.getLogger(__name__)
_REPOSITORY: Final = re.compile(r"(?:hf:|hf\.co/|huggingface\.co/)[A-Za-z0-9][A-Za-z0-9._/:-]{0,200}")
"""A model of the hub. A URL is none: whoever has a key of the gateway's does not choose whom this machine asks."""
_EXAMPLE: Final = "hf.co/ORG/REPO:QUANT"
_FETCHED: Final = "an administrator may fetch one of the hub's: lmxd pull hf:ORG/REPO:QUANT"
_LINE: Final = 64 * 1024
"""Bytes of a line that says a step, at the most."""
_GRACE: Final = 5.0
"""Seconds that a fetch has to end."""
_STATUS: Final = {"model_file_missing": 404, "config": 403, "never_fits": 400, "bad_model_file": 502}


class Pulls:
    """Fetches models, one at a time. ``user``: for a daemon of this user's own, which listens at ``socket``."""

    def __init__(self, config_path: Path, socket: Path, *, user: bool) -> None:
        self._config_path = config_path
        self._socket = socket
        self._user = user
        self._one = asyncio.Lock()

    def of(self, name: str, caller: Caller, unknown: LmxdError) -> AsyncGenerator[dict[str, Any], None]:
        """The steps to a model that is not here, as ollama says them. LmxdError if it is not fetched.

        ``unknown``: the error for a name of which nobody could say where it is fetched from.
        """
        if _REPOSITORY.fullmatch(name) is None:
            where = f"name one of the hub's: {_EXAMPLE}" if caller.admin else _FETCHED
            raise LmxdError(unknown.code, unknown.message, where)
        remedy = f"an administrator may fetch it: lmxd pull {name}"
        if not caller.admin:
            raise StatusError(403, "not_permitted", f"the key of {caller.name} is no administrator's", remedy)
        if not may_write(self._config_path):
            what = f"the gateway may not write {self._config_path}, to which a model that is fetched is added"
            raise StatusError(403, "not_permitted", what, remedy)
        return self._steps(name, caller, remedy)

    async def _steps(self, name: str, caller: Caller, remedy: str) -> AsyncGenerator[dict[str, Any], None]:
        async with self._one:
            log.info("key %s has %s fetched", caller.name, name)
            process = await self._begun(name)
            try:
                assert process.stdout is not None
                async for line in process.stdout:
                    yield _step(line, remedy)
                if status := await process.wait():
                    raise LmxdError("internal", f"lmxd pull ended with status {status}", "its words are in the log")
            finally:
                await end_fetch(process)

    async def _begun(self, name: str) -> Process:
        """``lmxd pull``. Its errors are its last line; all else that it and the library say is the log's."""
        own = ["--user"] if self._user else []
        command = [sys.executable, "-P", "-m", "lmxd", "--config", str(self._config_path), *own, "pull", "--json"]
        shown = name.removesuffix(LATEST)
        return await asyncio.create_subprocess_exec(
            *command,
            *("--as", shown, "--", shown),
            stdin=DEVNULL,
            stdout=PIPE,
            limit=_LINE,
            env={**os.environ, "LMXD_SOCKET": str(self._socket)},
            start_new_session=True,
        )


def _step(line: bytes, remedy: str) -> dict[str, Any]:
    """A step as it was said. LmxdError if it is an error."""
    said: dict[str, Any] = json.loads(line)
    error = said.get("error")
    if error is None:
        return said
    code = known(error["code"])
    helps = f"{remedy}, or {error['remedy']}" if code == "config" else error["remedy"]
    if code in _STATUS:
        raise StatusError(_STATUS[code], code, error["message"], helps)
    raise LmxdError(code, error["message"], helps)


async def end_fetch(process: Process) -> None:
    """End a fetch whose client has gone. What has come is kept, and gone on with by the next one."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            if process.returncode is None:
                os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await process.wait()
                return
