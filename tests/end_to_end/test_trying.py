"""Trying real models on the dashboard: a chat with its speed, and a vector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import vision
from browsers import CHROMIUM, FLAGS, needs_chromium
from gateway_process import Gateway
from lmxd_process import Lmxd
from playwright.sync_api import expect, sync_playwright

pytestmark = needs_chromium


def test_a_picture_is_shown_to_a_real_model_that_sees(lmxd: Callable[..., Lmxd], smollm2: Path, tmp_path: Path) -> None:
    beside = vision.projector(tmp_path / "mmproj.gguf", 576)
    # What it says to random weights may have no end of its own.
    seeing = {"path": str(smollm2), "mmproj": str(beside), "set": {"max_tokens": 16}}
    models = {"seeing": seeing, "blind": {"path": str(smollm2)}}
    with lmxd(models=models) as running, Gateway(running) as gateway, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS).new_page()
        page.goto(f"{gateway.url}#try/blind")
        page.get_by_label("API key").fill(gateway.key)
        page.keyboard.press("Enter")
        expect(page.get_by_label("Message")).to_be_visible()
        expect(page.get_by_label("Picture")).to_be_hidden()
        page.get_by_role("button", name="Close").click()
        expect(page.locator("#model-rows tr").filter(has_text="seeing")).to_contain_text("vision")
        page.get_by_role("button", name="Try seeing").click()
        red = {"name": "red.png", "mimeType": "image/png", "buffer": vision.picture((255, 0, 0))}
        page.get_by_label("Picture").set_input_files(red)  # type: ignore[arg-type]
        page.get_by_label("Message").fill("Say hello, briefly")
        page.get_by_label("Message").press("Enter")
        expect(page.locator("#try-told")).to_contain_text("tokens/s", timeout=60_000)
        page.keyboard.press("Escape")
        tokens = page.locator("#request-rows tr").first.locator("td[data-name=Tokens]").inner_text()
        assert int(tokens.split()[0]) > 33 + 16, "the prompt has the picture's tokens"


def test_a_real_model_answers_and_one_that_embeds_gives_a_vector(lmxd: Callable[..., Lmxd], smollm2: Path) -> None:
    models = {
        "smollm2": {"path": str(smollm2), "context_length": 2048, "engine_flags": ["--temp", "0"]},
        "vectors": {"path": str(smollm2), "context_length": 512, "engine_flags": ["--embeddings", "--pooling", "mean"]},
    }
    with lmxd(models=models) as running, Gateway(running) as gateway, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS).new_page()
        page.goto(f"{gateway.url}#try/smollm2")
        page.get_by_label("API key").fill(gateway.key)
        page.keyboard.press("Enter")
        told, message = page.locator("#try-told"), page.get_by_label("Message")
        for asked in (1, 2):
            message.fill("Say hello, briefly")
            message.press("Enter")
            expect(page.locator("#try-log p")).to_have_count(2 * asked, timeout=60_000)
            expect(told).to_contain_text("tokens/s", timeout=60_000)
            expect(told).not_to_contain_text("about")
        page.get_by_role("button", name="Close").click()
        page.get_by_role("button", name="Try vectors").click()
        message.fill("Some text")
        message.press("Enter")
        expect(page.locator("#try-log")).to_contain_text("576 numbers", timeout=60_000)
        rows = page.locator("#request-rows tr")
        page.keyboard.press("Escape")
        expect(rows).to_have_count(3)
        expect(rows.last.locator("td[data-name=Tokens]")).to_contain_text("out")
        expect(rows.first.locator("td[data-name=Tokens]")).to_contain_text("in")
