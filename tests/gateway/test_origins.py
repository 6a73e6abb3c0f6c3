"""Pages of other origins: CORS, without a key for the preflight, and only for those that are named."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from browsers import CHROMIUM, FLAGS, needs_chromium
from house import model
from playwright.async_api import async_playwright

from gateway.front import opened
from gateway.test_serving import house
from lmxd.config.gateway import GatewayConfig
from lmxd.gateway.http.origins import Origins

HERE = "http://localhost:3000"


@pytest.mark.parametrize(
    ("named", "origin", "may"),
    [
        (None, "http://localhost:3000", True),
        (None, "https://localhost", True),
        (None, "http://127.0.0.1:8000", True),
        (None, "http://[::1]:1", True),
        (None, "tauri://localhost", True),
        (None, "http://LOCALHOST:3000", True),
        (None, "https://evil.example", False),
        (None, "http://localhost.evil.example", False),
        (None, "http://localhost:3000@evil.example", False),
        (None, "http://evil\u00e9@localhost", False),
        (None, "null", False),
        (None, "", False),
        (["https://chat.example.org"], "https://chat.example.org", True),
        (["https://chat.example.org/"], "https://CHAT.example.org", True),
        (["https://chat.example.org"], "https://chat.example.org:444", False),
        (["https://chat.example.org"], "http://localhost:3000", False),
        (["*"], "https://any.example", True),
        (["*"], "null", False),
        ([], "http://localhost", False),
    ],
)
def test_origins(named: list[str] | None, origin: str, may: bool) -> None:
    assert Origins(named).allow({"Origin": origin}) is may


@pytest.mark.parametrize("origin", ["chat.example.org", "https://", "https://x/path", "https://x y", "https://a@b", ""])
def test_what_is_no_origin_is_an_error(origin: str) -> None:
    with pytest.raises(ValueError, match="SCHEME://HOST"):
        GatewayConfig(origins=(origin,))


def test_all_pages_of_the_web_may_not_ask_without_a_key() -> None:
    with pytest.raises(ValueError, match="origins"):
        GatewayConfig(listen="127.0.0.1:1", anonymous=True, origins=("*",))


async def test_a_preflight_needs_no_key_and_names_the_origin_alone(tmp_path: Path) -> None:
    asked = {
        "Origin": HERE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
        "Access-Control-Request-Private-Network": "true",
    }
    async with opened(house(tmp_path)) as front:
        for path in ("/v1/chat/completions", "/api/chat", "/upstream/a/v1/embeddings", "/none"):
            async with front.session.options(path, headers=asked) as answer:
                assert (answer.status, await answer.text()) == (204, "")
                assert answer.headers["Access-Control-Allow-Origin"] == HERE
                assert "POST" in answer.headers["Access-Control-Allow-Methods"]
                assert answer.headers["Access-Control-Allow-Headers"] == asked["Access-Control-Request-Headers"]
                assert answer.headers["Access-Control-Allow-Private-Network"] == "true"
                assert answer.headers["Vary"] == "Origin"
            async with front.session.options(path, headers=asked | {"Origin": "https://evil.example"}) as answer:
                assert answer.status == 403
                assert not [name for name in answer.headers if name.startswith("Access-Control")]
        assert not front.house.state.instances


async def test_every_answer_may_be_read_by_a_page_that_may_ask_and_by_no_other(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path)) as front:
        chat = {"model": "a", "messages": []}
        calls: list[tuple[str, str, Any]] = [
            ("POST", "/v1/chat/completions", chat),
            ("POST", "/v1/chat/completions", chat | {"stream": True}),
            ("POST", "/api/chat", {"model": "a", "messages": [{"role": "user", "content": "x"}]}),
            ("POST", "/v1/chat/completions", {"model": "none"}),
            ("GET", "/v1/models", None),
            ("GET", "/none", None),
        ]
        for method, path, body in calls:
            for origin, allowed in ((HERE, HERE), ("https://evil.example", None)):
                answer = await front.ask(path, body, method, Origin=origin)
                assert answer.headers.get("Access-Control-Allow-Origin") == allowed, (path, origin)
        keyless = await front.session.get("/v1/models", headers={"Origin": HERE})
        assert keyless.status == 401
        assert keyless.headers["Access-Control-Allow-Origin"] == HERE, "a page can tell its user that a key is needed"


async def test_a_stream_that_waits_has_the_headers_too(tmp_path: Path) -> None:
    model(tmp_path, "a", load_seconds=1.6)
    async with opened(house(tmp_path)) as front, front.stream("a", 3, Origin=HERE) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == HERE
        assert ": " in await answer.text()


async def test_without_keys_a_page_that_is_named_may_ask_and_no_other(tmp_path: Path) -> None:
    async with opened(house(tmp_path), anonymous=True, keys_file=None, origins=("https://chat.example.org",)) as front:
        for origin, status in (("https://chat.example.org", 200), (HERE, 403)):
            browser = {"Origin": origin, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
            async with front.session.get("/v1/models", headers=browser) as answer:
                assert answer.status == status


PAGE = """<!doctype html><title>waiting</title><script>
const ask = async (body) => {{
  const answer = await fetch("{url}/v1/chat/completions", {{method: "POST",
    headers: {{"Authorization": "Bearer {key}", "Content-Type": "application/json", "X-Stainless-Os": "x"}},
    body: JSON.stringify(body)}});
  return answer.status + " " + await answer.text();
}};
ask({{model: "a", messages: [], stream: true, max_tokens: 3}})
  .then(async (text) => text + await ask({{model: "none"}}))
  .then((text) => {{ document.body.textContent = text; document.title = "done"; }},
        (error) => {{ document.title = "failed " + error; }});
</script><body></body>"""


@asynccontextmanager
async def page_at(text: str) -> AsyncIterator[int]:
    """A server of one page, and its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        data = text.encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@needs_chromium
@pytest.mark.parametrize(("origins", "outcome"), [(None, "done"), (("https://chat.example.org",), "failed")])
async def test_a_page_of_another_origin_in_chromium(tmp_path: Path, origins: Any, outcome: str) -> None:
    async with (
        opened(house(tmp_path), origins=origins) as front,
        page_at(PAGE.format(url=front.url, key=front.key)) as port,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        await page.goto(f"http://localhost:{port}/")
        await page.wait_for_function("document.title != 'waiting'")
        assert (await page.title()).startswith(outcome)
        if outcome == "done":
            text = await page.text_content("body") or ""
            assert text.startswith("200 ")
            assert "data: " in text
            assert "404 " in text
            assert "model_not_found" in text
        await browser.close()


async def test_a_letter_that_only_looks_like_one_is_no_origin_and_no_fault_of_ours(tmp_path: Path) -> None:
    """The Kelvin sign is a k in small letters, but not in a header."""
    async with opened(house(tmp_path), origins=("*",)) as front:
        asked = front.headers(Origin="http://\u212aelvin.example")
        body = {"model": "a", "messages": []}
        async with front.session.post("/v1/chat/completions", json=body, headers=asked) as answer:
            assert (answer.status, answer.headers.get("Access-Control-Allow-Origin")) == (200, None)


async def test_a_password_that_a_browser_remembers_lets_in_no_page_of_another_site(tmp_path: Path) -> None:
    """It adds it by itself, to what any page asks for."""
    async with opened(house(tmp_path), origins=("https://chat.example.org",)) as front:
        word = base64.b64encode(f"me:{front.key}".encode()).decode()
        for more, status in (
            ({}, 200),
            ({"Host": "lmxd.example.org"}, 200),
            ({"Origin": front.url}, 200),
            ({"Origin": "https://chat.example.org", "Sec-Fetch-Site": "cross-site"}, 200),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ):
            for path in ("/v1/models", "/props?model=a", "/upstream/a/health"):
                asked = {"Authorization": f"Basic {word}", **more}
                async with front.session.get(path, headers=asked) as answer:
                    assert answer.status == status, (path, more)
            with_bearer = front.headers(**more)
            async with front.session.get("/v1/models", headers=with_bearer) as answer:
                assert answer.status == 200, "no browser adds a key to what a page asks for"
