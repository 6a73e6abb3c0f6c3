"""A node's side of a copy: its models' files, at its door, for the other nodes of its fleet."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from aiohttp import web

from lmxd.errors import LmxdError
from lmxd.fleet.copying.manifest import PREFIX, SHA256, Manifest, file_name
from lmxd.gguf.split import part_number
from lmxd.rpc.client import AsyncClient

_CHUNK: Final = 2**18
_BLOCK: Final = 2**24
"""Bytes that are read at once for a checksum: between two of them it can be broken off."""
_PATIENCE: Final = 10.0
"""Seconds for which somebody who asks for a checksum waits until it is computed, or asks again."""
_Identity = tuple[int, int, int, int]


class Offering:
    """The files that lmxd's own list of models names; nobody else names a path."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._sums: dict[_Identity, asyncio.Task[str]] = {}
        self._one = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        return [web.get(f"{PREFIX}/{{model}}", self._manifest), web.get(f"{PREFIX}/{{model}}/{{file}}", self._file)]

    async def _manifest(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        path, found = await self._path(model)
        said = Manifest(model=model, file=file_name(model, path.name), size=found.st_size)
        return web.json_response(said.model_dump())

    async def _file(self, request: web.Request) -> web.StreamResponse:
        model, file = request.match_info["model"], request.match_info["file"]
        path, found = await self._path(model)
        if file.removesuffix(SHA256) != file_name(model, path.name):
            raise LmxdError("model_file_missing", f"{model} has another file now", "copy it anew")
        if not file.endswith(SHA256):
            if request.headers.get("Range", "-").endswith("-"):  # more than a header: its checksum will be asked for
                self._sum(path, found)
            return web.FileResponse(path, chunk_size=_CHUNK)
        summing = self._sum(path, found)
        done, _ = await asyncio.wait([summing], timeout=_PATIENCE)
        return web.Response(text=summing.result()) if done else web.Response(status=202)

    async def _path(self, model: str) -> tuple[Path, os.stat_result]:
        """A model's file. LmxdError ``unknown_model``; ``model_file_missing`` if it has none that can be copied."""
        listed = (await self._client.models()).models
        info = next((each for each in listed if model == each.model), None)
        if info is None:
            known = ", ".join(each.model for each in listed) or "none"
            raise LmxdError("unknown_model", f"there is no model {model} here", f"there are: {known}")
        if info.path is None or not info.path.endswith(".gguf"):
            what = f"{model} has no GGUF file of its own"
            raise LmxdError("model_file_missing", what, "copy its files as you copy others, and write a profile")
        path = Path(info.path)
        if part_number(path.name) is not None:
            remedy = "join its parts by llama-gguf-split --merge, or copy them as you copy others"
            raise LmxdError("model_file_missing", f"{model} is in several parts, which are not copied", remedy)
        try:
            found = await asyncio.to_thread(path.stat)
        except OSError as error:
            remedy = "the node's user has to be able to read it"
            raise LmxdError("model_file_missing", f"{model}: {error.strerror}", remedy) from error
        if not stat.S_ISREG(found.st_mode):
            raise LmxdError("model_file_missing", f"{model} is not a regular file", "copy another")
        return path, found

    def _sum(self, path: Path, found: os.stat_result) -> asyncio.Task[str]:
        """The SHA-256 of a file, computed once for each content that it has, one at a time."""
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        there = self._sums.get(key)
        if there is None or (there.done() and (there.cancelled() or there.exception() is not None)):
            there = self._sums[key] = asyncio.create_task(self._summed(path))
        return there

    async def _summed(self, path: Path) -> str:
        digest = hashlib.sha256()
        async with self._one:
            with await asyncio.to_thread(path.open, "rb") as file:
                while block := await asyncio.to_thread(file.read, _BLOCK):
                    await asyncio.to_thread(digest.update, block)
        return digest.hexdigest()
