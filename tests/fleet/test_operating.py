"""``lmxctl fleet`` over a real broker and real nodes: what there is, what would be, drains, and copies."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fleet_broker import Broker
from fleet_node import Node
from free_ports import free_address
from hf_directory import LLAMA, hf_directory, llama_tensors
from house import fake_engine, fake_vllm, model
from lmxd_process import Lmxd
from waiting import wait_until

from lmxd.fleet.members import MemberRole

OPERATOR, NODE = MemberRole.OPERATOR, MemberRole.NODE


class Boxes:
    """Three boxes with a node each: both others have ``common`` and a vLLM, and only ``n1`` has ``hf`` and ``own``."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.broker = stack.enter_context(Broker(_made(directory / "broker")))
        limits = {"ada": {"weight": 2.5, "max_leases": 4, "max_waiting": 3}}
        self.operator = self.broker.box("desk", [OPERATOR], users=limits)
        self.lmxds: dict[str, Lmxd] = {}
        self.nodes: dict[str, Node] = {}
        for name, models in (("n1", ("common", "own")), ("n2", ("common",))):
            box = _made(directory / name)
            for each in models:
                model(box, each)
            config: dict[str, Any] = {
                "model_dir": str(box),
                "engine": {"path": str(fake_engine(box)), "stop_timeout": 2},
                "engines": {"vllm": {"path": str(fake_vllm(box))}},
                "models": {each: {"estimated_memory_gb": 0.1, "slots": 2} for each in models},
            }
            if name == "n1":
                there = hf_directory(box / "hf", LLAMA, llama_tensors())
                (there / "modeling_it.py").write_text("raise SystemExit")
                config["models"]["hf"] = {"engine": "vllm", "path": str(there), "slots": 3}
            self.lmxds[name] = stack.enter_context(Lmxd(box, config))
            home = self.broker.box(name, [NODE], door=free_address(), labels={"rack": name})
            self.nodes[name] = stack.enter_context(Node(self.lmxds[name], home))
        wait_until(lambda: [x["state"] for x in self.json("nodes")["nodes"]] == ["up", "up"])

    def lmxctl(self, *words: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lmxd.cli.main", "fleet", "--home", str(home or self.operator.state), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def json(self, *words: str) -> Any:
        done = self.lmxctl(*words, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def said(self, *words: str) -> str:
        """What is printed by a command that succeeds."""
        done = self.lmxctl(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxes]:
    with ExitStack() as stack:
        yield Boxes(tmp_path_factory.mktemp("boxes"), stack)


def row(table: str, first: str) -> list[str]:
    """The words of the row that begins with a word."""
    (found,) = (line.split() for line in table.splitlines() if line.split()[:1] == [first])
    return found


def test_nodes_are_shown_with_their_bytes(boxes: Boxes) -> None:
    wait_until(lambda: [row(boxes.said("nodes"), name)[1] for name in ("n1", "n2")] == ["up", "up"])
    shown = boxes.said("nodes")
    assert "rack=n1" in row(shown, "n1")
    assert boxes.nodes["n2"].address in row(shown, "n2")
    (first, _) = boxes.json("nodes")["nodes"]
    assert [x["model"] for x in first["card"]["models"]] == ["common", "hf", "own"]
    assert first["heartbeat"]["rooms"][0]["capacity"] > 0


def test_instances_and_queues_are_of_all_nodes(boxes: Boxes) -> None:
    with boxes.lmxds["n2"].client() as client, client.request("common"):
        shown = boxes.said("ps")
        assert row(shown, "n2")[1].startswith("common#")
        found = boxes.json("ps")["nodes"]
        assert [len(found[name]["instances"]) for name in ("n1", "n2")] == [0, 1]
        assert boxes.said("queue") == "nobody waits\n"
        wait_until(lambda: "1/2" in row(boxes.said("top"), "common"))
        plans = boxes.said("plan", "common").splitlines()
        assert [line.split()[:2] for line in plans[1:]] == [["n2", "share"], ["n1", "start"]], "the best first"


def test_users_are_summed_over_all_nodes(boxes: Boxes) -> None:
    with ExitStack() as stack:
        for lmxd in boxes.lmxds.values():
            client = stack.enter_context(lmxd.client())
            stack.enter_context(client.request("common", user="ada"))
        wait_until(lambda: row(boxes.said("users"), "ada")[-3:] == ["0/3", "n1,", "n2"])
        assert row(boxes.said("users"), "ada")[1] == "2.5"
        assert row(boxes.said("users"), "ada")[5] == "2/4"
        (ada,) = boxes.json("users")["users"]
        assert (ada["user"], ada["leases"], ada["waiting"], ada["nodes"]) == ("ada", 2, 0, ["n1", "n2"])
        assert (ada["weight"], ada["max_leases"], ada["max_bytes"]) == (2.5, 4, None)
        assert row(boxes.said("top"), "ada")[1] == "2.5"
        assert [user["user"] for user in boxes.json("top")["users"]] == ["ada"]
        assert ada["bytes"] == pytest.approx(0.1 * 2**30, rel=0.5), "one slot of two at each"
        before = ada["use"]
        wait_until(lambda: boxes.json("users")["users"][0]["use"] > before)
    wait_until(lambda: boxes.json("users")["users"][0]["leases"] == 0)


def test_a_plan_is_of_the_nodes_that_have_the_model(boxes: Boxes) -> None:
    assert boxes.json("plan", "own")["nodes"].keys() == {"n1"}
    refused = boxes.lmxctl("plan", "nobodys")
    assert (refused.returncode, "no node that is up has a model nobodys" in refused.stderr) == (64, True)


def test_a_node_is_drained_and_seen_to_be(boxes: Boxes) -> None:
    with boxes.lmxds["n2"].client() as client, client.request("common"):
        assert "1 instance and 1 lease are left" in boxes.said("drain", "n2", "--no-wait")
        wait_until(lambda: row(boxes.said("nodes"), "n2")[1] == "draining")
        assert "1 of 2 nodes up, 1 draining" in boxes.said("top")
    try:
        assert boxes.said("drain", "n2") == "n2 drains: 0 instances and 0 leases are left\n"
    finally:
        assert boxes.said("drain", "n2", "--end") == "n2 admits requests again\n"
    wait_until(lambda: row(boxes.said("nodes"), "n2")[1] == "up")


def test_a_model_is_copied_to_a_node_and_offered_there(boxes: Boxes) -> None:
    assert "n2 has own, from n1" in boxes.said("copy", "own", "n2")
    there = boxes.lmxds["n2"].directory / "own.gguf"
    assert there.read_bytes() == (boxes.lmxds["n1"].directory / "own.gguf").read_bytes()
    wait_until(lambda: boxes.json("plan", "own")["nodes"].keys() == {"n1", "n2"})
    again = boxes.lmxctl("copy", "own", "n2")
    assert (again.returncode, "n2 has own already" in again.stderr) == (64, True)


def test_a_directory_is_copied_without_its_code_and_answers_there(boxes: Boxes) -> None:
    said = boxes.said("copy", "hf", "n2")
    assert "n2 has hf, from n1" in said
    assert "Left out, as code is not copied: modeling_it.py" in said
    with boxes.lmxds["n2"].client() as client, client.request("hf") as lease:
        assert lease.model == "hf"


@pytest.mark.parametrize(
    ("words", "said", "remedy"),
    [
        pytest.param(("copy", "common", "n9"), "there is no node n9", "there are: n1, n2", id="no such node"),
        pytest.param(
            ("copy", "nobodys", "n2"), "no node that is up has a model", "there are: common, hf, own", id="model"
        ),
        pytest.param(
            ("copy", "x", "n2", "--from", "n1"), "n1 has no model x", "there are: common, hf, own", id="peer's"
        ),
        pytest.param(("copy", "x", "n2", "--from", "n9"), "n9 has no model x, or is away", "none", id="no such peer"),
        pytest.param(("plan", "nobodys"), "no node that is up has a model", "there are: common, hf, own", id="a plan"),
        pytest.param(("drain", "n9"), "node n9 is not there", "start lmxd and lmxd fleet node", id="a drain of none"),
    ],
)
def test_errors_say_what_would_help(boxes: Boxes, words: tuple[str, ...], said: str, remedy: str) -> None:
    done = boxes.lmxctl(*words)
    assert done.returncode != 0
    what, _, help_ = done.stderr.partition("remedy:")
    assert said in what
    assert remedy in help_


def test_a_node_may_not_operate(boxes: Boxes, tmp_path: Path) -> None:
    """It has no certificate as an operator, and another role's is not taken for it."""
    done = boxes.lmxctl("nodes", home=boxes.nodes["n1"].home.state)
    assert (done.returncode, "no usable certificate as operator" in done.stderr) == (78, True)


def test_without_a_broker_it_is_said_where_one_was_looked_for(boxes: Boxes, tmp_path: Path) -> None:
    away = boxes.operator.state / "fleet.yaml"
    text = away.read_text()
    away.write_text(text.replace(boxes.broker.url, "tls://127.0.0.1:9"))
    try:
        done = boxes.lmxctl("nodes", "--json")
    finally:
        away.write_text(text)
    assert json.loads(done.stdout)["error"]["code"] == "daemon_unavailable"
    assert done.returncode == 69


def test_a_silent_node_is_said_to_be(boxes: Boxes) -> None:
    """Last, as it takes one away."""
    boxes.nodes["n2"].end(9)
    wait_until(lambda: row(boxes.said("nodes"), "n2")[1] == "silent")
    assert boxes.json("ps")["nodes"].keys() == {"n1"}
