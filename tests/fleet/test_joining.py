"""Boxes join a fleet by commands, with real processes."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner
from fleet_home import box
from fleet_process import SERVED, BrokerProcess, FleetBox
from free_ports import free_address, free_ports
from nats.aio.client import Client
from nats.errors import Error
from nats.js.kv import KeyValue
from waiting import GENEROUS, until, wait_until

from lmxd.__main__ import main
from lmxd.config import keys
from lmxd.errors import LmxdError
from lmxd.fleet import bus, names, tls
from lmxd.fleet.addresses import host_and_port
from lmxd.fleet.authority.certificates import Authority, requested, validity
from lmxd.fleet.authority.joining import Joining, joining_context
from lmxd.fleet.authority.nats_server import NatsServer
from lmxd.fleet.authority.office import Office
from lmxd.fleet.authority.roll import encoded, version_of
from lmxd.fleet.authority.rolls import ToldRoll
from lmxd.fleet.home import FleetHome
from lmxd.fleet.joining import AuthorityClient
from lmxd.fleet.joining_messages import ROLL_PATH, JoinAnswer, JoinRequest
from lmxd.fleet.members import MemberRole, any_host
from lmxd.fleet.renewing import authority_client, due, keep_renewed, renew

NODE, GATEWAY, BROKER = MemberRole.NODE, MemberRole.GATEWAY, MemberRole.BROKER


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetBox]:
    made = FleetBox(tmp_path_factory.mktemp("fleet") / "first")
    made.init("n1")
    with made.broker():
        yield made


async def put_card(home: FleetHome, name: str) -> bool:
    """Put a card of that name as this box's node; whether it is there."""
    client = await bus.connect(home, NODE)
    try:
        cards = await client.jetstream(timeout=1).key_value(names.BUCKET)
        return await cards.put(name, b"card") > 0
    finally:
        await client.close()


async def test_a_box_joins_and_is_heard(first: FleetBox, tmp_path: Path) -> None:
    second = FleetBox(tmp_path / "second")
    said = second.run("join", first.run("token"), "--node", "n2")
    assert f"others reach it at {second.home.settings.door}" in said, "a firewall has to let the door's port through"
    assert await put_card(second.home, "n2")
    assert second.home.settings.fleet == "home"
    assert second.home.key(NODE).stat().st_mode & 0o777 == stat.S_IRUSR | stat.S_IWUSR
    assert "node      n2" in first.run("members")
    assert second.done("members").exit_code != 0, "it has no authority"


async def test_a_box_gets_a_further_role(first: FleetBox, tmp_path: Path) -> None:
    """By a token from standard input, where no list of processes shows it."""
    box3 = FleetBox(tmp_path / "third")
    box3.run("join", "--node", "n3", said=first.run("token"))
    word = first.run("token", "--role", "gateway", "--role", "operator")
    other = box3.done("join", "--node", "n4", said=word)
    assert "this box is n3 in its fleet, not n4" in other.stderr
    box3.run("join", said=word)
    assert [box3.home.certificate(role).exists() for role in MemberRole] == [True, True, True, False]
    client = await bus.connect(box3.home, GATEWAY)
    await client.close()


def test_a_token_that_was_used(first: FleetBox, tmp_path: Path) -> None:
    word = first.run("token")
    FleetBox(tmp_path / "a").run("join", word, "--node", "n5")
    late = FleetBox(tmp_path / "b")
    found = late.done("join", word, "--node", "n6")
    assert (found.exit_code, "this token was used" in found.stderr) == (77, True)
    assert word not in found.stderr
    assert not late.directory.exists(), "nothing is left of it"


def test_a_token_of_another_authority(first: FleetBox, tmp_path: Path) -> None:
    """Whoever answers at the address is not believed without the key of the token's authority."""
    other = FleetBox(tmp_path / "other")
    other.init("x")
    settings = json.dumps(other.home.settings.model_dump(mode="json") | {"authority": first.home.settings.authority})
    other.home.config.write_text(settings)
    found = FleetBox(tmp_path / "a").done("join", other.run("token"), "--node", "n7")
    assert "is not the authority that the token is of" in found.stderr


def test_without_a_fleet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alone = FleetBox(tmp_path / "a")
    assert alone.done("broker").exit_code == 78
    assert "this box is in no fleet" in caplog.text
    assert "that is no token" in alone.done("join", said="nonsense").stderr
    alone.init("n1")
    assert "in a fleet already" in alone.done("init").stderr


def test_the_gateway_has_the_keys_of_the_box(tmp_path: Path) -> None:
    """Which ``lmxd key`` adds to; without any, it is said what is to be written."""
    config = tmp_path / "config.yaml"
    config.write_text(f"gateway: {{listen: '127.0.0.1:1', keys_file: {tmp_path / 'gateway.keys'}}}\n")
    words = ["--config", str(config), "fleet", "--home", str(tmp_path / "a"), "init", "--address", "127.0.0.1"]
    begun = CliRunner().invoke(main, words, catch_exceptions=False)
    assert "for one endpoint at 127.0.0.1:8090: lmxd fleet gateway\n" in begun.stdout
    gateway = FleetHome.at(tmp_path / "a", user=False).settings.gateway
    assert (gateway.listen, gateway.keys_file) == ("127.0.0.1:8090", tmp_path / "gateway.keys")
    without = FleetBox(tmp_path / "b")
    assert "for one endpoint here: gateway.listen and keys_file in " in without.init("n1")


def test_a_gateways_box_needs_no_lmxd_for_keys(tmp_path: Path) -> None:
    alone = FleetBox(tmp_path / "a")
    assert "for each user of it: lmxd fleet key NAME" in alone.init("n1")
    assert "gateway.keys_file is not set" in alone.done("key", "ada").stderr
    with alone.home.config.open("a") as file:
        file.write(f"gateway: {{listen: '127.0.0.1:1', keys_file: {tmp_path / 'keys'}}}\n")
    word = alone.run("key", "ada")
    assert keys.Keys(tmp_path / "keys").caller(word) is not None


def test_a_wrong_key_of_fleet_yaml_is_named(tmp_path: Path) -> None:
    alone = FleetBox(tmp_path / "a")
    alone.init("n1")
    before = alone.home.config.read_text()
    for line, words in (
        ("nod: x\n", "nod: unknown key; did you mean node?"),
        ("labels: {a: [1]}\n", "labels.a is [1]: input should be a valid string"),
        ("gateway: {lissen: x}\n", "gateway.lissen: unknown key; did you mean listen?"),
    ):
        alone.home.config.write_text(before + line)
        assert words in alone.done("token").stderr
    alone.home.config.write_text(re.sub("door: .*", "door: n1", before))
    assert "door is 'n1': give HOST:PORT" in alone.done("token").stderr


async def test_a_member_is_removed(first: FleetBox, tmp_path: Path) -> None:
    gone = FleetBox(tmp_path / "gone")
    gone.run("join", first.run("token"), "--node", "n8")
    events: list[str] = []

    async def lost() -> None:
        events.append("lost")

    client = await bus.connect(gone.home, NODE, lost=lost)
    first.run("remove", "node", "n8")
    await until(lambda: events == ["lost"])
    await client.close()
    with pytest.raises(LmxdError, match="no member any more"):
        await asyncio.to_thread(renew, gone.home, NODE)


def test_a_member_is_removed_where_members_are_known(first: FleetBox, tmp_path: Path) -> None:
    other = FleetBox(tmp_path / "other")
    other.run("join", first.run("token"), "--node", "n90")
    assert "on the box of lmxd fleet init alone" in other.done("remove", "node", "n90").stderr
    assert "there is no node nobody" in first.done("remove", "node", "nobody").stderr


def test_a_box_that_is_no_node_waits_for_no_lmxd(
    first: FleetBox, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMXD_SOCKET", str(tmp_path / "none.sock"))
    other = FleetBox(tmp_path / "other")
    other.run("join", first.run("token", "--role", "gateway"), "--node", "g9")
    assert other.done("node").exit_code == 78
    assert "no usable certificate as node" in caplog.text


def test_a_second_broker_of_a_box(first: FleetBox, caplog: pytest.LogCaptureFixture) -> None:
    """It says so in one line."""
    assert first.done("broker").exit_code == 78
    gc.collect()
    (said,) = caplog.messages
    assert "address already in use (if it does not run here already, choose another port)" in said


async def test_a_certificate_is_renewed_in_time(first: FleetBox, tmp_path: Path) -> None:
    second = FleetBox(tmp_path / "a")
    second.run("join", first.run("token"), "--node", "n9")
    home, context = second.home, tls.client_context(second.home, NODE)
    before, key = home.certificate(NODE).read_bytes(), home.key(NODE).read_bytes()
    told: list[bytes] = []
    begin, end = validity(before)
    assert due(home, NODE) == pytest.approx(begin + (end - begin) * 2 / 3)
    keeping = asyncio.create_task(
        keep_renewed(
            home,
            NODE,
            [context],
            renewed=lambda: told.append(home.certificate(NODE).read_bytes()),
            clock=lambda: due(home, NODE) + (-1 if told else 1),
        )
    )
    await until(lambda: told)
    keeping.cancel()
    assert told[0] != before
    assert home.key(NODE).read_bytes() == key
    client = await bus.connect(home, NODE, context=context)
    await client.close()


def test_only_members_renew_and_only_brokers_see_the_roll(first: FleetBox, tmp_path: Path) -> None:
    rogue = box(Authority.new("home"), tmp_path / "a", "n1", [NODE])
    rogue.config.write_bytes(first.home.config.read_bytes())
    rogue.ca.write_bytes(first.home.ca.read_bytes())
    with pytest.raises(LmxdError, match="does not answer"):
        renew(rogue, NODE)
    with pytest.raises(LmxdError, match="node n1 is no broker"):
        authority_client(first.home, NODE).get(ROLL_PATH)
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.load_verify_locations(first.home.ca)
    unknown = AuthorityClient(first.home.settings.authority, stranger, any_host("home", BROKER))
    with pytest.raises(LmxdError, match="this is for members"):
        unknown.get(ROLL_PATH)


def test_a_box_that_was_off_for_too_long_joins_again(first: FleetBox, tmp_path: Path) -> None:
    second = FleetBox(tmp_path / "a")
    second.run("join", first.run("token"), "--node", "n10")
    authority = Authority(first.home.ca.read_bytes(), (first.home.authority / "ca.key").read_bytes())
    long_ago = datetime.now(UTC) - timedelta(days=100)
    request = requested(second.home.key(NODE).read_bytes())
    second.home.certificate(NODE).write_bytes(authority.sign(request, second.home.member(NODE), now=long_ago))
    with pytest.raises(LmxdError, match=r"ended on .*--name n10"):
        renew(second.home, NODE)
    second.run("join", first.run("token", "--name", "n10"))
    renew(second.home, NODE)
    assert validity(second.home.certificate(NODE).read_bytes())[1] > datetime.now(UTC).timestamp()


async def test_nats_server_has_the_certificate_that_was_renewed(tmp_path: Path) -> None:
    """A broker's own is renewed by its authority when a third of its life is left; members do not notice."""
    alone = FleetBox(tmp_path / "a")
    alone.init("n1")
    authority = Authority(alone.home.ca.read_bytes(), (alone.home.authority / "ca.key").read_bytes())
    request = requested(alone.home.key(BROKER).read_bytes())
    old = authority.sign(request, alone.home.member(BROKER), hosts=["127.0.0.1"], lifetime=timedelta(minutes=1))
    alone.home.certificate(BROKER).write_bytes(old)
    with alone.broker():
        await until(lambda: alone.home.certificate(BROKER).read_bytes() != old)
        new = ssl.PEM_cert_to_DER_cert(alone.home.certificate(BROKER).read_text())
        await until(lambda: certificate_of_nats(alone.home) == new)


def certificate_of_nats(home: FleetHome) -> bytes | None:
    """The certificate (DER) that nats-server shows, after its first line."""
    host, port = host_and_port(home.settings.brokers[0].removeprefix("tls://"))
    with socket.create_connection((host, port), 5) as plain:
        assert plain.recv(4096).startswith(b"INFO")
        context = tls.client_context(home, NODE)
        with context.wrap_socket(plain, server_hostname=any_host("home", BROKER)) as secure:
            return secure.getpeercert(binary_form=True)


def test_guesses_are_few(tmp_path: Path) -> None:
    alone = FleetBox(tmp_path / "a")
    alone.init("n1")
    with alone.broker():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(alone.home.ca)
        client = AuthorityClient(alone.home.settings.authority, context, any_host("home", BROKER))
        codes = []
        for number in range(25):
            guess = JoinRequest(secret=f"{number:032x}", name="x", requests={})
            with pytest.raises(LmxdError) as found:
                client.post("/fleet/join", guess, JoinAnswer)
            codes.append(found.value.code)
    assert codes == ["not_permitted"] * 20 + ["too_many"] * 5


async def test_a_broker_that_was_killed_begins_again(tmp_path: Path) -> None:
    """Its nats-server lives on, and has the port: the next one ends it. A nats-server that dies is started again."""
    alone = FleetBox(tmp_path / "a")
    alone.init("n1")
    with alone.broker() as killed:
        assert await put_card(alone.home, "n1")
        killed.end(signal.SIGKILL)
    with alone.broker() as again:
        pid = int((alone.home.directory(BROKER) / "nats.pid").read_text())
        assert await put_card(alone.home, "n1")
        before = again.said("Server is ready")
        os.kill(pid, signal.SIGKILL)
        await until(lambda: again.said("Server is ready") > before, seen=alone.log.read_text)
        assert await put_card(alone.home, "n1")
        assert again.end() == 0


def test_a_broker_waits_for_its_authority(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Which may be started after it. With what it was told then it begins alone."""
    first, second = FleetBox(tmp_path / "a"), FleetBox(tmp_path / "b")
    first.init("n1")
    with first.broker():
        second.run("join", first.run("token", "--role", "broker"), "--node", "b2", "--port", str(free_ports(3)))
    with second.log.open("wb") as log, subprocess.Popen(second.command("broker"), stderr=log) as waiting:
        try:
            wait_until(lambda: "the authority is waited for: " in second.log.read_text())
            with first.broker():
                wait_until(lambda: SERVED in second.log.read_text())
        finally:
            waiting.terminate()
    roll = ToldRoll(second.home)
    asyncio.run(roll.begin())
    assert [entry.name for entry in roll.entries() if entry.role is BROKER] == ["b2", "n1"]
    assert "members are those of the last time" in caplog.text


async def test_an_authority_that_ends_keeps_no_broker_waiting(tmp_path: Path) -> None:
    """And does not wait for it: it would be as long as a broker waits for another roll."""
    alone = FleetBox(tmp_path / "a")
    alone.init("n1")
    office = Office(alone.home.ca, alone.home.authority)
    known = version_of(encoded(office.roll.all()))
    runner = web.AppRunner(Joining(office, lambda: None, wait=2 * GENEROUS).app(), shutdown_timeout=1)
    await runner.setup()
    host, port = host_and_port(alone.home.settings.authority)
    await web.TCPSite(runner, host, port, ssl_context=joining_context(alone.home)).start()
    client = authority_client(alone.home, BROKER)
    waiting = asyncio.create_task(asyncio.to_thread(client.get, f"{ROLL_PATH}?known={known}"))
    await until(lambda: waiting.done() or (runner.server and runner.server.requests_count))
    assert not waiting.done()
    await runner.cleanup()
    assert version_of((await waiting)[1]) == known


async def test_three_brokers_and_one_dies(tmp_path: Path) -> None:
    """The cards stay, once all three keep them; a member that was connected to it goes to another one by itself.

    Another box takes its place by its name. Then another one may die: NATS does not count the lost one beside it.
    """
    boxes, begun = [FleetBox(tmp_path / f"b{number}") for number in range(3)], list[BrokerProcess]()
    with ExitStack() as held:
        boxes[0].init("b0")
        held.enter_context(boxes[0].broker())
        for number in (1, 2):
            word = boxes[0].run("token", "--role", "broker", "--role", "node")
            boxes[number].run("join", word, "--node", f"b{number}", "--port", str(free_ports(3)))
            begun.append(held.enter_context(boxes[number].broker()))
        node, last = boxes[2].home, begun[-1]
        assert len(node.settings.brokers) == 3
        found: list[str] = []

        async def again() -> None:
            found.append(str(client.connected_url))

        def logs() -> str:
            return "\n".join(box.log.read_text()[-5000:] for box in boxes)

        own_first = FleetBox(tmp_path / "b2")
        settings = node.settings.model_dump(mode="json")
        own_first.home.config.write_text(json.dumps(settings | {"brokers": settings["brokers"][-1:]}))
        client = await bus.connect(own_first.home, NODE, found=again)
        cards = await _cards(client)
        await until(lambda: _is_put(cards, b"card"))
        await until(lambda: last.said("the cards are kept by 3 of 3 brokers"), seen=logs)
        assert (await cards.status()).stream_info.config.num_replicas == 3
        _kill(last, boxes[2])
        await until(lambda: found, seen=logs)
        await until(lambda: _is_there(cards), seen=logs)
        await until(lambda: _is_put(cards, b"another"), seen=logs)
        await client.close()
        word = boxes[0].run("token", "--role", "broker", "--role", "node", "--name", "b2")
        boxes.append(FleetBox(tmp_path / "b3"))
        boxes[3].run("join", word, "--node", "b2", "--port", settings["brokers"][-1].rpartition(":")[2])
        new = held.enter_context(boxes[3].broker())
        await until(lambda: new.said("the cards are kept by 3 of 3 brokers"), seen=logs)
        _kill(begun[0], boxes[1])
        await until(lambda: _puts_card(boxes[3].home, "b2"), seen=logs)


async def _puts_card(home: FleetHome, name: str) -> bool:
    with suppress(Error):  # as below
        return await put_card(home, name)
    return False


def _kill(broker: BrokerProcess, of: FleetBox) -> None:
    """As if its box were gone: nats-server would live on."""
    broker.end(signal.SIGKILL)
    os.kill(int((of.home.directory(BROKER) / "nats.pid").read_text()), signal.SIGKILL)


async def _cards(client: Client) -> KeyValue:
    found: list[KeyValue] = []

    async def there() -> bool:
        with suppress(Error):  # the three are still choosing a leader
            found.append(await client.jetstream().key_value(names.BUCKET))
        return bool(found)

    await until(there)
    return found[0]


async def _is_put(cards: KeyValue, value: bytes) -> bool:
    with suppress(Error):  # as below
        await cards.put("b2", value)
        return await _is_there(cards)
    return False


async def _is_there(cards: KeyValue) -> bool:
    with suppress(Error):  # another leader is being chosen
        return (await cards.status()).values == 1
    return False


async def test_a_nats_server_that_is_killed_at_once_is_started_again(tmp_path: Path) -> None:
    """One that ends by itself within a second cannot work; this one could."""
    server = NatsServer(tmp_path, pause=60)
    pid = tmp_path / "nats.pid"
    address = free_address()
    keeping = asyncio.create_task(server.keep(lambda: f"listen: {address}"))
    await until(lambda: keeping.done() or (pid.exists() and pid.read_text()))
    os.kill(int(pid.read_text()), signal.SIGKILL)
    await asyncio.wait((keeping,), timeout=1)
    assert not keeping.done()
    keeping.cancel()
    await asyncio.wait((keeping,))


async def answers(address: str) -> bool:
    try:
        _, writer = await asyncio.open_connection(*host_and_port(address))
    except OSError:
        return False
    writer.close()
    return True


async def test_what_nats_server_is_to_know_changes_while_it_is_started(tmp_path: Path) -> None:
    """As when another broker joins just then: there is none yet to be told of it."""
    server, before, after = NatsServer(tmp_path, pause=0), free_address(), free_address()
    known = iter((before,))
    keeping = asyncio.create_task(server.keep(lambda: f"listen: {next(known, after)}"))
    await until(lambda: answers(after))
    keeping.cancel()
    await asyncio.wait((keeping,))


async def test_a_nats_server_that_is_frozen_is_started_again_all_the_same(tmp_path: Path) -> None:
    """It would never end by itself, and a cluster would go on with one server less than it knows of."""
    server, pid, address = NatsServer(tmp_path, pause=0, patience=0), tmp_path / "nats.pid", free_address()
    keeping = asyncio.create_task(server.keep(lambda: f"listen: {address}"))
    await until(lambda: answers(address))
    before = pid.read_text()
    os.kill(int(before), signal.SIGSTOP)
    server.restart()
    await until(lambda: keeping.done() or pid.read_text() not in ("", before))
    assert not keeping.done()
    keeping.cancel()
    await asyncio.wait((keeping,))


async def test_a_nats_server_that_is_told_to_start_again_at_once_is_started_again(tmp_path: Path) -> None:
    """As when another broker joins in the first second: nats-server ends with status 0 by that."""
    server, address = NatsServer(tmp_path, pause=60), free_address()
    keeping = asyncio.create_task(server.keep(lambda: f"listen: {address}"))
    await until(lambda: answers(address))
    server.restart()
    await until(lambda: not server.runs)
    await asyncio.wait((keeping,), timeout=1)
    assert not keeping.done()
    keeping.cancel()
    await asyncio.wait((keeping,))
