"""Launches with files beside the model and with flags of placement, NVML beside lmxd's estimate: bench/beside.py OUT

Adapters, projectors that see a picture, draft models, drafting by a model's own layers, experts in RAM, shared caches,
embeddings, longer positions; and launches that no table was made from (HELD_OUT). A line for each as it goes; one that
fails is told, and the others go on. Needs a CUDA llama-server on PATH; 7 minutes on an H100 with its files in the page
cache. bench/estimator.py beside shows what was recorded.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import synthetic
import vision
from adapters import adapting
from on_gpu import Gpu, ask, each, served
from shapes import DATA, shapes, written

from lmxd.engines.llama_cpp.binary import find, probe
from lmxd.estimate.arguments import parse
from lmxd.estimate.cards import card_of
from lmxd.estimate.estimator import Estimator
from lmxd.estimate.files import read_model
from lmxd.estimate.footprints import Estimate
from lmxd.estimate.learned import Card
from lmxd.gguf.builds import LATEST, Build

MIB = 2**20
LLAMA, QWEN, MOE, OSS = "llama31-8b-q4_0", "qwen3-4b-q4_0", "qwen3-30b-a3b-q4_0", "gpt-oss-20b"
GEMMA, GEMMA_SMALL, DRAFT, OWN_DRAFTS = "gemma3-12b-q4_0", "gemma3-4b-q4_0", "llama32-1b-q8_0", "qwen35-9b@mtp"
SIMPLE, OWN = "--spec-type draft-simple", "--spec-type draft-mtp"

CASES = (
    (LLAMA, "-c 8192 -np 1 -mm {clip336}"),
    (LLAMA, "-c 8192 -np 1 -mm {clip896}"),
    (LLAMA, "-c 8192 -np 1 -mm {clip336} --no-mmproj-offload"),
    (LLAMA, "-c 8192 -np 1 --lora {lora64}"),
    (LLAMA, "-c 8192 -np 2 --no-kv-unified --lora-scaled {lora64}:0.5,{lora16}:1"),
    (LLAMA, "-c 8192 -np 1 --lora {lora64},{lora16}"),
    (LLAMA, "-c 8192 -np 1 --lora {lora64} -ngl 16"),
    (LLAMA, "-c 8192 -np 1 --lora {lora64} -fa off"),
    (LLAMA, f"-c 8192 -np 1 -md {{draft}} {SIMPLE}"),
    (LLAMA, f"-c 8192 -np 2 --no-kv-unified -md {{draft}} {SIMPLE} -ctkd q8_0 -ctvd q8_0"),
    (LLAMA, f"-c 8192 -np 1 -md {{draft}} {SIMPLE} -ngld 8"),
    (LLAMA, f"-c 8192 -np 1 --lora {{lora16}} -mm {{clip336}} -md {{draft}} {SIMPLE}"),
    (LLAMA, "-c 8192 -np 8 --kv-unified"),
    (LLAMA, "-c 8192 -np 1 --no-kv-offload"),
    (LLAMA, "-c 8192 -np 1 --no-op-offload -ngl 20"),
    (GEMMA, "-c 16384 -np 2 --no-kv-unified -md {small} --spec-type draft-simple -ctk q8_0 -ctv q8_0"),
    (GEMMA, "-c 32768 -np 1 --swa-full"),
    (GEMMA, "-c 8192 -np 4 --kv-unified"),
    (MOE, "-c 8192 -np 1 -ncmoe 24 -ctk q8_0 -ctv q8_0"),
    (MOE, "-c 32768 -np 8 --kv-unified -ub 2048 -b 2048 -ncmoe 8"),
    (MOE, "-c 8192 -np 1 -cmoe"),
    (MOE, "-c 4096 -np 1 -ot ffn_down_exps=CPU -ub 1024 -b 2048"),
    (MOE, r"-c 8192 -np 1 -ot blk\.(0|1|2)\.ffn_.*_exps=CPU"),
    (MOE, "-c 8192 -np 4 --no-kv-unified -ncmoe 24 -fa off"),
    (OSS, "-c 16384 -np 2 --kv-unified -ncmoe 12"),
    (OSS, "-c 16384 -np 1 --swa-full"),
    (QWEN, "-c 8192 -np 4 --no-kv-unified --swa-full -fa off"),
    (QWEN, "-c 4096 -np 1 -ub 4096 -b 4096 --embedding --pooling last"),
    (QWEN, "-c 2048 -np 1 -ub 2048 -b 2048 --embedding --pooling mean"),
    (QWEN, "-c 65536 -np 1 --rope-scaling yarn --rope-scale 4 --yarn-orig-ctx 16384"),
    (OWN_DRAFTS, "-c 8192 -np 1"),
    (OWN_DRAFTS, f"-c 8192 -np 1 {OWN}"),
    (OWN_DRAFTS, f"-c 16384 -np 2 --no-kv-unified {OWN} --spec-draft-n-max 2"),
    (OWN_DRAFTS, f"-c 8192 -np 1 {OWN} -fa off"),
)
HELD_OUT = (
    (MOE, r"-c 8192 -np 2 --no-kv-unified -ot blk\.(0|1|2)\.ffn_(down|gate|up)_exps|blk\.3\.ffn_down_exps=CPU"),
    (
        MOE,
        r"-c 8192 -np 1 -ot blk\.[0-9]\.ffn_(down|gate|up)_exps|blk\.10\.ffn_(down|gate)_exps=CPU -ctk q8_0 -ctv q8_0",
    ),
    (OSS, r"-c 8192 -np 1 -ot blk\.[0-7]\.ffn_(down|gate|up)_exps|blk\.8\.ffn_down_exps=CPU"),
    ("dsv2-lite-q4_0", r"-c 8192 -np 1 -ot blk\.[1-9]\.ffn_(down|gate|up)_exps|blk\.10\.ffn_(down|gate)_exps=CPU"),
    (LLAMA, r"-c 8192 -np 1 -ngl 24 -ot blk\.9\.ffn_(down|gate)\.=CPU"),
    (LLAMA, r"-c 16384 -np 2 --no-kv-unified -ot blk\.[0-3]\.ffn_(down|gate|up)\.=CPU"),
    (GEMMA, r"-c 8192 -np 1 -ngl 30 -ot blk\.19\.ffn_down\.=CPU -ctk q8_0 -ctv q8_0"),
    (MOE, "-c 12288 -np 3 --no-kv-unified -ngl 30 -ctk q8_0 -ctv q8_0"),
    (LLAMA, "-c 10000 -np 4 --kv-unified --lora {lora64},{lora16}"),
    (LLAMA, "-c 5000 -np 1 -ub 4096 -b 4096"),
    (LLAMA, f"-c 8192 -np 1 -md {{draft}} {SIMPLE} -ctkd q4_0 -ctvd q4_0"),
    (LLAMA, "-c 8192 -np 1 -ngl 10 --lora {lora16} -ctk q4_0 -ctv q4_0"),
    (GEMMA_SMALL, "-c 6000 -np 1 -mm {clip896_small}"),
    (GEMMA, "-c 7777 -np 1 -ub 256"),
    ("gemma2-9b", "-c 8192 -np 1 --swa-full -ub 2048 -b 2048"),
    ("gemma3n-e4b", "-c 5000 -np 2 --kv-unified"),
    ("lfm2-1.2b", "-c 9000 -np 3 --no-kv-unified -ub 1024 -b 1024"),
    ("mamba2-2.7b", "-c 4096 -np 8 --no-kv-unified"),
    ("qwen25-7b-q4_0", "-c 20000 -np 2 --no-kv-unified -fa off"),
    ("dsv2-lite-q4_0", "-c 30000 -np 1 -ctk q8_0 -ctv q8_0"),
    (OSS, "-c 20000 -np 5 --kv-unified -ctk q8_0 -ctv q8_0 -ub 1024 -b 1024"),
    (OWN_DRAFTS, f"-c 6144 -np 3 --no-kv-unified {OWN} --spec-draft-n-max 1 -ctkd q8_0 -ctvd q8_0"),
)
"""Flags mixed as people mix them. No figure of the closed form was made to fit these."""

CLIP336 = vision.Encoder(width=1024, inner=4096, blocks=23, heads=16, image=336, patch=14)
CLIP896 = vision.Encoder(width=1152, inner=4304, blocks=27, heads=16, image=896, patch=14)


class Files:
    """The models and what goes with them, each written when it is first wanted, in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._lock = directory, threading.Lock()

    def model(self, name: str) -> Path:
        with self._lock:
            return written(self._directory, name, speaking=True)

    def named(self, flags: str) -> str:
        """The flags with the paths of their files."""
        with self._lock:
            paths = {name: self._beside(name) for name in _NAMES if f"{{{name}}}" in flags}
        return flags.format(**paths) if paths else flags

    def _beside(self, name: str) -> Path:
        path = self._directory / f"{name}.gguf"
        match name:
            case "draft":
                return written(self._directory, DRAFT, speaking=True)
            case "small":
                return written(self._directory, GEMMA_SMALL, speaking=True)
            case "lora64" | "lora16":
                if path.exists():
                    return path
                metadata, tensors = shapes()[LLAMA]
                return synthetic.write(path, *adapting(metadata["general.architecture"], tensors, rank=int(name[4:])))
        encoder = CLIP336 if name == "clip336" else CLIP896
        embedding = _embedding(GEMMA_SMALL if name.endswith("_small") else LLAMA)
        return synthetic.write(path, encoder.metadata(), list(encoder.tensors(embedding, "f16")))


_NAMES = ("clip336", "clip896", "clip896_small", "lora64", "lora16", "draft", "small")


def _embedding(model: str) -> int:
    metadata = shapes()[model][0]
    return int(metadata[f"{metadata['general.architecture']}.embedding_length"])


def estimated(files: Files, row: Mapping[str, Any], build: Build = LATEST) -> Estimate:
    """The estimate of a launch, from its files alone."""
    path = files.model(row["model"])
    arguments = parse(files.named(row["flags"])).resolved(read_model(path).context)
    card = card_of(row["card"], driver=row["driver"]) if row.get("card") else Card()
    return Estimator(build=build).estimate(path, arguments.launch, (card,), arguments.companions)


def steps(port: int, flags: str) -> Iterator[str]:
    """A prompt of each kind that the launch is for, until nothing more is fetched."""
    words = flags.split()
    slot = int(words[1]) // (1 if "--kv-unified" in words else int(words[3]))
    if "--embedding" in words:
        tokens = [300 + 7 * n % 900 for n in range(slot - 64)]
        post(port, "/v1/embeddings", {"input": tokens})
        yield "prompted"
        return
    ask(port, min(2000, slot - 64))
    yield "prompted"
    if "-mm" in words:
        see(port, 896 if "clip896" in flags else 336)
        yield "seen"
    ask(port, min(3500, slot - 64))
    yield "longer"


def see(port: int, side: int) -> None:
    picture = base64.b64encode(vision.picture((255, 0, 0), side)).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    message = {"role": "user", "content": [{"type": "text", "text": "x"}, image]}
    post(port, "/v1/chat/completions", {"messages": [message], "max_tokens": 2})


def post(port: int, path: str, body: Mapping[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
    urllib.request.urlopen(request, timeout=120).close()


def took(row: Mapping[str, Any]) -> int:
    """The most that NVML said of the process."""
    return max(int(row.get(key, 0)) for key in ("loaded", "prompted", "seen", "longer"))


def line(row: Mapping[str, Any], found: Estimate) -> str:
    """Model, flags, and the estimate beside what it took."""
    over, most = found.device - took(row), max(took(row), 1)
    within = "" if abs(over) <= max(64 * MIB, most // 100) else " OUTSIDE"
    return (
        f"{row['model']:20} {row['flags']:88} took {most / MIB:8.0f} est {found.device / MIB:8.0f} "
        f"{over / MIB:+5.0f} MiB {100 * over / most:+5.2f} % ±{found.error / MIB:.0f}{within}"
    )


def _refused(row: Mapping[str, Any]) -> str:
    said = row["said"].strip().splitlines() or [""]
    return f"{row['model']:20} {row['flags']:88} DID NOT START: {said[-1]}"


def measure(out: Path, workers: int, seconds: float) -> None:
    """Append a JSON line for each launch to ``out``; none is begun after so many seconds."""
    gpu, build = Gpu(), probe(find(None)).family
    with tempfile.TemporaryDirectory() as scratch:
        files = Files(Path(scratch))

        def one(number: int, job: tuple[str, str, bool]) -> dict[str, Any]:
            name, flags, held_out = job
            row: dict[str, Any] = {"model": name, "flags": flags, "held_out": held_out}
            try:
                words = files.named(flags).split() + ([] if "-ngl" in flags else ["-ngl", "999"])
                row |= served(gpu, files.model(name), words, 23000 + number, lambda port: steps(port, flags))
                text = line(row, estimated(files, row, build)) if row["ready"] else _refused(row)
            except Exception as error:  # the others go on
                row["failed"] = repr(error)
                text = f"{name:20} {flags:88} FAILED {error!r}"
            print(text, flush=True)
            return row

        each(
            [(*case, False) for case in CASES] + [(*case, True) for case in HELD_OUT],
            one,
            lambda job: files.model(job[0]).stat().st_size,
            out,
            capacity=gpu.capacity,
            workers=workers,
            seconds=seconds,
        )


def recorded() -> list[str]:
    """The rows of a table of what was recorded; empty if nothing was."""
    if not (path := DATA / "h100_beside.jsonl").exists():
        return []
    with tempfile.TemporaryDirectory() as scratch:
        files = Files(Path(scratch))
        lines = ["| model | flags | took MiB | estimate MiB | error |", "|---|---|---:|---:|---:|"]
        for row in map(json.loads, path.read_text().splitlines()):
            found, most = estimated(files, row).device, took(row)
            what = row["flags"].replace("|", "\\|") + (" (held out)" if row["held_out"] else "")
            error = f"{(found - most) / MIB:+.0f} MiB, {100 * (found - most) / most:+.1f} %"
            lines.append(f"| {row['model']} | `{what}` | {most / MIB:.0f} | {found / MIB:.0f} | {error} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="file of JSON lines, which are added")
    parser.add_argument("--workers", type=int, default=3, help="launches at a time")
    parser.add_argument("--seconds", type=float, default=380, help="after which no launch is begun")
    given = parser.parse_args()
    measure(given.out, given.workers, given.seconds)


if __name__ == "__main__":
    main()
