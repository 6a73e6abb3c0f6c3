"""The contract of an engine that can sleep."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from lmxd.engines.engine import Endpoint


@runtime_checkable
class Sleeper(Protocol):
    """An engine that can sleep: its weights move to RAM, and what its cache has on its cards is given up."""

    async def put_to_sleep(self, endpoint: Endpoint, seconds: float) -> bool:
        """Have an idle instance fall asleep within so many seconds; whether it says that it did."""
        ...

    async def wake(self, endpoint: Endpoint, seconds: float) -> bool:
        """Have it wake; whether it says that it did, and serves requests again."""
        ...

    async def asleep(self, endpoint: Endpoint) -> bool | None:
        """Whether it sleeps; None if it does not say."""
        ...
