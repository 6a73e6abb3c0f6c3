"""Metrics, alerts and the Grafana dashboard, by Prometheus' own tools; and that they speak of what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from devices.fake_nvml import FakeNvml
from gateway.front import opened
from house import House, card

CONTRIB = Path(__file__).parent.parent / "contrib"
RULES = CONTRIB / "prometheus/lmxd.rules.yml"
DASHBOARD = CONTRIB / "grafana/lmxd.json"
PROMTOOL = shutil.which("promtool", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool: apt-get install prometheus")


def promtool(*words: str, given: str = "") -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *words], input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr.strip(), done.stderr


async def exposed(tmp_path: Path) -> tuple[str, str]:
    """All that the daemon and the gateway say of themselves when something has happened."""
    from prometheus_client.exposition import generate_latest

    models = {"a": {"estimated_memory_gb": 2}, "b": {"estimated_memory_gb": 99}}
    async with opened(House(tmp_path, FakeNvml(card()), models=models)) as front:
        await front.chat("a")
        await front.chat("b")
        async with front.session.get("/metrics", headers=front.headers()) as answer:
            gateway = await answer.text()
        return generate_latest(front.house.daemon.metrics.registry).decode(), gateway


def names(text: str) -> set[str]:
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}


def panels() -> list[Any]:
    found: list[Any] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> list[str]:
    shown = [t["expr"].replace("$__rate_interval", "5m") for p in panels() for t in p["targets"]]
    return shown + [r["expr"] for g in yaml.safe_load(RULES.read_text())["groups"] for r in g["rules"]]


@needs_promtool
async def test_metrics_follow_the_conventions(tmp_path: Path) -> None:
    for said in await exposed(tmp_path):
        promtool("check", "metrics", given=said)


@needs_promtool
def test_alerts_are_understood_and_go_off_when_they_should() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    promtool("test", "rules", str(RULES.with_name("lmxd.test.yml")))


@needs_promtool
def test_every_panel_asks_something_that_prometheus_understands(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(expressions())]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", str(path))


async def test_alerts_and_panels_speak_of_metrics_that_there_are(tmp_path: Path) -> None:
    known = names("".join(await exposed(tmp_path)))
    for expr in expressions():
        for name in re.findall(r"\blmxd_\w+", expr):
            assert name in known or re.sub(r"_(bucket|sum|count|total)$", "", name) in known or name in {"up"}, name


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for p in panels():
        at = p["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, p["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


async def test_metrics_want_a_key(tmp_path: Path) -> None:
    async with (
        opened(House(tmp_path, FakeNvml(card()))) as front,
        aiohttp.ClientSession() as session,
        session.get(f"{front.url}/metrics") as answer,
    ):
        assert answer.status == 401
