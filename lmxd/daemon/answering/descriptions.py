"""Descriptions of the configured models, by what their files say."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

from lmxd.catalog.described import ModelFile, capabilities, describe, is_described, media
from lmxd.catalog.described_directory import describe_directory
from lmxd.catalog.resolved import Resolved
from lmxd.core.words import User
from lmxd.daemon.answering.reading import FileReading
from lmxd.errors import LmxdError
from lmxd.rpc.model_files import ModelFileInfo, Shown


class Descriptions:
    """Describes models. A file is read in a thread, and remembered."""

    def __init__(self) -> None:
        self._reading = FileReading()

    async def file(self, resolved: Resolved, user: User | None) -> ModelFile | None:
        """The file of a model; None if it has none that can be read."""
        with suppress(LmxdError, OSError):
            path = resolved.sizing.file()
            return None if path is None else await self._described(path, user)
        return None

    async def media(self, resolved: Resolved, user: User | None) -> list[str] | None:
        """The media that a model takes beside text; None where only its engine knows.

        LmxdError if its projector cannot be used.
        """
        file = await self.file(resolved, user)
        if file is not None and file.media:
            return list(file.media)
        if not resolved.sizing.scales:
            return None
        path = resolved.sizing.companions().projector
        return [] if path is None else media(await self._described(path, user))

    async def _described(self, path: Path, user: User | None) -> ModelFile:
        if path.is_dir():
            await self._reading.do(user, path, partial(describe_directory, path))
            return describe_directory(path)
        if not is_described(path):
            await self._reading.do(user, path, partial(describe, path))
        return describe(path)

    async def shown(self, resolved: Resolved, user: User) -> Shown:
        """A model as its file describes it."""
        file, taken = await self.file(resolved, user), await self.media(resolved, user)
        return Shown(
            model=resolved.name,
            file=info(file),
            capabilities=abilities(resolved, file, taken),
            metadata={} if file is None else dict(file.metadata),
            template=None if file is None else file.template,
        )


def info(file: ModelFile | None) -> ModelFileInfo | None:
    """The facts of a file as they are sent."""
    if file is None:
        return None
    return ModelFileInfo(
        size=file.size,
        modified=file.modified,
        digest=file.digest,
        architecture=file.architecture,
        parameters=file.parameters,
        quantization=file.quantization,
        trained_ctx=file.trained,
        format=file.format,
    )


def abilities(resolved: Resolved, file: ModelFile | None, taken: list[str] | None) -> list[str]:
    """The abilities of a model, by its file and by how its engine is started. ``taken``: as ``media`` has it."""
    return capabilities(file, resolved.words, taken or ())
