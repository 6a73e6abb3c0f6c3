"""The roll as a broker knows it: of its own authority, or told by that of another box."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final, Protocol

from lmxd.errors import LmxdError
from lmxd.fleet import joining_messages as messages
from lmxd.fleet import private_files
from lmxd.fleet.aside import aside
from lmxd.fleet.authority.roll import Enrolled, Roll, decoded, version_of
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole
from lmxd.fleet.renewing import authority_client
from lmxd.pausing import pause

log = logging.getLogger(__name__)
_LOOK: Final = 0.5
"""Seconds between two looks at the files, which other programs change, too."""
_PAUSE: Final = 2.0
"""Seconds after the authority did not answer."""


class Rolls(Protocol):
    """A roll that changes."""

    def entries(self) -> list[Enrolled]: ...

    async def changed(self) -> None:
        """Wait for another one."""


class OwnRoll:
    """The files of this box's authority."""

    def __init__(self, roll: Roll) -> None:
        self._roll = roll
        self._seen = roll.all()
        self._hint = asyncio.Event()

    def entries(self) -> list[Enrolled]:
        return self._seen

    def hint(self) -> None:
        """It has just been changed."""
        self._hint.set()

    async def changed(self) -> None:
        while (now := self._roll.all()) == self._seen:
            await pause(self._hint, _LOOK)
            self._hint.clear()
        self._seen = now


class ToldRoll:
    """That of another box, and meanwhile the last one that it told: brokers work on without the authority."""

    def __init__(self, home: FleetHome) -> None:
        self._home = home
        self._file = home.directory(MemberRole.BROKER) / "roll.json"
        self._seen: list[Enrolled] = []
        self._version = ""
        self._warned = ("", "")

    async def begin(self) -> None:
        """Have the first one: of the last time if the authority does not answer; it is waited for if there was none.

        LmxdError ``config``.
        """
        while not self._version:
            try:
                await self._ask()
            except LmxdError as error:
                if error.code == "config":
                    raise
                with suppress(OSError, ValueError):
                    self._take(self._file.read_bytes())
                if self._version:
                    self._warn("members are those of the last time", error)
                    return
                self._warn("the authority is waited for", error)
                await asyncio.sleep(_PAUSE)

    def entries(self) -> list[Enrolled]:
        return self._seen

    async def changed(self) -> None:
        before = self._seen
        while self._seen == before:
            try:
                await self._ask()
            except LmxdError as error:
                self._warn("members may have changed since", error)
                await asyncio.sleep(_PAUSE)

    def _warn(self, words: str, error: LmxdError) -> None:
        """Say it once: it is tried again every two seconds."""
        if (words, str(error)) != self._warned:
            log.warning("%s: %s", words, error)
        self._warned = words, str(error)

    async def _ask(self) -> None:
        path = f"{messages.ROLL_PATH}?known={self._version}"
        client = authority_client(self._home, MemberRole.BROKER)
        _, content = await aside(lambda: client.get(path))
        try:
            self._take(content)
        except ValueError as error:
            raise LmxdError("bad_answer", "the authority tells no roll", "update lmxd") from error
        self._warned = ("", "")
        private_files.write(self._file, content)

    def _take(self, content: bytes) -> None:
        self._seen, self._version = decoded(content), version_of(content)
