"""The dashboard of a fleet's gateway, in a browser, over real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsers import CHROMIUM, FLAGS, needs_chromium
from fleet_boxes import boxes
from waiting import GENEROUS, wait_until

from lmxd.config import keys

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


def test_what_others_have_is_for_administrators_alone(tmp_path: Path) -> None:
    with boxes(tmp_path, {"n1": {"m": {}}}, users={"ada": {"weight": 2, "max_leases": 3}}) as fleet:
        keys_of = {name: fleet.gateway.key_of(name) for name in ("ada", "bob")}
        section = fleet.gateway.home.settings.gateway
        assert section.keys_file is not None
        keys_of["root"] = keys.add(section.keys_file, "root", admin=True)
        for name in ("ada", "bob"):
            with fleet.gateway.client(keys_of[name]) as client:
                answer = client.post("/v1/completions", json={"model": "m", "prompt": "hi", "max_tokens": 1})
                assert answer.status_code == 200

        def shown(name: str) -> dict[str, dict[str, Any]]:
            with fleet.gateway.client(keys_of[name]) as client:
                return {user["user"]: user for user in client.get("/lmxd/state").json()["users"]}

        wait_until(lambda: shown("root").keys() == {"ada", "bob"})
        assert shown("ada").keys() == {"ada"}
        assert shown("bob").keys() == {"bob"}
        ada = shown("root")["ada"]
        assert (ada["weight"], ada["max_leases"], ada["max_bytes"]) == (2, 3, None)
        assert ada["use"] > 0


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
            page.wait_for_selector("#user-rows tr >> nth=0")
            assert [row.split()[0] for row in page.locator("#user-rows tr").all_inner_texts()] == ["user"]
            assert page.is_visible("#own-alone")
            fleet.nodes["n2"].end(9)
            page.wait_for_selector("#node-list:has-text('silent for')")
            assert problems == []
            page.screenshot(path=tmp_path / "fleet.png", full_page=True)
            assert "nobody waits" in page.inner_text("#summary")
            with fleet.gateway.client() as client:
                held = client.get("/lmxd/state").json() | {"held": 2}
            body = f"event: state\ndata: {json.dumps(held)}\n\n"
            page.route("**/lmxd/events", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
            page.reload()
            page.wait_for_selector("#summary:has-text('2 waiting')")
            chromium.close()
