"""The gateway for other machines: only where it is asked for, with keys, and by TLS."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from pathlib import Path

import aiohttp
import pytest
from pydantic import ValidationError

from gateway.front import opened
from gateway.test_serving import house
from lmxd.config.gateway import GatewayConfig, MetricsConfig
from lmxd.errors import LmxdError
from lmxd.listening.certificate import Certificate
from lmxd.listening.connections import Connections
from lmxd.listening.listen import listen

CERTIFICATES = Path(__file__).parent / "certificates"
FIRST, SECOND = CERTIFICATES / "first.pem", CERTIFICATES / "second.pem"
"""Each with its key, for localhost; made once by openssl, and good for a hundred years."""


def gateway(**settings: object) -> GatewayConfig:
    return GatewayConfig.model_validate({"keys_file": "/k", **settings})


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "[::]:8080", "192.168.1.5:80", "[fd00::1]:8080"])
def test_other_machines_are_let_in_by_an_address_with_keys(address: str) -> None:
    assert not gateway(listen=address).is_local
    with pytest.raises(ValidationError, match=r"other machines, too, which need a key"):
        gateway(listen=address, anonymous=True)
    with pytest.raises(ValidationError, match="give a keys_file"):
        GatewayConfig(listen=address)
    with pytest.raises(ValidationError, match=r"only 127\.0\.0\.1"):
        MetricsConfig(listen=address)


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "127.8.8.8:1", "localhost:8080", "[::1]:8080", "unix:/run/x"])
def test_this_machine_alone_can_connect(address: str) -> None:
    assert gateway(listen=address, anonymous=True).is_local
    assert gateway(listen=address).warnings == ()
    assert MetricsConfig(listen=address).listen == address


@pytest.mark.parametrize(
    "address", ["8080", ":8080", "*:8080", "host:8080", "1.2.3:8080", "[1.2.3:80", "1.2.3.4:70000", "[::1%eth0]:80"]
)
def test_an_address_that_is_none_is_refused_with_the_possible_ones(address: str) -> None:
    with pytest.raises(ValidationError, match=r"0\.0\.0\.0:8080 for all networks"):
        gateway(listen=address)


def test_without_tls_there_is_a_warning() -> None:
    (warning,) = gateway(listen="0.0.0.0:8080").warnings
    assert "without TLS" in warning
    assert gateway(listen="0.0.0.0:8080", tls_cert="/c").warnings == ()
    with pytest.raises(ValidationError, match="give tls_cert, too"):
        gateway(listen="0.0.0.0:8080", tls_key="/k")


async def test_a_browser_may_come_by_a_number_but_not_by_a_name_made_to_lead_here(tmp_path: Path) -> None:
    """No page of another site has a browser send the number of this machine as its own host."""
    async with opened(house(tmp_path), listen="0.0.0.0:8080") as front:
        asked = {"method": "GET", "Authorization": ""}
        for host, status in (("192.168.1.5:8080", 200), ("[fd00::1]:8080", 200), ("evil.example", 403)):
            assert (await front.ask("/", **asked, Host=host)).status == status
        assert (await front.ask("/v1/models", **asked, Host="192.168.1.5:8080")).status == 401
    async with opened(house(tmp_path), listen="127.0.0.1:8080") as front:
        assert (await front.ask("/", **asked, Host="192.168.1.5:8080")).status == 403


def trusting(path: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(path))


async def test_it_speaks_tls_and_takes_a_renewed_certificate(tmp_path: Path) -> None:
    shutil.copy(FIRST, cert := tmp_path / "cert.pem")
    certificate = Certificate(cert, None)
    async with opened(house(tmp_path), tls=certificate.context) as front:
        url = front.url.replace("http://", "https://") + "/v1/models"
        first = trusting(FIRST)
        async with aiohttp.ClientSession(headers=front.headers()) as session:
            async with session.get(url, ssl=first) as answer:
                assert answer.status == 200
                assert (await answer.json())["data"][0]["id"] == "a"
            shutil.copy(SECOND, cert)
            certificate.refresh()
        async with aiohttp.ClientSession(headers=front.headers()) as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(url, ssl=first)
            async with session.get(url, ssl=trusting(SECOND)) as answer:
                assert answer.status == 200
        assert front.connections.strangers == 0


async def test_plain_http_to_tls_ends_and_many_who_say_nothing_keep_nobody_out(tmp_path: Path) -> None:
    certificate = Certificate(FIRST, None)
    async with opened(house(tmp_path), tls=certificate.context, connections=Connections(strangers=4, known=8)) as front:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not (await reader.read()).startswith(b"HTTP"), "it is cut, or told so by TLS"
        silent = [await asyncio.open_connection("127.0.0.1", front.port) for _ in range(6)]
        url = front.url.replace("http://", "https://")
        async with aiohttp.ClientSession() as session, session.get(url + "/health", ssl=trusting(FIRST)) as answer:
            assert answer.status == 200
        assert front.connections.strangers <= 4
        for _, each in (*silent, (reader, writer)):
            each.close()


@pytest.mark.parametrize(
    ("text", "problem"), [(None, "No such file"), ("", "NO_START_LINE|no start line|PEM"), ("first", "PEM")]
)
def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "c.pem"
    if text is not None:
        path.write_text(FIRST.read_text().partition("-----BEGIN PRIVATE")[0] if text else "")
    with pytest.raises(LmxdError, match=f"(?s)gateway.tls_cert {path}: .*({problem})") as caught:
        Certificate(path, None)
    assert caught.value.code == "config"
    assert caught.value.remedy


def test_another_certificates_key_is_refused_and_the_one_in_force_stays(tmp_path: Path) -> None:
    shutil.copy(FIRST, cert := tmp_path / "c.pem")
    certificate = Certificate(cert, None)
    cert.write_text(FIRST.read_text().partition("-----BEGIN PRIVATE")[0] + SECOND.read_text())
    with pytest.raises(LmxdError, match="KEY_VALUES_MISMATCH"):
        certificate.refresh()


async def test_an_address_that_is_not_this_machines_is_named(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        with pytest.raises(LmxdError, match=r"gateway\.listen 192\.0\.2\.1:8080"):
            await listen(front.running, "gateway.listen", "192.0.2.1:8080", front.connections)


def test_a_certificate_may_lie_in_the_home_and_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(FIRST, tmp_path / "cert.pem")
    Certificate(Path("~/cert.pem"), Path("~/cert.pem")).refresh()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LmxdError, match=r"gateway.tls_key ~/fifo is not a regular file"):
        Certificate(Path("~/cert.pem"), Path("~/fifo"))
