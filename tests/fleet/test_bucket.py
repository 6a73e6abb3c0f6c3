"""The bucket of cards, as nats-server tells of it."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from lmxd.fleet.authority.bucket import is_kept

_ALONE: dict[str, Any] = {"config": {"num_replicas": 1}}
_THERE = {"name": "b1", "current": True, "active": 100}
_LATE, _OFF = _THERE | {"current": False, "lag": 3}, _THERE | {"current": False, "offline": True}
_ADDING: dict[str, Any] = {"origin": {"replicas": 1}, "status": {"description": "adding peer b1"}}
_NOT_YET: dict[str, Any] = {"error": {"code": 503, "description": "JetStream system temporarily unavailable"}}


def _three(*others: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"config": {"num_replicas": 3}, "cluster": {"leader": "b0", "replicas": list(others)} | more}


class ToldBus:
    """A server that tells one thing of the bucket."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told

    async def request(self, subject: str, timeout: float) -> Msg:
        assert (subject, timeout > 0) == ("$JS.API.STREAM.INFO.KV_lmxd_nodes", True)
        return Msg(_client=cast(Client, self), data=json.dumps(self._told).encode())


@pytest.mark.parametrize(
    ("told", "replicas", "kept"),
    [
        (_ALONE, 1, True),
        (_ALONE, 3, False),
        (_three(_THERE, _THERE), 3, True),
        (_three(_THERE, _THERE, desired=_ADDING), 3, False),
        (_three(_THERE, _LATE), 3, False),
        (_three(_THERE, _OFF), 3, False),
        (_NOT_YET, 3, False),
    ],
)
async def test_it_is_kept_when_all_that_are_meant_decide(told: dict[str, Any], replicas: int, kept: bool) -> None:
    """Recorded of nats-server 2.15: while it adds servers it tells their number already, and what is desired."""
    assert await is_kept(cast(Client, ToldBus(told)), replicas) == kept
