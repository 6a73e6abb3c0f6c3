"""A node's side of a copy: its models' files, at its door, for the other nodes of its fleet."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Final

from aiohttp import web

from lmxd.errors import LmxdError
from lmxd.files import sha256_of
from lmxd.fleet.copying.manifest import PREFIX, Manifest, file_name
from lmxd.gguf.split import part_number
from lmxd.rpc.client import AsyncClient

_CHUNK: Final = 2**18
_Identity = tuple[int, int, int, int]


class Offering:
    """The files that lmxd's own list of models names; nobody else names a path."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._sums: dict[_Identity, str] = {}
        self._one = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        return [web.get(f"{PREFIX}/{{model}}", self._manifest), web.get(f"{PREFIX}/{{model}}/{{file}}", self._file)]

    async def _manifest(self, request: web.Request) -> web.Response:
        """Answered when the checksum is known: a file of 40 GB is read for that, once."""
        model = request.match_info["model"]
        path, found = await self._path(model)
        said = Manifest(
            model=model, file=file_name(model, path.name), size=found.st_size, sha256=await self._sum(path, found)
        )
        return web.json_response(said.model_dump())

    async def _file(self, request: web.Request) -> web.StreamResponse:
        model = request.match_info["model"]
        path, _ = await self._path(model)
        if request.match_info["file"] != file_name(model, path.name):
            raise LmxdError("model_file_missing", f"{model} has another file now", "copy it anew")
        return web.FileResponse(path, chunk_size=_CHUNK)

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

    async def _sum(self, path: Path, found: os.stat_result) -> str:
        """The SHA-256 of a file, computed once for each content that it has, one at a time."""
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        async with self._one:
            if key not in self._sums:
                self._sums[key] = await asyncio.to_thread(sha256_of, path)
        return self._sums[key]
