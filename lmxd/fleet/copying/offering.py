"""A node's side of a copy: its models' files, at its door, for the other nodes of its fleet."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from lmxd.config.copied import BesideKey, copied
from lmxd.config.file import load
from lmxd.errors import LmxdError
from lmxd.fleet.copying.directories import code_of, offered
from lmxd.fleet.copying.manifest import PREFIX, SHA256, Manifest, OfferedFile, file_name
from lmxd.gguf.split import part_names, part_number
from lmxd.rpc.books import ModelInfo
from lmxd.rpc.client import AsyncClient
from lmxd.safetensors.files import CONFIG

log = logging.getLogger(__name__)
_CHUNK: Final = 2**18
_BLOCK: Final = 2**24
"""Bytes that are read at once for a checksum: between two of them it can be broken off."""
_PATIENCE: Final = 10.0
"""Seconds for which somebody who asks for a checksum waits until it is computed, or asks again."""
_VLLM: Final = "vllm"
_Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _There:
    """A file on this box."""

    path: Path
    found: os.stat_result
    key: BesideKey | None


class Offering:
    """The files that lmxd's own list of models names; nobody else names a path. ``config``: of lmxd here."""

    def __init__(self, client: AsyncClient, config: Path) -> None:
        self._client, self._config = client, config
        self._sums: dict[_Identity, asyncio.Task[str]] = {}
        self._one = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        return [web.get(f"{PREFIX}/{{model}}", self._manifest), web.get(f"{PREFIX}/{{model}}/{{file}}", self._file)]

    async def _manifest(self, request: web.Request) -> web.Response:
        info = await self._info(request.match_info["model"])
        files = await self._files(info)
        if CONFIG in files and await asyncio.to_thread(self._kind, info.model) != _VLLM:
            raise _none(info.model)
        there = [OfferedFile(file=name, size=each.found.st_size, key=each.key) for name, each in files.items()]
        settings = await asyncio.to_thread(self._settings, info.model)
        code = await asyncio.to_thread(code_of, Path(info.path)) if info.path and CONFIG in files else []
        said = Manifest(model=info.model, files=there, settings=settings, code=code)
        return web.json_response(said.model_dump())

    def _settings(self, model: str) -> dict[str, Any]:
        """The keys of its profile that count on other boxes, too; none where its directory is served without one."""
        try:
            profile = load(self._config).models.get(model)
        except LmxdError as error:
            log.warning("a copy of %s has no settings: %s", model, error)
            return {}
        return {} if profile is None else copied(profile)

    def _kind(self, model: str) -> str:
        """The kind of the engine that runs a profile. LmxdError ``config``."""
        engine = load(self._config).engines_of_models().get(model)
        return "" if engine is None else engine.kind.value

    async def _file(self, request: web.Request) -> web.StreamResponse:
        model, file = request.match_info["model"], request.match_info["file"]
        wanted = (await self._files(await self._info(model))).get(file.removesuffix(SHA256))
        if wanted is None:
            raise LmxdError("model_file_missing", f"{model} has other files now", "copy it anew")
        if not file.endswith(SHA256):
            if request.headers.get("Range", "-").endswith("-"):  # more than a header: its checksum will be asked for
                self._sum(wanted)
            return web.FileResponse(wanted.path, chunk_size=_CHUNK)
        summing = self._sum(wanted)
        done, _ = await asyncio.wait([summing], timeout=_PATIENCE)
        return web.Response(text=summing.result()) if done else web.Response(status=202)

    async def _info(self, model: str) -> ModelInfo:
        """A model of lmxd's list. LmxdError ``unknown_model``."""
        listed = (await self._client.models()).models
        info = next((each for each in listed if model == each.model), None)
        if info is None:
            known = ", ".join(each.model for each in listed) or "none"
            raise LmxdError("unknown_model", f"there is no model {model} here", f"there are: {known}")
        return info

    async def _files(self, info: ModelInfo) -> dict[str, _There]:
        """A model's files by the names of their copies. LmxdError ``model_file_missing``."""
        if info.path is not None and info.path.endswith(".gguf"):
            return await asyncio.to_thread(_found, info, Path(info.path))
        if info.path is None and info.problem is not None:
            what = f"{info.model} cannot be used on this box, either"
            raise LmxdError("model_file_missing", what, "lmxctl models there says why")
        if info.path is None:
            raise _none(info.model)
        return await asyncio.to_thread(_found_there, info.model, Path(info.path))

    def _sum(self, file: _There) -> asyncio.Task[str]:
        """The SHA-256 of a file, computed once for each content that it has, one at a time."""
        found = file.found
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        there = self._sums.get(key)
        if there is None or (there.done() and (there.cancelled() or there.exception() is not None)):
            there = self._sums[key] = asyncio.create_task(self._summed(file.path))
        return there

    async def _summed(self, path: Path) -> str:
        digest = hashlib.sha256()
        async with self._one:
            with await asyncio.to_thread(path.open, "rb") as file:
                while block := await asyncio.to_thread(file.read, _BLOCK):
                    await asyncio.to_thread(digest.update, block)
        return digest.hexdigest()


def _found(info: ModelInfo, first: Path) -> dict[str, _There]:
    """The parts of its file, and what is beside it, by the names of their copies. LmxdError ``model_file_missing``."""
    number = part_number(first.name)
    parts = [first] if number is None else [first.with_name(each) for each in part_names(first.name, number[1])]
    files = {file_name(info.model, each.name): _there(info.model, each, None) for each in parts}
    for key, path in _beside(info.settings):
        of_kind = sum(each.key == key for each in files.values())
        name = file_name(info.model, path.name, key if key != "lora" else f"lora{of_kind + 1}")
        files[name] = _there(info.model, path, key)
    return files


def _none(model: str) -> LmxdError:
    what = f"{model} has neither a GGUF file of its own nor a directory for vLLM"
    return LmxdError("model_file_missing", what, "copy its files as you copy others, and write a profile")


def _found_there(model: str, directory: Path) -> dict[str, _There]:
    return {name: _there(model, path, None) for name, path in offered(model, directory).items()}


def _beside(settings: Mapping[str, Any]) -> Iterator[tuple[BesideKey, Path]]:
    if projector := settings.get("mmproj"):
        yield "mmproj", Path(projector)
    if draft := settings.get("draft"):
        yield "draft", Path(draft["path"])
    for adapter in settings.get("lora", ()):
        yield "lora", Path(adapter["path"])


def _there(model: str, path: Path, key: BesideKey | None) -> _There:
    try:
        found = path.stat()
    except OSError as error:
        remedy = "the node's user has to be able to read it"
        raise LmxdError("model_file_missing", f"{model}: {path.name}: {error.strerror}", remedy) from error
    if not stat.S_ISREG(found.st_mode):
        raise LmxdError("model_file_missing", f"{model}: {path.name} is not a regular file", "copy another")
    return _There(path, found, key)
