"""Builds of llama-server beside each other: ``bench/estimator.py builds [PATH ...]``.

Each loads generated files in RAM, with the very command line that lmxd would start it with. The estimate is printed
beside the engine's own figures, and beside its dry run where the build has one.
"""

from __future__ import annotations

import re
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from loading import lines_of_load
from on_gpu import buffers
from shapes import written

from lmxd.engines.engine import Plan
from lmxd.engines.llama_cpp.binary import Binary, here, probe
from lmxd.engines.llama_cpp.command import command
from lmxd.engines.llama_cpp.dry_run import DryRunner
from lmxd.engines.llama_cpp.repack import repacked_types
from lmxd.errors import LmxdError
from lmxd.estimate.arguments import parse, words
from lmxd.estimate.files import read_model
from lmxd.gguf.footprint import footprint
from lmxd.gguf.launch import Launch

MIB = 2**20
WIDTH = 80
OUTPUT = re.compile(r"output buffer size = +([\d.]+) MiB")
LAUNCHES = (
    ("llama", "-c 4096 -np 1"),
    ("llama", "-c 16384 -np 2 -ctk q8_0 -ctv q8_0"),
    ("llama", "-c 4096 -np 4 -kvu -ub 1024 -fa off"),
    ("llama", "-c 4096 -np 1 --no-mmap --no-repack"),
    ("gemma3", "-c 8192 -np 2"),
    ("gemma4", "-c 4096 -np 1"),
    ("qwen3moe", "-c 4096 -np 1"),
    ("qwen3next", "-c 4096 -np 2"),
    ("mamba2", "-c 4096 -np 1"),
    ("bert", "-c 512 -np 1 -ub 512 --embedding"),
)
"""Architectures of bench/shapes.py, and flags."""


def matrix(paths: Sequence[Path]) -> Iterator[str]:
    """The lines of the table: of the builds at ``paths``, else of those that are installed."""
    builds = [probe(path.absolute()) for path in paths] or [probe(path) for path in here()]
    every = frozenset[str]().union(*(build.flags for build in builds))
    with tempfile.TemporaryDirectory(prefix="lmxd-builds-") as scratch:
        for build in builds:
            yield from _head(build, every)
            yield from (_row(build, Path(scratch), name, flags) for name, flags in LAUNCHES)
            yield ""


def _head(build: Binary, every: frozenset[str]) -> Iterator[str]:
    family, strange = build.family, ", ".join(build.strange) or "none"
    yield f"llama-server {build.version}"
    yield from textwrap.wrap(
        f"at {build.path}", WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )
    known = "known" if family.known else "not known: its dry run is asked"
    yield f"  taken to be of family {family.first}, {known}"
    missing = ", ".join(sorted(flag for flag in every - build.flags if flag.startswith("--"))) or "none"
    for what, flags in (("flags that others here have", missing), ("flags that lmxd does not know", strange)):
        yield from textwrap.wrap(f"{what}: {flags}", WIDTH, initial_indent="  ", subsequent_indent="    ",
                                 break_on_hyphens=False)  # fmt: skip
    yield f"  {'MiB':<43}{'estimate':>9}{'engine':>9}{'off':>8}{'dry run':>9}"


def _row(build: Binary, scratch: Path, name: str, flags: str) -> str:
    path = written(scratch, f"{name}@small")
    model = read_model(path)
    launch = parse(flags, repacked_types()).resolved(model.context).launch
    host = footprint(model, launch, 0, build.family).host
    estimate = (host.weights + host.kv + host.state + host.compute) / MIB
    engine = loaded(build, path, launch, flags, scratch)
    figures = f"{engine:>9.1f}{estimate - engine:>+8.1f}" if engine else f"{'fails':>9}{'':>8}"
    return f"  {f'{name} {flags}':<43.43}{estimate:>9.1f}{figures}{_rehearsed(build, path, launch):>9}"


def loaded(build: Binary, path: Path, launch: Launch, flags: str, scratch: Path) -> float:
    """MiB of the buffers that a server prints when it has loaded a model as lmxd starts it; 0 if it does not start."""
    plan = Plan(
        instance="b", profile="b", model=path, launch=launch, threads=1, gpus=(), endpoint="unix", home=scratch,
        flags=(*(flag for flag in ("--embedding", "--no-mmap") if flag in flags), "--no-warmup"),
    )  # fmt: skip
    made = command(build, plan)
    said = "".join(lines_of_load(made.argv, made.env))
    made.address.key_file.unlink(missing_ok=True)
    printed = buffers(said)
    outputs = sum(map(float, OUTPUT.findall(said)))
    return sum(printed.values()) + outputs if any(key.endswith(".compute") for key in printed) else 0.0


def _rehearsed(build: Binary, path: Path, launch: Launch) -> str:
    """MiB by its dry run; a dash if it makes none."""
    try:
        host = DryRunner(build).ask(path, words(launch), 0).host
    except LmxdError:
        return "-"
    return f"{(host.weights + host.context + host.compute) / MIB:.0f}"
