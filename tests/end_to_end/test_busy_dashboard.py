"""The dashboard in a real browser in states that no test machine is in: nothing at all, and thirty instances."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from browsers import CHROMIUM, FLAGS, needs_chromium
from gateway.played_board import (
    HOSTILE,
    ROOT,
    Played,
    PlayedDaemon,
    busy,
    empty,
    played,
    request,
)
from playwright.async_api import Browser, Page, async_playwright, expect

from lmxd.config.keys import Caller
from lmxd.rpc.books import ElasticInfo

PICTURES = os.environ.get("LMXD_PICTURES")
pytestmark = [needs_chromium, pytest.mark.asyncio(loop_scope="module")]
STATES = {"empty": empty, "busy": busy}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


async def shown(browser: Browser, at: Played, fragment: str = "", **context: Any) -> Page:
    """A page that has shown its first look, and on which no script may fail and no policy be broken."""
    page = await (await browser.new_context(viewport={"width": 1280, "height": 900}, **context)).new_page()
    await page.goto(at.url + fragment)
    await expect(page.locator("#summary")).not_to_be_empty()
    return page


async def blameless(page: Page) -> None:
    """No script failed, and nothing was against the policy."""
    assert [str(error) for error in await page.page_errors()] == []
    assert [said.text for said in await page.console_messages() if said.type == "error"] == []


async def place(page: Page, selector: str) -> Any:
    found = await page.locator(selector).bounding_box()
    assert found is not None
    return found


async def checked(page: Page, name: str) -> None:
    """Axe finds nothing, nothing is wider than the screen, and nothing failed."""
    await blameless(page)
    found = (await Axe().run(page)).response["violations"]
    assert [f"{v['id']}: {v['help']}: {[n['target'] for n in v['nodes']]}" for v in found] == []
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    if PICTURES:
        await page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("state", list(STATES))
async def test_it_can_be_read_by_all_in_every_state(browser: Browser, state: str, width: int, scheme: Any) -> None:
    daemon: PlayedDaemon = STATES[state]()
    async with played(daemon, prompts=True, past=3600 if state == "busy" else -1) as at:
        if state == "busy":
            for number in range(60):
                request(at.recent, f"m{number % 12}", f"user{number}", b'{"prompt": "%b"}' % HOSTILE.encode())
        page = await shown(browser, at, color_scheme=scheme)
        await page.set_viewport_size({"width": width, "height": 800})
        await checked(page, f"{state}-{width}-{scheme}")


async def test_the_queue_is_beside_the_devices_however_many_instances_there_are(browser: Browser) -> None:
    async with played(busy()) as at:
        page = await shown(browser, at)
        devices, queue, instances = [await place(page, f"#{name}") for name in ("devices", "queue", "instances")]
        assert queue["y"] == devices["y"] < instances["y"]
        assert queue["x"] > devices["x"] + devices["width"]
        assert await page.locator("#queue-rows tr").count() == 50
        assert queue["y"] + 500 < 900, "it is on the first screen"


async def test_the_summary_is_one_line_of_all(browser: Browser) -> None:
    async with played(busy()) as at:
        page = await shown(browser, at)
        await expect(page.locator("#summary")).to_have_text(
            "12 of 16 models loaded · 20 of 30 instances busy · 50 waiting, the longest for 2 min 30 s · "
            "62.0 GiB free of 160.0 GiB · 645 tokens/s"
        )


async def test_other_devices_are_alternatives_and_called_as_lmxctl_calls_them(browser: Browser) -> None:
    daemon = busy(waiting=2)
    daemon.overviewed.queue[1] = daemon.overviewed.queue[1].model_copy(update={"alternatives": False})
    async with played(daemon) as at:
        page = await shown(browser, at)
        needs = "needs 40.0 GiB of GPU {}, where 3.00 GiB are free"
        rows = page.locator("#queue-rows tr")
        await expect(rows.nth(0).locator("summary")).to_have_text(
            "needs 40.0 GiB of GPU 0 or GPU 1; waits for m1#1, m2#2 and 2 more"
        )
        await expect(rows.nth(0)).to_contain_text(f"{needs.format(0)}, or {needs.format(1)}")
        await expect(rows.nth(1)).to_contain_text(f"{needs.format(0)}, and {needs.format(1)}")
        await expect(page.locator("main")).not_to_contain_text("MiB")


async def test_a_whole_number_of_minutes_has_no_seconds(browser: Browser) -> None:
    async with played(busy()) as at:
        page = await shown(browser, at)
        await expect(page.locator("#instance-rows tr").first).to_contain_text("idle 4 s of 5 min0 at work")
        await expect(page.locator("#queue-rows tr").nth(4)).to_contain_text("in 1 min")
        await expect(page.locator("#queue-rows")).not_to_contain_text("min 0 s")


async def test_a_legend_names_models_and_not_each_instance(browser: Browser) -> None:
    async with played(busy()) as at:
        page = await shown(browser, at)
        legend = page.locator("#device-list .card").first.locator("> .legend li")
        await expect(legend.first).to_contain_text("× 3 9.00 GiB for ")
        assert await legend.count() < 15
        await expect(legend.filter(has_text="foreign 2.00 GiB")).to_contain_text("and 4 more")
    async with played(busy(), Caller("anna", admin=False)) as at:
        page = await shown(browser, at)
        await expect(page.locator("#device-list")).to_contain_text("foreign 2.00 GiB")
        await expect(page.locator("#device-list .legend").first).not_to_contain_text("others")


@pytest.mark.parametrize(
    ("recorded_for", "axis", "since"), [(60, "4 min", 0.75), (600, "20 min", 0.5), (3500, "60 min", 0.03)]
)
async def test_the_axis_of_time_is_true_when_the_history_is_young(
    browser: Browser, recorded_for: int, axis: str, since: float
) -> None:
    async with played(busy(), past=recorded_for) as at:
        page = await shown(browser, at)
        plot = page.locator(".plot").first
        await expect(plot.locator(".ticks span").first).to_have_text(axis)
        await expect(plot.locator(".ticks span").last).to_have_text("now")
        width = float(await plot.locator("rect.unknown").get_attribute("width") or 0) / 360
        assert width == pytest.approx(since, abs=0.03)
        path = await plot.locator("path.is-own").get_attribute("d") or ""
        assert float(path[1:].split(",")[0]) / 360 == pytest.approx(width, abs=0.01)
        await expect(plot.locator(".scale span").first).to_have_text("80.0 GiB")
        await expect(plot.locator(".legend")).to_contain_text("models")


async def test_an_hour_with_a_hole_has_one_in_its_picture(browser: Browser) -> None:
    async with played(busy(), past=1200, step=300) as at:
        page = await shown(browser, at)
        path = await page.locator("path.is-own").first.get_attribute("d") or ""
        assert path.count("M") >= 5


async def test_a_link_survives_a_reload(browser: Browser) -> None:
    async with played(busy()) as at:
        page = await shown(browser, at, "#instance/m3%2327")
        row = page.locator("#instance-rows tr", has_text="m3#27")
        for _ in range(2):
            await expect(row).to_be_focused()
            await expect(row).to_be_in_viewport()
            await page.reload()
        await page.get_by_role("link", name="Requests").click()
        assert page.url.endswith("#requests")
        await page.reload()
        await expect(page.get_by_role("heading", name="Recent requests")).to_be_in_viewport()


async def test_trying_a_model_has_a_link_and_ends_with_escape(browser: Browser) -> None:
    async with played(busy()) as at:
        page = await shown(browser, at, "#try/m2")
        dialog = page.get_by_role("dialog", name="Try m2")
        await expect(dialog).to_be_visible()
        await expect(page.get_by_label("Message")).to_be_focused()
        await checked(page, "try")
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        await expect(page).to_have_url(re.compile("#model/m2$"))


async def test_where_nothing_is_configured_the_first_step_is_said(browser: Browser) -> None:
    async with played(empty()) as at:
        page = await shown(browser, at)
        await expect(page.get_by_text("No model is configured yet.")).to_be_visible()
        await expect(page.get_by_text("lmxd setup")).to_be_visible()
        await expect(page.get_by_text("Nobody waits.")).to_be_visible()
        await expect(page.locator("#summary")).to_contain_text("0 of 0 models loaded")


async def test_each_model_says_whether_it_fits(browser: Browser) -> None:
    async with played(busy(instances=0, waiting=0)) as at:
        page = await shown(browser, at)
        rows = page.locator("#model-rows tr")
        for number, words in enumerate(["after 2 end", "never fits", "not beside what others use", "fits now"]):
            await expect(rows.nth(number)).to_contain_text(words)
        await expect(rows.first).to_contain_text("2.00 GiB")
        await expect(rows.nth(1).get_by_role("button", name="Load")).to_be_disabled()


async def test_slots_that_share_one_cache_are_told_from_those_that_have_one_each(browser: Browser) -> None:
    daemon = busy(instances=1, waiting=0)
    (own,) = daemon.overviewed.instances
    shared = own.model_copy(update={"ctx": 16384, "ctx_most": 8192, "unified": True})
    daemon.overviewed = daemon.overviewed.model_copy(update={"instances": [shared]})
    steps = ElasticInfo(steps=[256, 8192], start=256, unified=True)
    daemon.listed[0] = daemon.listed[0].model_copy(update={"elastic": steps})
    async with played(daemon) as at:
        page = await shown(browser, at)
        await expect(page.locator("#instance-rows tr").first.get_by_text("16,384", exact=True)).to_be_visible()
        said = "4 slots of one cache, conversations of 256 to 8,192 tokens"
        await expect(page.locator("#model-rows tr").first).to_contain_text(said)


async def test_what_comes_from_outside_is_shown_and_not_obeyed(browser: Browser) -> None:
    async with played(busy(), prompts=True) as at:
        request(at.recent, HOSTILE, HOSTILE, b'{"prompt": "%b"}' % HOSTILE.encode(), 404)
        page = await shown(browser, at)
        row = page.locator("#request-rows tr")
        await expect(row).to_contain_text(HOSTILE)
        await expect(row).to_contain_text("404 not known")
        await expect(page.locator("#warnings")).to_contain_text(HOSTILE)
        assert await page.locator("main img").count() == 0
        await blameless(page)


@pytest.mark.parametrize("caller", [ROOT, Caller("anna", admin=False)], ids=lambda c: c.name)
async def test_requests_are_seen_by_administrators_and_by_their_own_key(browser: Browser, caller: Caller) -> None:
    async with played(busy(), caller) as at:
        request(at.recent, "m1", "anna", b'{"prompt": "a secret"}')
        request(at.recent, "m2", "bert", status=429)
        page = await shown(browser, at)
        rows = page.locator("#request-rows tr")
        await expect(rows).to_have_count(2 if caller.admin else 1)
        await expect(rows.last).to_contain_text("m1")
        await expect(page.locator("main")).not_to_contain_text("a secret")


async def test_one_look_at_the_devices_is_enough_for_all_who_watch(browser: Browser) -> None:
    daemon = busy()
    async with played(daemon) as at:
        pages = [await shown(browser, at) for _ in range(3)]
        before = daemon.looks
        uptime = pages[0].locator("#about")
        later = daemon.overviewed.status.model_copy(update={"uptime": 8600.0})
        daemon.overviewed = daemon.overviewed.model_copy(update={"status": later})
        await expect(uptime).to_contain_text("2 h")
        assert daemon.looks - before <= 3


async def test_as_many_models_as_there_are_colors_have_one_of_their_own(browser: Browser) -> None:
    async with played(busy(models=12)) as at:
        page = await shown(browser, at)
        bars = page.locator(".bar > span.own")
        made = await bars.evaluate_all(
            "all => all.map(e => [e.title.split('#')[0], getComputedStyle(e).backgroundColor])"
        )
        assert len({color for _, color in made}) == len({name for name, _ in made}) == 12
        assert len({tuple(each) for each in made}) == 12, "a model has one color on every device"


async def test_an_alias_is_tried_by_its_own_name(browser: Browser) -> None:
    async with played(busy()) as at:
        page = await shown(browser, at, "#try/gpt-4o-mini")
        await expect(page.get_by_role("dialog", name="Try gpt-4o-mini")).to_be_visible()
        await page.goto(f"{at.url}#try/unheard-of")
        await expect(page.get_by_role("alert")).to_have_text("there is no model unheard-of")
