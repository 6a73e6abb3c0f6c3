"""The bucket of cards on NATS, which a broker makes: nodes may only put their own into it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import msgspec
from nats.aio.client import Client
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import BadRequestError

from lmxd.fleet.names import BUCKET

TTL: Final = 60.0
"""Seconds after which the card of a node that does not put it again is gone."""
_LARGEST: Final = 256 * 2**10
"""Bytes of a card: a thousand models have some 100 each."""


async def make(bus: Client, replicas: int) -> None:
    """Make it, or have it kept by another number of servers. ``nats.errors.Error`` if they are not ready yet."""
    stream = bus.jetstream()
    settings = KeyValueConfig(
        bucket=BUCKET,
        description="lmxd's nodes",
        max_value_size=_LARGEST,
        history=1,
        ttl=TTL,
        storage=StorageType.FILE,
        replicas=replicas,
        direct=True,
    )
    with suppress(BadRequestError):  # it is there, with other settings
        await stream.create_key_value(settings)
    found = (await stream.stream_info(f"KV_{BUCKET}")).config
    meant = {"num_replicas": replicas, "max_age": TTL, "max_msg_size": _LARGEST}
    await stream.update_stream(found, **meant, allow_rollup_hdrs=False)  # by which one card would take all others away


async def is_kept(bus: Client, replicas: int) -> bool:
    """Whether so many servers keep it, and all are there. ``nats.errors.Error`` if none answers for it.

    nats-server 2.15 has further ones decide with the first one after another, up to seconds after ``make``: of two
    that decide neither may fail. It tells what is still desired then, and earlier versions have them all at once.
    """
    answer = await bus.request(f"$JS.API.STREAM.INFO.KV_{BUCKET}", timeout=5)
    found: dict[str, Any] = msgspec.json.decode(answer.data)
    cluster = found.get("cluster", {})
    others = [other for other in cluster.get("replicas", ()) if other.get("current") and not other.get("offline")]
    moving = cluster.get("desired") is not None
    told = found.get("config", {}).get("num_replicas")
    return not moving and told == replicas == 1 + len(others)
