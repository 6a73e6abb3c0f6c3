"""The cards on NATS, as gateways and operators may read them: all of them, by watching."""

from __future__ import annotations

from nats.aio.client import Client
from waiting import GENEROUS

from lmxd.fleet import names


async def cards_there(client: Client) -> dict[str, bytes]:
    """The cards that are there, by node."""
    watcher = await (await client.jetstream().key_value(names.BUCKET)).watchall(ignore_deletes=True)
    found: dict[str, bytes] = {}
    while (entry := await watcher.updates(timeout=GENEROUS)) is not None:  # type: ignore[no-untyped-call]
        found[entry.key] = entry.value or b""
    await watcher.stop()  # type: ignore[no-untyped-call]
    return found
