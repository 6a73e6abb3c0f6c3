"""The dashboard in a real browser: live, by keyboard, on a phone, in the dark; and checked by axe."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsers import CHROMIUM, FLAGS, needs_chromium
from gateway_process import Gateway
from house import fake_engine, model
from lmxd_process import Lmxd
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from waiting import wait_until

PICTURES = os.environ.get("LMXD_PICTURES")
"""A directory for screenshots, to be looked at."""
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    place = tmp_path_factory.mktemp("dashboard")
    model(place, "llama-3.1-8b", token_seconds=0.05)
    model(place, "qwen3-30b", token_seconds=0.05)
    config = {
        "gpu": {"device": "host", "max_memory_gb": 3},
        "engine": {"path": str(fake_engine(place))},
        "model_dir": str(place),
        "models": {
            "llama-3.1-8b": {"estimated_memory_gb": 1.2, "slots": 2, "context_length": 8192},
            "qwen3-30b": {"estimated_memory_gb": 2.6, "context_length": 4096},
        },
    }
    with Lmxd(place, config) as lmxd, Gateway(lmxd) as gateway:
        yield gateway


@pytest.fixture
def page(browser: Browser, gateway: Gateway) -> Iterator[Page]:
    with closing_all(gateway), browser.new_context(viewport={"width": 1100, "height": 900}) as context:
        yield opened(context, gateway, gateway.admin)


class closing_all:
    """Every test begins and ends with nothing running."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __enter__(self) -> None:
        self._clear()

    def __exit__(self, *_: object) -> None:
        self._clear()

    def _clear(self) -> None:
        with self._gateway.lmxd.client() as client:
            client.drain(now=True)
            wait_until(lambda: not client.status().instances)
            client.drain(end=True)


def opened(context: BrowserContext, gateway: Gateway, key: str) -> Page:
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(gateway.url)
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Devices")).to_be_visible()
    assert not faults
    return page


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def stream(gateway: Gateway, name: str, tokens: int) -> Any:
    """An answer that takes its time; close it to leave."""
    body = json.dumps({"model": name, "stream": True, "max_tokens": tokens}).encode()
    headers = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"}
    return urllib.request.urlopen(
        urllib.request.Request(f"{gateway.url}/v1/chat/completions", body, headers), timeout=30
    )


@pytest.fixture
def crowd(gateway: Gateway) -> Iterator[Callable[[], None]]:
    """One that answers, and one that waits for it."""
    opened: list[Any] = []

    def make() -> None:
        opened.append(stream(gateway, "llama-3.1-8b", 400))
        opened[0].readline()
        opened.append(stream(gateway, "qwen3-30b", 5))  # its stream begins with where it stands

    yield make
    for answer in opened:
        answer.close()


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['help']}: {[n['target'] for n in v['nodes']]}" for v in found]


def test_without_a_key_nothing_is_shown(browser: Browser, gateway: Gateway) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(gateway.url)
        expect(page.get_by_label("API key")).to_be_focused()
        page.get_by_label("API key").fill("wrong")
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_text("This key is not known.")).to_be_visible()
        expect(page.get_by_text("sudo lmxd key NAME", exact=False)).to_be_visible()
        expect(page.locator("#door")).to_contain_text("without sudo where lmxd is one user's own")
        assert violations(page) == []
        expect(page.get_by_role("heading", name="Devices")).to_be_hidden()


def test_what_runs_is_shown_live(page: Page, gateway: Gateway, crowd: Callable[[], None]) -> None:
    expect(page.get_by_text("Nothing runs.", exact=False)).to_be_visible()
    crowd()
    row = page.locator("#instance-rows tr")
    expect(row).to_contain_text("busy")
    expect(row).to_contain_text("1 of 2 leased")
    expect(page.get_by_role("img", name="llama-3.1-8b#1 1.20 GiB")).to_be_visible()
    waiting = page.locator("#queue-rows tr")
    expect(waiting).to_contain_text("qwen3-30b")
    expect(waiting).to_contain_text("are free")
    expect(waiting).to_contain_text("waits for llama-3.1-8b#1")
    page.wait_for_timeout(1500 if PICTURES else 0)
    picture(page, "dashboard")


def test_an_administrator_pins_and_stops_by_keyboard(page: Page, gateway: Gateway) -> None:
    stream(gateway, "llama-3.1-8b", 1).read()
    page.get_by_role("button", name="Pin llama-3.1-8b#").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("idle, pinned")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("pinned")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Its leases end with it.")
    assert violations(page) == []
    page.keyboard.press("Escape")
    assert gateway.lmxd.instances(), "who changed their mind has stopped nothing"
    page.get_by_role("button", name="Stop llama-3.1-8b#").press("Enter")
    page.get_by_role("button", name="Stop it").press("Enter")
    expect(page.get_by_text("Nothing runs.", exact=False)).to_be_visible()
    assert not gateway.lmxd.instances()


def test_an_administrator_has_memory_yielded(page: Page, gateway: Gateway) -> None:
    page.get_by_role("button", name="Yield memory of").click()
    page.get_by_label("GiB to keep free").fill("1")
    assert violations(page) == []
    page.get_by_role("dialog").get_by_role("button", name="Yield").click()
    expect(page.locator(".card > .legend")).to_contain_text("yielded")
    with gateway.lmxd.client() as client:
        assert 0 < client.devices().devices[0].yielded <= 2**30


def test_a_model_is_loaded_and_unloaded(page: Page, gateway: Gateway) -> None:
    row = page.locator("#model-rows tr", has_text="llama-3.1-8b")
    expect(row).to_contain_text("fits now")
    row.get_by_role("button", name="Load").click()
    expect(row).to_contain_text("loaded, idle")
    other = page.locator("#model-rows tr", has_text="qwen3-30b")
    expect(other).to_contain_text("after 1 ends")
    row.get_by_role("button", name="Unload").click()
    expect(row).to_contain_text("not loaded")
    expect(page.get_by_text("Nothing runs.", exact=False)).to_be_visible()
    assert not gateway.lmxd.instances()


def test_a_model_is_tried_and_its_speed_told(page: Page) -> None:
    page.get_by_role("button", name="Try llama-3.1-8b").click()
    page.get_by_label("Message").fill("Hello")
    page.keyboard.press("Enter")
    conversation = page.get_by_role("region", name="Conversation")
    expect(conversation.locator("p.mine")).to_have_text("Hello")
    expect(page.locator("#try-told")).to_contain_text("tokens/s", timeout=20_000)
    expect(page.locator("#try-told")).to_contain_text("the first after")
    expect(conversation.locator("p").last).to_contain_text("x")
    page.reload()
    expect(page.get_by_role("dialog", name="Try llama-3.1-8b")).to_be_visible()
    page.keyboard.press("Escape")
    requested = page.locator("#request-rows tr").first
    expect(requested).to_contain_text("llama-3.1-8b /v1/chat/completions")
    expect(requested).to_contain_text("200 answered")


def test_an_answer_is_stopped_and_one_that_waits_says_so(
    page: Page, gateway: Gateway, crowd: Callable[[], None]
) -> None:
    crowd()
    page.get_by_role("button", name="Try qwen3-30b").click()
    page.get_by_label("Message").fill("Hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#try-told")).to_contain_text("in the queue")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#try-told")).to_have_text("stopped")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#queue-rows tr")).to_have_count(1)
    expect(page.locator("#request-rows tr").first).to_contain_text("499 client left")


def test_it_says_how_to_connect(page: Page, gateway: Gateway) -> None:
    """The command that it shows is run as it is, with the key as a variable."""
    page.get_by_role("combobox", name="Model").select_option("llama-3.1-8b")
    page.get_by_role("combobox", name="Program").select_option("curl")
    command = page.locator("#connect-text").inner_text()
    expect(page.locator("#openai-url")).to_have_text(f"{gateway.url}/v1")
    expect(page.get_by_text("LMXD_KEY stands for your key")).to_be_visible()
    words = [
        word if "$LMXD_KEY" not in word else f"Authorization: Bearer {gateway.key}" for word in shlex.split(command)
    ]
    answer = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert "choices" in json.loads(answer.stdout)


def test_a_users_key_shows_no_names_and_acts_on_nothing(browser: Browser, gateway: Gateway) -> None:
    with closing_all(gateway), browser.new_context() as context:
        page = opened(context, gateway, gateway.key)
        stream(gateway, "llama-3.1-8b", 1).read()
        expect(page.locator("#instance-rows tr")).to_contain_text("llama-3.1-8b#")
        expect(page.get_by_role("button", name="Stop llama")).to_be_hidden()
        expect(page.get_by_role("columnheader", name="For")).to_be_hidden()
        expect(page.get_by_role("button", name="Yield memory of")).to_be_hidden()
        asked = urllib.request.Request(
            f"{gateway.url}/lmxd/stop", b"{}", {"Authorization": f"Bearer {gateway.key}"}, method="POST"
        )
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(asked)


def test_a_gateway_that_was_restarted_is_found_again(page: Page, gateway: Gateway) -> None:
    gateway.__exit__()
    expect(page.get_by_role("alert")).to_contain_text("Not connected")
    gateway.__enter__()
    expect(page.get_by_role("alert")).to_be_hidden(timeout=20_000)
    expect(page.get_by_text("up for")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 390])
def test_it_can_be_read_by_all(
    browser: Browser, gateway: Gateway, crowd: Callable[[], None], scheme: Any, width: int
) -> None:
    """No violation that axe knows of, and nothing wider than the screen."""
    viewport: Any = {"width": width, "height": 844}
    with closing_all(gateway), browser.new_context(viewport=viewport, color_scheme=scheme) as context:
        page = opened(context, gateway, gateway.admin)
        crowd()
        expect(page.locator("#queue-rows tr")).to_contain_text("qwen3-30b")
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        picture(page, f"dashboard-{scheme}-{width}")


def test_the_theme_can_be_chosen(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page.get_by_role("button", name="Theme: system").click()
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme: light").click()
    assert page.evaluate(ground) != light
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()


def test_nothing_is_fetched_from_elsewhere(browser: Browser, gateway: Gateway) -> None:
    with browser.new_context() as context:
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        page = opened(context, gateway, gateway.key)
        expect(page.get_by_text("up for")).to_be_visible()
        assert all(url.startswith((gateway.url, "data:")) for url in asked)
