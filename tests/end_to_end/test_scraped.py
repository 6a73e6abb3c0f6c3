"""Prometheus itself, as docs/gateway.md sets it up, beside a real daemon and gateway; and its alerts on real stalls."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import Forked
from free_ports import free_address, free_ports
from gateway_process import Gateway
from house import model
from lmxd_process import Lmxd
from waiting import comes_about, wait_until

from lmxd.errors import LmxdError

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "contrib/prometheus/lmxd.rules.yml"
PROMETHEUS = shutil.which("prometheus", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
MINUTE = 0.5
"""Seconds that a minute of the rules lasts here."""
PERIOD = "250ms"
"""Between two looks, in place of a quarter of a minute."""

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="there is no Prometheus: make takes it out of its package")


def shipped() -> dict[str, Any]:
    """The configuration that docs/gateway.md shows."""
    text = (ROOT / "docs/gateway.md").read_text().partition("```yaml prometheus\n")[2].partition("```")[0]
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def shorter(minutes: str) -> str:
    return f"{int(float(minutes) * MINUTE * 1000)}ms"


def hurried() -> dict[str, Any]:
    """The rules as they are, but for the length of a minute."""
    rules: dict[str, Any] = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule["expr"] = re.sub(r"\[(\d+)m\]", lambda found: f"[{shorter(found[1])}]", rule["expr"])
        if "for" in rule:
            rule["for"] = shorter(rule["for"].removesuffix("m"))
    return rules


class Prometheus:
    """``with Prometheus(directory, gateway, metrics) as prometheus``: it scrapes both every moment."""

    def __init__(self, directory: Path, gateway: Gateway, metrics: str) -> None:
        self.port = free_ports(1)
        key, rules, self.config = (directory / name for name in ("scraper.key", "rules.yml", "prometheus.yml"))
        key.write_text(gateway.key)
        rules.write_text(yaml.safe_dump(hurried()))
        config = shipped()
        places = {"lmxd": metrics, "lmxd-gateway": f"127.0.0.1:{gateway.port}"}
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": [places[job["job_name"]]]}]
            if "authorization" in job:
                job["authorization"]["credentials_file"] = str(key)
        config["rule_files"] = [str(rules)]
        config["global"] = {"scrape_interval": PERIOD, "scrape_timeout": PERIOD, "evaluation_interval": PERIOD}
        self.config.write_text(yaml.safe_dump(config))
        self.log, self.data = directory / "prometheus.log", directory / "prometheus"

    def __enter__(self) -> Prometheus:
        assert PROMETHEUS is not None
        words = [PROMETHEUS, f"--config.file={self.config}", f"--storage.tsdb.path={self.data}"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*words, f"--web.listen-address=127.0.0.1:{self.port}"], stdout=log, stderr=log, cwd=self.data.parent
            )
        wait_until(self.is_ready)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError):
            return bool(self.api("query", query="1")["resultType"] == "scalar")
        return False

    def api(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def up(self) -> dict[str, str]:
        """By job: 1 if its last scrape was good."""
        return {x["metric"]["job"]: x["value"][1] for x in self.api("query", query="up")["result"]}

    def value(self, metric: str) -> float:
        return sum(float(x["value"][1]) for x in self.api("query", query=metric)["result"])

    def firing(self) -> dict[str, str]:
        """The alerts that go off, with what they say."""
        alerts = self.api("alerts")["alerts"]
        return {x["labels"]["alertname"]: x["annotations"]["summary"] for x in alerts if x["state"] == "firing"}


@pytest.fixture
def metrics() -> str:
    return free_address()


@pytest.fixture
def lmxd(fake: Callable[..., Lmxd], metrics: str, tmp_path: Path) -> Iterator[Lmxd]:
    model(tmp_path, "bad")
    (tmp_path / "bad.json").write_text(json.dumps({"exit": {"status": 1, "lines": ["error: no such tensor"]}}))
    profiles = {"m": {"estimated_memory_gb": 0.3}, "bad": {"estimated_memory_gb": 0.3}}
    with fake(metrics={"listen": metrics}, models=profiles) as running:
        yield running


@pytest.fixture
def gateway(lmxd: Lmxd) -> Iterator[Gateway]:
    with Gateway(lmxd) as running:
        yield running


@pytest.fixture
def prometheus(tmp_path: Path, gateway: Gateway, metrics: str) -> Iterator[Prometheus]:
    with Prometheus(tmp_path, gateway, metrics) as running:
        wait_until(lambda: running.up() == {"lmxd": "1", "lmxd-gateway": "1"})
        yield running


def ask(gateway: Gateway, name: str) -> int:
    """The status of an answer."""
    body = json.dumps({"model": name, "messages": []}).encode()
    headers = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"}
    asked = urllib.request.Request(f"{gateway.url}/v1/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            answer.read()  # a client that leaves before the end is counted as one that left
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_it_scrapes_both_and_nothing_is_alarming(gateway: Gateway, prometheus: Prometheus) -> None:
    assert ask(gateway, "m") == 200
    wait_until(lambda: prometheus.value('lmxd_decisions_total{model="m",result="granted"}') == 1)
    wait_until(lambda: prometheus.value('lmxd_gateway_requests_total{model="m",code="200"}') == 1)
    assert prometheus.value("lmxd_device_available") == 1
    wait_until(lambda: prometheus.firing() == {})  # a scrape may be late where others keep the cores busy


def test_requests_that_wait_with_nothing_granted_go_off_and_end(lmxd: Lmxd, prometheus: Prometheus) -> None:
    """Nothing was ever granted here: then there is no such series, of which a rate could be zero."""
    with lmxd.client() as admin:
        promised = admin.yield_(admin.devices().devices[0].capacity)
        waiting = Forked(lmxd.command("request", "m"), env=lmxd.ctl_env, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: "LmxdQueueStuck" in prometheus.firing())
            assert prometheus.firing()["LmxdQueueStuck"].startswith("1 requests wait, and none was granted")
            admin.unyield(promised.id)
            wait_until(lambda: "LmxdQueueStuck" not in prometheus.firing())
        finally:
            waiting.terminate()
            waiting.wait(30)


def test_an_engine_that_does_not_load_goes_off(lmxd: Lmxd, prometheus: Prometheus) -> None:
    def fails() -> bool:
        with lmxd.client() as client, pytest.raises(LmxdError) as failed:
            client.request("bad")
        assert failed.value.code == "launch_failed"
        return "LmxdLaunchesFail" in prometheus.firing()

    wait_until(fails)
    assert prometheus.firing()["LmxdLaunchesFail"] == "bad does not load"


@pytest.mark.parametrize(("stopped", "alert"), [("lmxd", "LmxdDown"), ("gateway", "LmxdGatewayDown")])
def test_a_program_that_hangs_goes_off(
    lmxd: Lmxd, gateway: Gateway, prometheus: Prometheus, stopped: str, alert: str
) -> None:
    process = {"lmxd": lmxd.process, "gateway": gateway.process}[stopped]
    process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: alert in prometheus.firing())
    finally:
        process.send_signal(signal.SIGCONT)
    assert comes_about(lambda: alert not in prometheus.firing(), 60)
