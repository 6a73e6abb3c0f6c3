"""Leases as the clients return them: the end of a ``with`` block releases the lease."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

from lmxd.errors import LmxdError
from lmxd.rpc.messages import Granted


class BlockingLease(Granted):
    """A granted lease of a ``Client``. The end of its ``with`` block releases it."""

    _release: Callable[[str], object]

    def release(self) -> None:
        self._release(self.lease)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(LmxdError):  # it may have ended by itself
            self.release()


class AsyncLease(Granted):
    """A granted lease of an ``AsyncClient``. The end of its ``async with`` block releases it."""

    _release: Callable[[str], Awaitable[object]]

    async def release(self) -> None:
        await self._release(self.lease)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(LmxdError):
            await self.release()
