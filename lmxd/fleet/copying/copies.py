"""A node's other side of a copy: it fetches a model that another node has, by ``lmxd pull``, as a process of its own.

So a copy is what a model of a hub is: its header is read and estimated first, it goes on where it was broken off, its
checksum is compared, and lmxd serves it from then on.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

from lmxd.config.copied import allowed
from lmxd.errors import LmxdError, known
from lmxd.fleet.calls import Copying, CopyParams
from lmxd.fleet.copying.manifest import SHA256, Manifest, path_of
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import Member, MemberRole
from lmxd.fleet.reading import read
from lmxd.fleet.tls import client_context
from lmxd.gateway.ollama.pulls import end_fetch
from lmxd.models.layouts import directory_name

_LINE: Final = 64 * 1024
"""Bytes of a line that says a step, at the most."""
_ANSWER: Final = 2**20
"""Bytes of a peer's answer about a model, at the most: 1,100 files, and its settings."""
_ASKING: Final = 15.0
"""Seconds for which a peer may say nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnLmxd:
    """This node's lmxd: its configuration, which ``lmxd pull`` adds to, and its socket. ``user``: it is one user's."""

    config: Path
    socket: Path
    user: bool


class _Copy:
    """One copy: how far it is, and the task that is at it."""

    def __init__(self, node: str, params: CopyParams, fetch: Callable[[_Copy], Coroutine[Any, Any, None]]) -> None:
        """``fetch``: does it, from now on."""
        self.params = params
        self.now = Copying(node=node, model=params.model, peer=params.peer, step=f"asking {params.peer}")
        self._before = 0
        self._status, self._total = "", 0
        """Of the file that comes now; ``_before``: bytes of those before it."""
        self.task = asyncio.create_task(fetch(self))

    def told(self, line: bytes) -> None:
        """A step, as ``lmxd pull --json`` says it. LmxdError if it is an error."""
        said = json.loads(line)
        if (error := said.get("error")) is not None:
            raise LmxdError(known(error["code"]), f"{self.now.node}: {error['message']}", error["remedy"])
        moved = {}
        if "total" in said:
            if said["status"] != self._status:
                self._before, self._status = self._before + self._total, said["status"]
            self._total = said["total"]
            moved = {"done": self._before + said["completed"]}
        step, by_hand = "copying" if moved else said["status"], said.get("by_hand", {})
        news = {"step": step, "finished": step == "success", "by_hand": by_hand}
        self.now = self.now.model_copy(update=news | moved)


class Copies:
    """The copies that come to this node, by model: one of each at a time. Others' files are their doors'."""

    def __init__(self, home: FleetHome, own: OwnLmxd) -> None:
        self._home = home
        self._own = own
        self._copies: dict[str, _Copy] = {}

    async def copy(self, params: CopyParams) -> Copying:
        """Begin a copy, or say how far it is. LmxdError: why it failed, for as long as its ``id`` is asked for."""
        there = self._copies.get(params.model)
        if there is None or (there.task.done() and there.params.id != params.id):
            there = self._copies[params.model] = _Copy(self._home.settings.node, params, self._fetched)
        if there.task.done():
            there.task.result()
        return there.now

    async def close(self) -> None:
        """End the fetches that go on. What has come is kept, and gone on with by the next one."""
        tasks = [each.task for each in self._copies.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetched(self, copy: _Copy) -> None:
        manifest = await self._manifest(copy.params)
        copy.now = copy.now.model_copy(
            update={"step": "reading header", "total": manifest.size, "left_out": manifest.code}
        )
        process = await self._pull(copy.params, manifest)
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                copy.told(line)
            if status := await process.wait():
                raise LmxdError("internal", f"lmxd pull ended with status {status}", "its words are in the node's log")
        finally:
            await end_fetch(process)
        if self._home.copies is not None:
            _open_for_readers(self._home.copies, copy.params.model, manifest)

    async def _manifest(self, params: CopyParams) -> Manifest:
        """The peer's word on the file. LmxdError: its own, or ``daemon_unavailable`` if it is not reached."""
        url, tls = f"https://{params.address}{path_of(params.model)}", client_context(self._home, MemberRole.NODE)
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASKING)) as session,
                session.get(URL(url, encoded=True), ssl=tls, server_hostname=self._host(params)) as answer,
            ):
                body = await _whole(answer.content, params.peer)
                if answer.status != 200:
                    raise _refused(params.peer, body)
                return Manifest.model_validate_json(body)
        except (aiohttp.ClientError, TimeoutError) as error:
            what = f"{params.peer} is not reached at {params.address}: {str(error) or type(error).__name__}"
            raise LmxdError("daemon_unavailable", what, "see whether lmxd fleet node runs there") from error
        except ValueError as error:
            raise LmxdError("bad_answer", f"{params.peer} answered with something else", "update it") from error

    def _host(self, params: CopyParams) -> str:
        return Member(fleet=self._home.settings.fleet, role=MemberRole.NODE, name=params.peer).host

    async def _pull(self, params: CopyParams, manifest: Manifest) -> Process:
        """``lmxd pull``. Its errors are its last line; all else that it says is the log's."""
        own = ["--user"] if self._own.user else []
        role, home = MemberRole.NODE, self._home
        tls = [str(home.ca), str(home.certificate(role)), str(home.key(role)), self._host(params)]
        urls = [f"https://{params.address}{path_of(params.model, each.file)}" for each in manifest.files]
        beside = [(each.key, url) for each, url in zip(manifest.files, urls, strict=True) if each.key is not None]
        settings = json.dumps(allowed(manifest.settings, directory=manifest.is_directory))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "lmxd", "--config", str(self._own.config), *own, "pull", "--json"),
            *(("--to", str(copies)) if (copies := home.copies) is not None else ()),
            *("--as", params.model, "--sha256", SHA256, "--tls", *tls, "--settings", settings),
            *(word for key, url in beside for word in ("--beside", key, url)),
            *(word for each in manifest.files for word in ("--size", each.file, str(each.size))),
            *("--", f"https://{params.address}{path_of(params.model, manifest.first)}"),
            stdin=DEVNULL,
            stdout=PIPE,
            limit=_LINE,
            env={**os.environ, "LMXD_SOCKET": str(self._own.socket)},
            start_new_session=True,
        )


def _open_for_readers(copies: Path, model: str, manifest: Manifest) -> None:
    """Let engines read a copy, which run as another user."""
    if manifest.is_directory:
        copies /= directory_name(model)
        copies.chmod(0o755)
    for each in manifest.files:
        (copies / each.file).chmod(0o644)


async def _whole(content: aiohttp.StreamReader, peer: str) -> bytes:
    """All of an answer. LmxdError ``bad_answer`` for one that is too long."""
    body = b""
    while part := await content.read(_ANSWER):
        body += part
        if len(body) > _ANSWER:
            what = f"{peer} says more than {_ANSWER // 2**20} MiB about its model"
            raise LmxdError("bad_answer", what, "copy its files as you copy others, and write a profile")
    return body


def _refused(peer: str, body: bytes) -> LmxdError:
    """The error that a peer's door answered with, in OpenAI's format."""
    try:
        error = read(body, dict[str, dict[str, Any]])["error"]
        code = str(error.get("code"))
        code = {"model_not_found": "unknown_model"}.get(code, code)
        return LmxdError(known(code), f"{peer}: {error['message']}")
    except (ValueError, KeyError, TypeError):
        return LmxdError("bad_answer", f"{peer} answered with something else", "update it")
