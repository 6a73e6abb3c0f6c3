"""The tables of ps and queue, as wide as a terminal."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from groups import commands_of
from rich.console import Console

from lmxd.__main__ import main as lmxd_main
from lmxd.cli import explanations, output, views
from lmxd.cli.main import main as lmxctl_main
from lmxd.cli.tables import Table
from lmxd.migrate.commands import import_
from lmxd.rpc.books import InstanceInfo, LeaseInfo, ModelInfo, TicketInfo, VariantInfo
from lmxd.rpc.owners import OwnerInfo
from lmxd.rpc.shortfalls import SwapInfo

GIB = 2**30


def drawn(table: Any) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=80, force_terminal=False).print(table)
    return out.getvalue().splitlines()


def ticket(**more: Any) -> TicketInfo:
    return TicketInfo(
        **{"ticket": "t-0123abcd", "model": "m", "uid": 990, "bytes": GIB, "position": 1, "waited": 3} | more
    )


def test_a_ticket_says_whom_it_is_for() -> None:
    assert views.ticket_row(ticket(user="anna"))[:4] == ("t-0123abcd", "1", "m", "key anna")
    assert views.ticket_row(ticket())[3] == "990"
    assert views.ticket_row(ticket(ticket=None, model=None, uid=None))[:4] == ("another's", "1", "1.00 GiB", "-")


def test_the_queue_fits_the_terminal() -> None:
    rows = [views.ticket_row(ticket(model="llama-3.1-8b", user=user, eta=14.0)) for user in ("anna", "x" * 64)]
    lines = drawn(output.filled(views.QUEUE, rows, "nobody waits"))
    assert max(map(len, lines)) <= 80
    assert sum("t-0123abcd" in line for line in lines) == 2


def test_a_lease_says_whom_it_is_for() -> None:
    lease = LeaseInfo(bytes=GIB, slots=1, lease="l-1", uid=990, user="anna")
    assert views.lease_label(lease) == "l-1 (key anna)"
    assert views.lease_label(lease.model_copy(update={"user": None})) == "l-1 (990)"
    assert views.lease_label(LeaseInfo(bytes=GIB, slots=1)) == "another's 1.00 GiB"


def test_the_holder_of_many_leases_is_named_once() -> None:
    mine = [
        LeaseInfo(bytes=GIB, slots=1, lease=f"l-{n}", uid=990, user=u) for n, u in enumerate(("anna", "bo", "anna"))
    ]
    others = LeaseInfo(bytes=GIB, slots=1)
    assert [*views.lease_labels([others, *mine])] == ["l-0 l-2 (key anna)", "l-1 (key bo)", "another's 1.00 GiB"]


def test_an_elastic_context_says_what_it_may_become() -> None:
    figures: dict[str, Any] = {"promised": {"GPU-a": GIB}, "charged": {}, "idle": 0, "idle_timeout": 300, "age": 1}
    own = figures | {
        "instance": "llama-3.1-8b#1",
        "model": "llama-3.1-8b",
        "phase": "ready",
        "slots": 12,
        "busy": False,
    }
    found = [
        InstanceInfo(**own, leases=[], ctx=ctx, ctx_most=most)
        for ctx, most in ((4096, 65536), (4096, None), (1000, 8192), (0, None))
    ]
    assert [output.context(i) for i in found] == ["4k/64k", "4096", "1000/8k", "-"]
    lines = drawn(output.filled(views.PS, [views.instance_row(i, {}) for i in found], "no instances"))
    assert max(map(len, lines)) <= 80
    assert any("4k/64k" in line.split() for line in lines)
    assert output.context(InstanceInfo(**own, leases=[], ctx=16384, ctx_most=8192, unified=True)) == "16k"


def test_why_says_what_a_swap_costs() -> None:
    swap = SwapInfo(model="b", closes_in=7.0, price=2.6)
    owner = OwnerInfo(instance="a#1", bytes=GIB, promised=GIB, measured=GIB, swap=swap, exited=False)
    assert explanations.owner_label(owner).endswith("; serves for 7 s, then makes way for b (a swap: 2.6 s of loading)")


@pytest.mark.parametrize("group", [lmxctl_main, lmxd_main, import_])
def test_the_help_of_a_group_has_whole_sentences(group: click.Group) -> None:
    done = CliRunner().invoke(group, ["--help"], terminal_width=80)
    assert max(map(len, done.output.splitlines())) <= 80
    for name, command in commands_of(group).items():
        first = " ".join((command.help or "").split("\n\n")[0].split()).partition(". ")[0].removesuffix(".")
        assert first in " ".join(done.output.split()), name
        assert command.name == name


def test_an_estimate_of_a_file_that_is_not_there_says_what_to_name(tmp_path: Path) -> None:
    done = CliRunner().invoke(lmxctl_main, ["estimate", str(tmp_path / "none.gguf")])
    assert done.exit_code == 78
    assert "hf:ORG/REPO" in done.output
    assert "model_dir" not in done.output


def test_variants_stand_below_their_model_and_filters_are_named() -> None:
    variant = VariantInfo(name="qwen3:thinking", set={"chat_template_kwargs": {}, "top_k": 20}, strip=["min_p"])
    variants = [variant, VariantInfo(name="qwen3:same")]
    own: Any = {"ctx": 4096, "slots": 1, "bytes": {"host": GIB}, "running": 0}
    qwen = ModelInfo(model="qwen3", **own, set={"temperature": 0.6}, strip=["seed"], variants=variants)
    broken = ModelInfo(model="b", **own, strip=["seed"], problem="there is no file")
    rows = [row for x in (qwen, broken) for row in views.model_rows(x, {})]
    assert [(row[0], row[-1]) for row in rows] == [
        ("qwen3", "sets temperature; strips seed"),
        ("  qwen3:thinking", "sets chat_template_kwargs, top_k; strips min_p"),
        ("  qwen3:same", "-"),
        ("b", "there is no file"),
    ]
    assert [line.split() for line in drawn(Table(views.MODELS, rows))][:1] == [
        ["MODEL", "CTX", "SLOTS", "GiB", "OF", "NOTE"]
    ]


def test_models_say_what_they_have_beside_the_usual_in_80_columns() -> None:
    said = {
        "mmproj": "/m/mmproj.gguf",
        "lora": [{"path": "a.gguf"}],
        "draft": {"path": "d.gguf"},
        "n_cpu_moe": 24,
    }
    seeing = ModelInfo(
        model="gemma-3-27b-it",
        ctx=131072,
        slots=4,
        bytes={"host": 20 * GIB},
        basis="closed form",
        running=0,
        capabilities=["completion", "vision", "tools"],
        settings=said,
    )
    plain = seeing.model_copy(update={"model": "plain", "capabilities": ["completion"], "settings": {}})
    rows = [views.model_rows(x, {})[0] for x in (seeing, plain)]
    assert [row[4] for row in rows] == ["vision, lora, draft, experts in RAM", "-"]
    lines = drawn(output.filled(views.MODELS, rows, ""))
    assert max(map(len, lines)) <= 80
    assert "vision, lora" in " ".join(lines)
    assert "WITH" not in drawn(output.filled(views.MODELS, rows[1:], ""))[0], "a column that says nothing is left out"
    dense = plain.model_copy(update={"settings": {"ngram": "mod", "n_cpu_ffn": 4}})
    assert dense.traits == ["ngram", "layers in RAM"]
    ranking = plain.model_copy(update={"capabilities": ["rerank"], "settings": {"rerank": True}})
    assert ranking.traits == ["rerank"]
