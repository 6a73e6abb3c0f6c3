"""The dashboard of a fleet's gateway, in a browser, over real processes."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from browsers import CHROMIUM, FLAGS, needs_chromium
from fleet_boxes import boxes
from waiting import GENEROUS

playwright = pytest.importorskip("playwright.sync_api")


def test_what_is_shown_comes_as_events_to_the_end_of_the_gateway(tmp_path: Path) -> None:
    with boxes(tmp_path, {"n1": {"m": {}}}) as fleet, fleet.gateway.client() as client:
        with client.stream("GET", "/lmxd/events") as answer:
            assert answer.headers["Content-Type"] == "text/event-stream"
            lines = (line for line in answer.iter_lines() if line)
            for _ in range(2):
                assert next(lines) == "event: state"
                (node,) = json.loads(next(lines).removeprefix("data: "))["nodes"]
                assert (node["node"], node["state"]) == ("n1", "up")
            fleet.gateway.process.terminate()
            rest = list(lines)  # an error if the stream is cut
            assert len(rest) % 2 == 0, "the last event is whole"
        assert fleet.gateway.process.wait(GENEROUS) == 0


@needs_chromium
def test_nodes(tmp_path: Path) -> None:
    with boxes(tmp_path, {"n1": {"m": {}}, "n2": {"m": {}, "own": {}}}) as fleet:
        url = fleet.gateway.url
        for path in ("state", "events"):
            assert httpx.get(f"{url}/lmxd/{path}").status_code == 401, "what nodes have is for those with a key"
        assert fleet.chat("m").status_code == 200
        with playwright.sync_playwright() as driver:
            chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = chromium.new_page(viewport={"width": 390, "height": 844})
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(url)
            page.fill("#key", fleet.gateway.key)
            page.click("#door button")
            page.wait_for_selector("#node-list section >> nth=1")
            page.wait_for_selector("#summary:has-text('2 of 2 nodes up')")
            assert page.locator("#node-list h3").all_inner_texts() == ["n1", "n2"]
            rows = page.locator("#model-rows tr").all_inner_texts()
            assert [row.split()[0] for row in rows] == ["m", "own"]
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a phone scrolls one way"
            fleet.nodes["n2"].end(9)
            page.wait_for_selector("#node-list:has-text('silent for')")
            assert problems == []
            page.screenshot(path=tmp_path / "fleet.png", full_page=True)
            chromium.close()
