"""Every view of a running daemon on a terminal of 80 columns: what a person sees of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from house import model
from lmxd_process import Lmxd, lease_from
from terminals import written

from lmxd.folding import width

Make = Callable[..., Lmxd]
HUB = "unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF:UD-Q4_K_XL"


@pytest.fixture
def running(fake: Make, tmp_path: Path) -> Iterator[Lmxd]:
    model(tmp_path, "hub")
    models = {HUB: {"path": str(tmp_path / "hub.gguf"), "estimated_memory_gb": 0.3}, "m": {"estimated_memory_gb": 0.3}}
    with fake(models=models) as found:
        yield found


def on_screen(lmxd: Lmxd, *words: str, columns: int = 80) -> list[str]:
    """The lines that a command writes to a terminal so wide, without colours."""
    env = {name: value for name, value in lmxd.ctl_env.items() if name not in ("COLUMNS", "LINES")}
    text = written(lmxd.command(*words), env | {"TERM": "vt100"}, columns=columns)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode()).replace("\r", "").split("\n")


@pytest.mark.parametrize("columns", [60, 80])
def test_no_view_is_wider_than_the_terminal_or_breaks_a_name(running: Lmxd, columns: int) -> None:
    lease = lease_from(running.json("request", HUB))
    running.json("yield", "100M", "--for", "2h")
    views = [[view] for view in ("status", "ps", "queue", "devices", "models", "why", "estimates")]
    for words in [*views, ["top", "-c", "1"], ["explain", lease.lease], ["plan", HUB]]:
        shown = on_screen(running, *words, columns=columns)
        for line in shown:
            assert width(line) <= columns or line.split() == [str(running.config()["engine"]["path"])], (words, shown)
            assert all(HUB in word or word.endswith("…") for word in line.split() if word.startswith("unsloth")), shown


def test_a_pipe_gets_each_row_whole_in_one_line(running: Lmxd) -> None:
    lease = lease_from(running.json("request", HUB))
    (row,) = [line for line in running.lmxctl("ps").stdout.splitlines() if HUB in line]
    assert lease.lease in row
    assert sum(HUB in line for line in running.lmxctl("models").stdout.splitlines()) == 1


def test_why_is_of_the_one_device_there_is(running: Lmxd) -> None:
    assert running.lmxctl("why").stdout.startswith("OWNER (host)")
    assert running.json("why")["device"]["id"] == "host"


def test_a_yield_can_be_ended_by_what_each_view_says(running: Lmxd) -> None:
    made = running.json("yield", "100M", "--for", "2h")["id"]
    for view in ("status", "devices", "top", "queue", "why"):
        shown = running.lmxctl(view).stdout
        assert re.search(rf"{made} keeps 0.10 GiB of host free for others, (2 h 0|1 h 59) min more", shown), view
    assert running.lmxctl("yield", "--end", made).returncode == 0
    assert made not in running.lmxctl("status").stdout


def test_a_request_is_told_of_the_slot_that_would_have_spared_an_instance(running: Lmxd) -> None:
    first = lease_from(running.json("request", "m"))
    hint = f"{first.instance} runs, and its 1 slot is taken; slots: 2 in its profile would let both in"
    assert hint in running.lmxctl("plan", "m").stdout
    assert hint in running.lmxctl("request", "m").stdout
    assert "hint" not in running.lmxctl("request", HUB).stdout
    assert "hint" not in running.lmxctl("plan", "m", "--exclusive").stdout


def test_who_waits_on_a_terminal_is_told_of_it_at_once(running: Lmxd) -> None:
    names = [lease_from(running.json("request", "m")).instance for _ in range(3)]
    shown = " ".join("\n".join(on_screen(running, "request", "m", "--wait", "1")).split())
    assert f"hint: {names[0]} runs, and its 1 slot is taken; slots: 2 in its profile would let both in" in shown


def test_a_refusal_and_a_plan_name_each_holder_once(running: Lmxd) -> None:
    names = [lease_from(running.json("request", "m")).instance for _ in range(3)]
    for words in (["request", HUB, "--no-wait"], ["plan", HUB]):
        done = running.lmxctl(*words)
        assert done.returncode == 75
        said = done.stdout + done.stderr
        for name in names:
            assert said.count(name) == 1, said
        assert said.count("0.30") <= len(names) + 1, said
        assert said.count(" host") == 1, said
