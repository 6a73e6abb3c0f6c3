"""The estimator against llama-server itself.

bench/estimator.py recorded   what bench/data holds: 2,700 loads of over 140 architectures, and an H100
bench/estimator.py cpu [N]    real loads in RAM, here and now, of generated files of many architectures, or of N
bench/estimator.py card       the same on this machine's GPU, of the architectures that were compared in RAM alone
bench/estimator.py builds [PATH ...]   builds of llama-server beside each other, in RAM (bench/builds.py)
bench/estimator.py gpu OUT    real launches on this machine's GPU beside llama-fit-params (bench/on_gpu.py)
bench/estimator.py beside OUT real launches with files beside the model and flags of placement (bench/beside.py)
bench/estimator.py speed      microseconds of an estimate
bench/estimator.py show       docs/accuracy.md, from what was recorded; ``write`` to write it
"""

from __future__ import annotations

import io
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import beside
import synthetic
from accuracy import Error, drafting, errors, gpu_summary, gpu_table, in_buffers, on_h100, page, table
from builds import matrix
from loading import lines_of_load
from on_gpu import buffers, measure
from recorded import named
from shapes import shapes, written

from lmxd.engines.llama_cpp.binary import find, probe
from lmxd.engines.llama_cpp.repack import repacked_types
from lmxd.estimate.estimator import Estimator
from lmxd.estimate.files import read_model
from lmxd.estimate.footprints import ONLY_IN_RAM, estimate
from lmxd.estimate.learned import Card
from lmxd.gguf.facts import Unsupported
from lmxd.gguf.header import HeaderError, read_header
from lmxd.gguf.launch import Launch

MIB = 2**20
ACCURACY = Path(__file__).parent.parent / "docs/accuracy.md"
CPU_SETTINGS = (
    "-c 4096 -np 1",
    "-c 4096",
    "-c 4096 -np 2 -ctk q8_0 -ctv q8_0",
    "-c 4096 -np 1 -fa off",
    "-c 4096 -np 1 -ub 1024",
)


def here(names: list[str], cards: int) -> list[Error]:
    """Real loads by the llama-server of this machine, in RAM or on its first card. The worst of each model is told."""
    binary = probe(find(None))
    build = binary.family
    print(f"{binary.path}: {binary.version}, taken to be of family {build.first}")
    found: list[Error] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            path, began = written(Path(scratch), name), len(found)
            for flags in CPU_SETTINGS:
                try:
                    if printed := load(binary.path, path, flags, cards):
                        row = {"cards": cards, "flags": flags, "buffers": printed}
                        found += errors(name, row, repacked_types(), build)
                except Unsupported:
                    continue
            path.unlink()
            worst = max(found[began:], key=lambda error: abs(error.over), default=None)
            said = "did not load" if worst is None else f"{worst.over:+.1f} MiB of {worst.part} ({worst.what})"
            print(f"{name:24} {said}", flush=True)
    return found


def small() -> list[str]:
    return [name for name in shapes() if name.endswith("@small")]


def load(server: Path, path: Path, flags: str, cards: int) -> dict[str, float]:
    """The buffers that a server prints; nothing if it does not start."""
    device = ["-ngl", "999"] if cards else ["-dev", "none"]
    words = [str(server), "-m", str(path), *flags.split(), *device, "-lv", "4", "--no-warmup", "--port", "0"]
    text = "".join(lines_of_load([*words, "--fit", "off"]))
    return buffers(text) if "compute buffer size" in text else {}


def speed() -> None:
    metadata, tensors = synthetic.speaking(synthetic.gemma3_12b())
    with tempfile.TemporaryDirectory() as scratch:
        path, launch, cards = (
            synthetic.write(Path(scratch) / "m.gguf", metadata, tensors),
            Launch(context=8192),
            (Card(),),
        )
        began = time.perf_counter()
        Estimator().estimate(path, launch, cards)
        print(f"cold, vocabulary of 262,208: {1e3 * (time.perf_counter() - began):.1f} ms")
        known, rounds = read_model(path), 500
        runs: dict[str, Callable[[Launch], object]] = {
            "warm, closed form": lambda wanted: estimate(known, wanted, cards),
            "warm, with the look at the file": lambda wanted: Estimator().estimate(path, wanted, cards),
        }
        for what, run in runs.items():
            began = time.perf_counter()
            for n in range(rounds):
                run(Launch(context=4096 + 256 * n))
            print(f"{what}: {1e6 * (time.perf_counter() - began) / rounds:.0f} us")


def hostile() -> None:
    """How long headers that no real file has keep the reader busy."""
    string = struct.pack("<Q", 0)
    tensor = b"".join(struct.pack("<Q", 6) + b"%06d" % n + struct.pack("<IQIQ", 1, 1, 0, 0) for n in range(16_000))
    key = b"".join(struct.pack("<Q", 6) + b"%06d" % n + struct.pack("<II", 4, 1) for n in range(8_000))
    start = b"GGUF" + struct.pack("<I", 3)
    strings = start + struct.pack("<QQQ", 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 8, 999_000) + string * 999_000
    for what, data in (
        ("999,000 strings", strings),
        ("16,000 tensors", start + struct.pack("<QQ", 16_000, 0) + tensor),
        ("8,000 keys and 10,000 tensors", start + struct.pack("<QQ", 10_000, 8_000) + key + tensor),
    ):
        began = time.perf_counter()
        with suppress(HeaderError):
            read_header(io.BytesIO(data), len(data))
        print(f"a hostile header of {what}: {1e3 * (time.perf_counter() - began):.0f} ms")


def main() -> None:
    match sys.argv[1:]:
        case ["recorded"]:
            loads = [*in_buffers(), *drafting()]
            print("\n".join([*table(loads), "", *gpu_summary(on_h100()), "", *gpu_table(on_h100())]))
        case ["cpu"]:
            print("\n".join(table(here(small(), 0))))
        case ["cpu", count]:
            print("\n".join(table(here(small()[: int(count)], 0))))
        case ["builds", *paths]:
            for line in matrix([Path(path) for path in paths]):
                print(line, flush=True)
        case ["card"]:
            print("\n".join(table(here([name for name in small() if named(name).arch in ONLY_IN_RAM], 1))))
        case ["beside", out]:
            beside.measure(Path(out), workers=3, seconds=380)
        case ["gpu", out]:
            measure(Path(out), workers=4, seconds=540)
        case ["speed"]:
            speed()
            hostile()
        case ["show"]:
            sys.stdout.write(page())
        case ["write"]:
            ACCURACY.write_text(page())
        case _:
            print(__doc__)


if __name__ == "__main__":
    main()
