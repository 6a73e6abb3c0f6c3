"""Who may come in."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from house import model

from gateway.front import Front, opened, read_until
from gateway.test_serving import house
from lmxd.config.keys import add


@pytest.mark.parametrize("key", ["Bearer nobody", "Bearer ", "Basic eA=="])
async def test_nobody_comes_in_without_a_key(tmp_path: Path, key: str) -> None:
    async with opened(house(tmp_path)) as front:
        for path in ("/v1/models", "/metrics", "/api/tags", "/upstream/a/slots", "/nowhere"):
            answer = await front.ask(path, method="GET", Authorization=key)
            assert answer.status == 401
        assert not front.house.state.instances


async def test_a_key_may_come_as_x_api_key(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        assert (await front.ask("/v1/models", method="GET", Authorization="", **{"X-Api-Key": front.key})).status == 200


async def test_without_keys_it_is_for_this_machine_alone(tmp_path: Path) -> None:
    """Not for a page of another site, nor for a name that was made to lead here."""
    async with opened(house(tmp_path), anonymous=True) as front:
        asked = {"method": "GET", "Authorization": ""}
        assert (await front.ask("/v1/models", **asked)).status == 200
        assert (await front.ask("/v1/models", **asked, Origin="https://evil.example")).status == 403
        assert (await front.ask("/v1/models", **asked, Host="evil.example")).status == 403
        assert (await front.ask("/v1/models", **asked, Origin=front.url)).status == 200
        known = await front.ask("/v1/models", method="GET", Origin="https://evil.example")
        assert known.status == 200, "who has a key may come from anywhere"


async def test_health_tells_nothing_and_is_for_all(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/health", method="GET", Authorization="")
        assert json.loads(answer.text) == {"status": "ok"}


ROUTES = [
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", "/lmxd/events"),
    ("GET", "/lmxd/state"),
    ("POST", "/lmxd/stop"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/a"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/api/version"),
    ("GET", "/api/tags"),
    ("GET", "/api/ps"),
    ("POST", "/api/show"),
    ("POST", "/api/chat"),
    ("POST", "/api/generate"),
    ("POST", "/api/embed"),
    ("GET", "/upstream/a/health"),
    ("HEAD", "/upstream/a/health"),
    ("OPTIONS", "/upstream/a/health"),
    ("POST", "/upstream/a/v1/completions"),
    ("GET", "/nowhere"),
]
FOREIGN: list[dict[str, str]] = [
    {"Host": "evil.example"},
    {"Host": "evil.example:8080"},
    {"Host": "localhost.evil.example"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "[::1"},
    {"Host": "::1]"},
    {"Host": "[::2]"},
    {"Host": "localhost@evil.example"},
    {"Host": "localhost:x"},
    {"Host": "localhost, evil.example"},
    {"Host": ""},
    {"Host": "0.0.0.0"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost.evil.example:1"},
    {"Origin": "http://[::1"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Same-Origin"},
    {"Sec-Fetch-Site": ""},
    {"Referer": "https://evil.example/", "User-Agent": "Mozilla/5.0"},
    {"User-Agent": "Mozilla/5.0 (a browser that does not say which page asks)"},
]


@pytest.mark.parametrize("header", FOREIGN, ids=str)
async def test_no_page_of_another_site_is_answered_on_any_route(tmp_path: Path, header: dict[str, str]) -> None:
    """An image of another site's page started models."""
    async with opened(house(tmp_path), anonymous=True) as front:
        for method, path in ROUTES:
            if "User-Agent" in header and path in ("/", "/api/version"):
                continue  # they tell nothing
            body = {"model": "a"} if method == "POST" else None
            answer = await front.ask(path, body, method=method, Authorization="", **header)
            assert answer.status == 403, (method, path)
        assert not front.house.state.instances


async def test_a_page_of_ours_and_what_a_person_types_are_answered(tmp_path: Path) -> None:
    async with opened(house(tmp_path), anonymous=True, hosts=["llm.example.org"]) as front:
        port = front.url.rpartition(":")[2]
        own: list[dict[str, str]] = [
            {"Sec-Fetch-Site": "none", "User-Agent": "Mozilla/5.0"},
            {"Sec-Fetch-Site": "same-origin", "Origin": front.url, "User-Agent": "Mozilla/5.0"},
            {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"},
            {"Host": f"LocalHost:{port}"},
            {"Host": f"[::1]:{port}"},
            {"Host": "llm.example.org", "Origin": "https://llm.example.org"},
            {"Origin": "https://llm.example.org"},
        ]
        for headers in own:
            assert (await front.ask("/api/tags", method="GET", Authorization="", **headers)).status == 200, headers


OPENED = [
    {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "iframe"},
    {"Sec-Fetch-Mode": "navigate"},
]


@pytest.mark.parametrize("headers", OPENED, ids=str)
async def test_a_page_that_a_person_opened_sends_no_browser_on_to_a_model(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    """The redirect of a typed address counts as typed, too: it started models."""
    async with opened(house(tmp_path), anonymous=True) as front:
        for method, path in ROUTES:
            body = {"model": "a"} if method == "POST" else None
            answer = await front.ask(path, body, method=method, Authorization="", **headers)
            assert answer.status == (200 if path in ("/", "/api/version") else 403), (method, path)
        assert (await front.ask("/health", method="GET", Authorization="", **headers)).status == 200
        assert not front.house.state.instances
        assert (await front.ask("/upstream/a/health", method="GET", **headers)).status == 200, "a key is enough"


async def test_another_port_of_a_host_of_ours_is_another_site(tmp_path: Path) -> None:
    async with opened(house(tmp_path), anonymous=True, hosts=["llm.example.org", "Lab.example.org:8443"]) as front:
        own = ("https://llm.example.org", "https://lab.example.org:8443")
        for origin in (*own, "https://llm.example.org:8443", "https://lab.example.org", "http://lab.example.org:9"):
            answer = await front.ask("/api/tags", method="GET", Authorization="", Origin=origin)
            assert answer.status == (200 if origin in own else 403), origin
        assert (await front.ask("/api/tags", method="GET", Authorization="", Host="lab.example.org:8443")).status == 200


@pytest.mark.parametrize("header", FOREIGN, ids=str)
async def test_a_key_proves_by_itself_that_no_page_of_another_site_asks(tmp_path: Path, header: dict[str, str]) -> None:
    """A browser adds no key to what a page has it ask; and a key that is wrong proves nothing."""
    async with opened(house(tmp_path)) as front:
        assert (await front.ask("/v1/models", method="GET", **header)).status == 200
        assert (await front.ask("/v1/models", method="GET", Authorization="Bearer x", **header)).status == 403
        assert (await front.ask("/health", method="GET", Authorization="", **header)).status == 200


async def test_a_target_that_is_no_path_is_refused(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        for target in ("*", "evil.example:1", "v1/models", "http://"):
            answer = await raw(front, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")
            assert answer.partition(b" ")[2][:3] in (b"400", b"404", b"405"), (target, answer)
        assert not front.house.state.instances


@pytest.mark.parametrize("names", ["missing", "two"])
async def test_there_is_one_host(tmp_path: Path, names: str) -> None:
    lines = "" if names == "missing" else "Host: localhost\r\nHost: evil.example\r\n"
    async with opened(house(tmp_path), anonymous=True) as front:
        answer = await raw(front, f"GET /upstream/a/health HTTP/1.1\r\n{lines}Connection: close\r\n", key="")
        assert answer.partition(b" ")[2][:3] in (b"400", b"403"), answer
        assert not front.house.state.instances


async def raw(front: Front, head: str, key: str | None = None) -> bytes:
    """The answer to a head that is sent as it is, with a key."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(front.url.rpartition(":")[2]))
    writer.write(f"{head}Authorization: Bearer {front.key if key is None else key}\r\n\r\n".encode())
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


@pytest.mark.parametrize("path", ["/lmxd/events", "/v1/chat/completions", "/api/chat"])
@pytest.mark.parametrize("change", ["gone", "demoted"])
async def test_an_open_answer_ends_at_once_when_its_key_is_gone_or_changed(
    tmp_path: Path, path: str, change: str
) -> None:
    """A removed key's dashboard went on with an administrator's view."""
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path)) as front:
        body = {"model": "a", "stream": True, "max_tokens": 10_000, "messages": [{"role": "user", "content": "x"}]}
        method, json_body = ("GET", None) if path == "/lmxd/events" else ("POST", body)
        headers = {"Authorization": f"Bearer {front.admin}"}
        other = await front.session.get("/lmxd/events", headers=front.headers())
        async with front.session.request(method, path, headers=headers, json=json_body) as answer:
            await answer.content.readany()
            assert front.config.keys_file is not None
            lines = front.config.keys_file.read_text().splitlines()
            kept = [x for x in lines if not x.startswith("root")]
            kept += [] if change == "gone" else [x.removesuffix(" admin") for x in lines if x.startswith("root")]
            front.config.keys_file.write_text("\n".join(kept) + "\n")
            front.authentication.refresh()
            with pytest.raises(aiohttp.ClientError):
                await asyncio.wait_for(answer.read(), 10)
        await read_until(other, "event: state")
        other.close()
        await front.until(lambda: not front.house.state.leases)


async def test_no_proxy_keeps_an_answer(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        for method, path in ROUTES:
            if path == "/lmxd/events":
                continue
            answer = await front.ask(path, {"model": "a"} if method == "POST" else None, method=method)
            assert "no-" in answer.headers["Cache-Control"], (method, path)
        assert (await front.ask("/lmxd/state", method="GET")).headers["Cache-Control"] == "no-store"
        assert (await front.ask("/metrics", method="GET")).headers["Cache-Control"] == "no-store"


async def test_a_key_that_is_made_while_the_gateway_runs_is_good_at_once(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        assert front.config.keys_file is not None
        before = front.config.keys_file.read_bytes()
        late = add(front.config.keys_file, "late", admin=False)
        head = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        assert (await raw(front, head, late)).split(b" ")[1] == b"200"
        front.config.keys_file.write_bytes(before)
        assert (await raw(front, head, late)).split(b" ")[1] == b"401"
