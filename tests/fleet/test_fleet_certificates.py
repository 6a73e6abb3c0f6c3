"""Certificates that end while a fleet is in use: they are renewed by themselves, and one that has ended is told so."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fleet_boxes import FleetGateway, lmxd_with, made
from fleet_load import FleetLoad
from fleet_node import Node
from fleet_process import FleetBox
from free_ports import free_address
from waiting import until, wait_until

from lmxd.fleet.authority.certificates import Authority, requested, validity
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole
from lmxd.fleet.renewing import next_look
from lmxd.fleet.tls import client_context

NODE, GATEWAY = MemberRole.NODE, MemberRole.GATEWAY
DAY = 86400.0


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetBox]:
    """The box of an authority, whose broker runs; it has all roles, and a gateway's settings."""
    directory = tmp_path_factory.mktemp("fleet")
    made_here = FleetBox(directory / "first")
    made_here.init("n1")
    with made_here.home.config.open("a") as settings:
        settings.write(f"gateway: {{listen: '{free_address()}', keys_file: {directory / 'keys'}}}\n")
    box = FleetBox(made_here.directory)
    with box.broker():
        yield box


def ends(home: FleetHome, role: MemberRole, begin: timedelta, end: timedelta) -> bytes:
    """The certificate of a role, which begins and ends so long from now."""
    authority = Authority(home.ca.read_bytes(), (home.authority / "ca.key").read_bytes())
    request, now = requested(home.key(role).read_bytes()), datetime.now(UTC)
    found = authority.sign(request, home.member(role), now=now + begin, lifetime=end - begin)
    home.certificate(role).write_bytes(found)
    return found


def shown(node: Node, home: FleetHome) -> bytes:
    """The certificate (DER) that a door shows to who comes now."""
    host, _, port = node.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), 60) as plain,
        client_context(home, GATEWAY).wrap_socket(plain, server_hostname=home.member(NODE).host) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


async def test_certificates_are_renewed_under_load(first: FleetBox, tmp_path: Path) -> None:
    """Those of a node and of a gateway have 100 s left, and are due in two: clients notice nothing."""
    home, old = first.home, {}
    for role in (NODE, GATEWAY):
        old[role] = ends(home, role, timedelta(seconds=-198), timedelta(seconds=101))
    with ExitStack() as held:
        lmxd = held.enter_context(lmxd_with(made(tmp_path / "box"), {"m": {"slots": 4}}))
        node = held.enter_context(Node(lmxd, home))
        gateway = held.enter_context(FleetGateway(home))
        wait_until(lambda: gateway.nodes_of("m") == {"n1"})
        load = FleetLoad(gateway.url, gateway.key, clients=2)
        async with load.going_on():
            for role in (NODE, GATEWAY):
                await until(lambda role=role: home.certificate(role).read_bytes() != old[role], seen=load.shown)  # type: ignore[misc]
            new = ssl.PEM_cert_to_DER_cert(home.certificate(NODE).read_text())
            await until(lambda: shown(node, home) == new)
            renewed_at = time.monotonic()
            await until(lambda: load.each_has(2, renewed_at), seen=load.shown)
        assert load.broken() == []
        assert validity(home.certificate(NODE).read_bytes())[1] > time.time() + 80 * DAY


def test_one_that_has_ended_is_told_so(first: FleetBox, tmp_path: Path) -> None:
    """By the gateway itself, and to its clients that nothing is known of any node."""
    ends(first.home, GATEWAY, timedelta(days=-100), timedelta(days=-10))
    with FleetGateway(first.home) as gateway:
        wait_until(lambda: gateway.said("the certificate of this box as gateway ended on"))
        assert gateway.said("lmxd fleet token --role gateway --name n1 on the box of lmxd fleet init")
        with gateway.client() as client:
            answer = client.post("/v1/chat/completions", json={"model": "m", "messages": []})
            assert answer.status_code in (404, 503)


@pytest.mark.parametrize(
    ("begin", "end", "seconds"),
    [
        pytest.param(0, 90 * DAY, 3600, id="long before"),
        pytest.param(-59.99 * DAY, 30.01 * DAY, 864, id="the last look before"),
        pytest.param(-70 * DAY, 20 * DAY, 3600, id="after a failure"),
        pytest.param(-10, 50, 30, id="a life of a minute"),
        pytest.param(-50, 10, 1, id="what is left of it"),
        pytest.param(-60, -1, 3600, id="it has ended"),
    ],
)
def test_it_is_looked_at_in_time(begin: float, end: float, seconds: float) -> None:
    assert next_look(begin, end, 0.0) == pytest.approx(seconds)
