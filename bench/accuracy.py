"""docs/accuracy.md: the estimates beside what was recorded in bench/data."""

from __future__ import annotations

import json
import lzma
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import beside
from recorded import REPACKED, covered, loads, named
from shapes import DATA

from lmxd.estimate.arguments import parse
from lmxd.estimate.extras import NO_EXTRAS, added
from lmxd.estimate.footprints import ONLY_IN_RAM, UNVERIFIED, estimate
from lmxd.estimate.learned import Card
from lmxd.gguf.builds import LATEST, Build
from lmxd.gguf.footprint import footprint
from lmxd.gguf.launch import Launch

MIB = 2**20
UNSURE = """\
Where the closed form is unsure, its error bar says so and llama-server's own no-alloc pass is asked; the larger figure
counts. That is so for large contexts without flash attention, for part of the layers of hybrid models, for builds that
are not known, and on a card for
{},
which were compared in RAM alone, or differ there. In the worst rows above are hybrid models whose states CUDA has no
kernel for, and flash attention that turned itself off. Every bar covers what is recorded
(`tests/estimate/test_error_bars.py`).

| architecture | why there is no closed form, and what is done |
|---|---|
| plm | build 11434 loads it with `-fa off` alone, and ends itself otherwise: an error bar |
| t5 | build 11434 ends itself with several slots that do not share a cache: refused, and covered else |
| qwen4exp, glm5-next | they load; what their indexers compute depends on the batch: a dry run |
| eagle3, dflash, gemma4-assistant | drafts that load only beside their target's context: a dry run |
| clef, pockettts, qwen3tts, wavtokenizer-dec | they do not write text: a dry run |
| gptj | llama-server lists it, and refuses it as unsupported |"""

NOT_IN_HERE = """\
## What is not in these figures

- Without flash attention, a prompt that fills the context takes more than one of 2,000 tokens: the scores of a layer
  in f16 are added for the whole context, so the estimate is above what the table has.
- Other cards: until a launch was seen (`lmxctl estimates`), the CUDA context is a prior by the card's multiprocessors,
  with an error bar of 48 to 96 MiB; 480 MiB where nothing is known of the card (docs/estimator.md).
- ROCm, Vulkan and SYCL: nothing was measured with them. Their context is a guess, and their buffers are taken to be
  CUDA's; the error bar says so.
- Draft models and adapters are what build 11434 prints beside a pretended card, projectors 1 % above it
  (`tests/estimate/test_extras.py`). `bench/estimator.py beside` measures them on a real one.
- Drafting by a model's own layers (MTP) was compared with 110 loads in RAM, of eleven models, and on a card with four
  launches of one.
- `--split-mode row` and `tensor` are refused. Build 11434 splits by rows on SYCL alone: its CUDA has no such buffers
  (`device CUDA0 does not support split buffers`). `tensor` makes one device of all cards: llama-server prints what they
  take together, and its own `--fit` is not implemented for it."""
PART_OF = {"model": "weights", "KV": "cache", "RS": "state", "compute": "compute"}


@dataclass(frozen=True, slots=True)
class Error:
    """MiB by which an estimate is above what was printed or measured."""

    what: str
    part: str
    over: float
    total: float


def errors(name: str, load: dict[str, Any], repack: frozenset[str], build: Build) -> Iterator[Error]:
    """Of one load, part by part and place by place. Unsupported if the closed form does not cover the model."""
    known, cards = named(name), load["cards"]
    launch = parse(load["flags"], frozenset() if cards else repack).resolved(known.context).launch
    found, printed = footprint(known, launch, cards, build), load["buffers"]
    output = 4 * launch.outputs * known.vocabulary
    for place, parts in [*((f"CUDA{n}", p) for n, p in enumerate(found.devices)), ("CPU", found.host)]:
        if place == "CPU":
            said = {
                "weights": printed.get("CPU_Mapped.model", 0.0) + printed.get("CPU_REPACK.model", 0.0),
                "cache": printed.get("CPU.KV", 0.0),
                "state": printed.get("CPU.RS", 0.0),
                "compute": printed.get("CPU.compute", 0.0),
            }
            mine = parts.compute - output
        else:
            said = {part: printed.get(f"{place}.{kind}", 0.0) for kind, part in PART_OF.items()}
            mine = parts.compute
        figures = {"weights": parts.weights, "cache": parts.kv, "state": parts.state, "compute": mine}
        for part, size in figures.items():
            if part == "compute" and place == "CPU" and cards:
                continue  # pinned memory beside a GPU: another name in each build
            yield Error(f"{name} {load['flags']}", part, size / MIB - said[part], parts.total / MIB)


def table(found: list[Error]) -> list[str]:
    """Rows of a summary, by part."""
    rows = [
        "| part | compared | exact to 1 MiB | p50 | p95 | worst | within the bound |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for part in dict.fromkeys(e.part for e in found):
        mine = [e for e in found if e.part == part]
        off = sorted(abs(e.over) for e in mine)
        exact, bound = sum(x <= 1 for x in off), sum(abs(e.over) <= max(64, e.total / 100) for e in mine)
        worst = max(mine, key=lambda e: abs(e.over))
        rows.append(
            f"| {part} | {len(mine):,} | {exact / len(mine):.1%} | {off[len(off) // 2]:.2f} MiB "
            f"| {off[len(off) * 95 // 100]:.1f} MiB | {worst.over:+.1f} MiB ({worst.what}) | {bound / len(mine):.1%} |"
        )
    return rows


def in_buffers() -> list[Error]:
    """Of the recorded loads of all models that a closed form covers."""
    return [error for name in covered() for load in loads()[name] for error in errors(name, load, REPACKED, LATEST)]


def drafting() -> list[Error]:
    """Of the contexts that models have for their own drafting layers, in RAM."""
    found: list[Error] = []
    with lzma.open(DATA / "drafting.jsonl.xz", "rt") as file:
        for row in map(json.loads, file):
            known = named(row["model"])
            launch = parse(row["flags"]).resolved(known.context).launch
            if not launch.mtp:
                continue
            alone = footprint(known, launch, 0)
            both, said = added(alone, known, launch, 0, NO_EXTRAS, LATEST).host, row["contexts"][1]
            buffer = both.compute - alone.host.compute - 4 * launch.slots * known.vocabulary
            what = f"{row['model']} {row['flags']}"
            for part, size, printed in (
                ("cache of drafting", both.kv - alone.host.kv, said["CPU.KV"]),
                ("compute of drafting", buffer, said["CPU.compute"]),
            ):
                found.append(Error(what, part, size / MIB - printed, both.total / MIB))
    return found


def on_h100() -> list[dict[str, Any]]:
    """The recorded launches on a real GPU, each with the estimate for it."""
    rows = [json.loads(line) for line in (DATA / "h100.jsonl").read_text().splitlines()]
    for row in rows:
        known = named(row["model"])
        launch = parse(row["flags"]).resolved(known.context).launch
        row["took"] = max(row["loaded"], row["prompted"]) / MIB
        row["estimate"] = estimate(known, launch, (Card(name=row["card"]),)).device / MIB
    return sorted(rows, key=lambda row: (row["model"], row["flags"]))


def gpu_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| model | flags | took MiB | estimate MiB | error | llama-fit-params |", "|---|---|---:|---:|---:|---:|"]
    last = ""
    for row in rows:
        over = row["estimate"] - row["took"]
        fit = f"{100 * (row['fit'] - row['took']) / row['took']:+.1f} %" if row.get("fit") else ""
        lines.append(
            f"| {row['model'] if row['model'] != last else ''} | `{row['flags']}` | {row['took']:.0f} "
            f"| {row['estimate']:.0f} | {over:+.0f} MiB, {100 * over / row['took']:+.1f} % | {fit} |"
        )
        last = row["model"]
    return lines


def gpu_summary(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| | p50 | p95 | worst above | worst below |", "|---|---:|---:|---:|---:|"]
    for name, key in (("estimate", "estimate"), ("llama-fit-params", "fit")):
        over = sorted(row[key] - row["took"] for row in rows if row.get(key))
        off = sorted(map(abs, over))
        share = sorted(100 * (row[key] - row["took"]) / row["took"] for row in rows if row.get(key))
        lines.append(
            f"| {name} | {off[len(off) // 2]:.0f} MiB | {off[len(off) * 95 // 100]:.0f} MiB "
            f"| {max(over):+.0f} MiB, {share[-1]:+.1f} % | {min(over):+.0f} MiB, {share[0]:+.1f} % |"
        )
    within = sum(abs(row["estimate"] - row["took"]) <= max(64, row["took"] / 100) for row in rows)
    return [*lines, "", f"Within 1 % or 64 MiB, whichever is larger: {within} of {len(rows)}."]


def on_two() -> tuple[str, list[str]]:
    """(card, table) of models divided over two: bench/multi_gpu.py measured them."""
    measured = json.loads((DATA / "two_gpus.json").read_text())
    card = Card(name=measured["card"])
    lines = [
        "| model | tokens | GiB a card | layers | took MiB | estimate MiB | worst error | llama-server's own MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in measured["splits"]:
        split = tuple(map(float, row["split"].split(",")))
        found = estimate(named(row["shape"]), Launch(context=row["tokens"], split=split), (card, card))
        sizes = [part.total for part in found.parts.devices]
        worst = max(abs(a - b) for a, b in zip(sizes, row["taken"], strict=True))
        columns = (" + ".join(f"{n / MIB:.0f}" for n in each) for each in (row["taken"], sizes, row["own"]))
        taken, estimated, own = columns
        lines.append(
            f"| {row['shape']} | {row['tokens']} | {row['limit']} | {row['split']} | {taken} | {estimated} "
            f"| {worst / MIB:.0f} MiB | {own} |"
        )
    return measured["card"], lines


def files_beside() -> list[str]:
    """The section of launches with files beside the model; nothing if none was recorded."""
    rows = beside.recorded()
    if not rows:
        return []
    return [
        "## Files beside the model, experts in RAM, shared caches",
        "",
        "Real launches of `bench/estimator.py beside`. Where there is a projector, it saw its largest picture.",
        "Launches that are *held out* have flags that no figure of the closed form was made from.",
        "",
        *rows,
        "",
    ]


def page() -> str:
    """All of it."""
    rows, loads = on_h100(), [*in_buffers(), *drafting()]
    names = {e.what.split()[0] for e in loads}
    card = rows[0]
    two, splits = on_two()
    return "\n".join(
        [
            "# Accuracy",
            "",
            "Generated by `bench/estimator.py write` from `bench/data`. The bound is what lmxd promises of itself:",
            "1 % of what the process takes or 64 MiB, whichever is larger, and never more than 64 MiB under.",
            "",
            f"## {card['card']}, driver {card['driver']}, llama-server build 11434 (CUDA)",
            "",
            f"{len(rows)} real launches of {len({r['model'] for r in rows})} models of real shape and zero weights",
            "(`bench/on_gpu.py`), with nothing learned. *took* is NVML's figure for the process, ready or after a",
            "prompt of 2,000 tokens, whichever is more; the estimate is made from the file alone. llama-fit-params ran",
            "on the same launches; it leaves out the CUDA context and reserves logits that the server does not.",
            "",
            *gpu_summary(rows),
            "",
            *gpu_table(rows),
            "",
            *files_beside(),
            f"## Two of {two}: models that neither may hold alone",
            "",
            "Real launches of `bench/multi_gpu.py`, on 24 November 2026: lmxd may use so many GiB of each card, and",
            "divides the layers. *took* is NVML's figure for the process on each card after a prompt of 2,000 tokens;",
            "*own* is what llama-server takes when it loads the same model by itself (`--fit on`, its default), before",
            "any prompt: both cards were empty, so that it divides alike, but nothing bounds it.",
            "",
            *splits,
            "",
            "## Buffers as llama-server prints them",
            "",
            f"{len(names)} models of {len({named(n).arch for n in names})} architectures, in RAM and beside pretended",
            "GPUs (lmxd/engines/llama_cpp/pretend), build 11434. Pretended cards are no GPU result: that they say what",
            "real ones say is what the table above shows. In RAM these are real loads.",
            "",
            *table(loads),
            "",
            UNSURE.format(textwrap.fill(", ".join(sorted(ONLY_IN_RAM | UNVERIFIED)), 119, break_on_hyphens=False)),
            "",
            NOT_IN_HERE,
            "",
        ]
    )
