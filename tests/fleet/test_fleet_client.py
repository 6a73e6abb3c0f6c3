"""Leases of a fleet for programs: the node is asked by NATS, and no gateway is on the way to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from fleet_boxes import Boxes, boxes
from waiting import until

from lmxd.errors import LmxdError
from lmxd.fleet.client import FleetClient
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxes]:
    """``m`` is at two nodes, which have room for one instance, and that one slot; ``a`` at the first alone."""
    model = {"slots": 1}
    models = {"n1": {"m": model, "a": {}}, "n2": {"m": model}}
    with boxes(tmp_path_factory.mktemp("fleet"), models, gib=0.8) as found:
        yield found


@pytest.fixture(scope="module")
def home(fleet: Boxes) -> FleetHome:
    return fleet.broker.box("o1", [MemberRole.OPERATOR])


def leases(fleet: Boxes) -> dict[str, int]:
    """The leases at each node."""
    return {name: sum(len(each.leases) for each in lmxd.instances().values()) for name, lmxd in fleet.lmxds.items()}


async def test_a_program_asks_the_node_itself(fleet: Boxes, home: FleetHome) -> None:
    async with FleetClient(home) as client:
        async with client.request("a", user="me") as lease, openai.DefaultAsyncHttpxClient(verify=client.tls) as http:
            assert lease.node == "n1"
            assert lease.base_url.startswith(f"https://{fleet.nodes['n1'].address}/")
            asking = openai.AsyncOpenAI(base_url=lease.base_url, api_key=lease.api_key, http_client=http)
            answer = await asking.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}])
            assert answer.choices[0].message.content
            assert leases(fleet) == {"n1": 1, "n2": 0}
        await until(lambda: leases(fleet) == {"n1": 0, "n2": 0})


async def test_leases_go_where_there_is_room_and_are_refused_where_there_is_none(fleet: Boxes, home: FleetHome) -> None:
    async with FleetClient(home) as client:
        async with client.request("m", wait=60) as one, client.request("m", wait=60) as two:
            assert {one.node, two.node} == {"n1", "n2"}
            with pytest.raises(LmxdError) as refused:
                async with client.request("m"):
                    pass
            assert refused.value.code in ("no_capacity", "wait_expired")
        with pytest.raises(LmxdError, match="no node has a model 'none'"):
            async with client.request("none"):
                pass
    await until(lambda: leases(fleet) == {"n1": 0, "n2": 0})


def test_a_user_with_a_fleet_needs_not_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with lmxctl fleet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(LmxdError, match=r"/etc/lmxd/fleet/fleet\.yaml"):
        FleetClient()
    (config := FleetHome.at(None, user=True).config).parent.mkdir(parents=True)
    config.write_text("fleet: home\n")
    with pytest.raises(LmxdError, match=str(tmp_path)):
        FleetClient()
