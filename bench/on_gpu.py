"""Real launches on a real GPU, for bench/estimator.py: bench/on_gpu.py OUT WORKERS SECONDS

Buffers as printed, the process as NVML has it.

Needs a CUDA llama-server and, for the comparison, llama-fit-params on PATH. Each launch is measured when ready,
after a prompt of 2,000 tokens and after one of 3,500. Several run at a time: NVML tells processes apart.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from shapes import shapes, written

_SILENT = {"falcon-h1-7b", "phi3-mini"}
"""Their shapes do not go with the vocabulary of our own, and cannot be prompted."""

MODELS = [name for name in shapes() if "@" not in name and name not in _SILENT]
SETTINGS = (
    "-c 4096 -np 1",
    "-c 16384 -np 4",
    "-c 8192 -np 1 -ctk q8_0 -ctv q8_0",
    "-c 8192 -np 1 -ctk q4_0 -ctv q4_0",
    "-c 8192 -np 1 -ub 2048 -b 2048",
    "-c 8192 -np 2 -fa off",
    "-c 8192 -np 1 -ngl HALF",
    "-c 8192 -np 1 -ncmoe HALF",
)
BUFFER = re.compile(r"(\S+) +(model|KV|RS|compute|DSV4 \w+ state) buffer size = +([\d.]+) MiB")
FIT = re.compile(r"^(\S+) (\d+) (\d+) (\d+)", re.MULTILINE)
GIB = 2**30
Job = TypeVar("Job")


def launches() -> Iterator[tuple[str, str]]:
    """(model, flags) of everything that is to be measured."""
    for name in MODELS:
        metadata = shapes()[name][0]
        arch = metadata["general.architecture"]
        half, trained = metadata[f"{arch}.block_count"] // 2 + 1, metadata[f"{arch}.context_length"]
        for setting in SETTINGS:
            if "ncmoe" in setting and f"{arch}.expert_count" not in metadata:
                continue
            flags = setting.replace("HALF", str(half))
            size = int(flags.split()[1])
            yield name, flags if size <= trained else flags.replace(f"-c {size}", f"-c {trained}", 1)


class Gpu:
    """The first one."""

    def __init__(self) -> None:
        import pynvml

        self.nvml = pynvml
        pynvml.nvmlInit()
        self.handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        self.name, self.driver = pynvml.nvmlDeviceGetName(self.handle), pynvml.nvmlSystemGetDriverVersion()
        self.capacity = pynvml.nvmlDeviceGetMemoryInfo(self.handle).total

    def used_by(self, pid: int) -> int:
        found = self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle)
        return next((p.usedGpuMemory or 0 for p in found if p.pid == pid), 0)


class Room:
    """Lets as many launches run at a time as the card can hold."""

    def __init__(self, size: int) -> None:
        self.left, self.size, self.changed = size, size, threading.Condition()

    def take(self, n: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.left >= n or self.left == self.size)
            self.left -= n

    def give(self, n: int) -> None:
        with self.changed:
            self.left += n
            self.changed.notify_all()


def each(
    jobs: Sequence[Job],
    row_of: Callable[[int, Job], Mapping[str, Any]],
    size_of: Callable[[Job], int],
    out: Path,
    *,
    capacity: int,
    workers: int,
    seconds: float,
) -> None:
    """Append a JSON line for each job to ``out``: ``row_of`` launches it, given its number.

    As many run at a time as there are workers and as have room on a card of ``capacity`` bytes, by the bytes of their
    files; none is begun after so many seconds.
    """
    until, room, lock = time.monotonic() + seconds, Room(capacity - 2 * GIB), threading.Lock()

    def one(number: int, job: Job) -> None:
        if time.monotonic() > until:
            print(f"{job}: not begun: out of time", flush=True)
            return
        need = min(size_of(job) + 8 * GIB, room.size)
        room.take(need)
        try:
            row = row_of(number, job)
        finally:
            room.give(need)
        with lock:
            file.write(json.dumps(row) + "\n")
            file.flush()

    with out.open("a") as file, ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, range(len(jobs)), jobs))


def measure(out: Path, workers: int, seconds: float, skip: Sequence[tuple[str, str]] = ()) -> None:
    """Append one JSON line for each launch to ``out``, for so many seconds at most."""
    gpu = Gpu()
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: written(Path(scratch), name, speaking=True) for name in MODELS}
        each(
            [job for job in launches() if job not in skip],
            lambda number, job: launch(gpu, files[job[0]], *job, 21000 + number),
            lambda job: files[job[0]].stat().st_size,
            out,
            capacity=gpu.capacity,
            workers=workers,
            seconds=seconds,
        )


def launch(gpu: Gpu, path: Path, name: str, flags: str, port: int) -> dict[str, Any]:
    """One launch and what llama-fit-params says of the same."""
    words = flags.split() + ([] if "-ngl" in flags else ["-ngl", "999"])
    slot = int(words[1]) // int(words[3])

    def prompted(port: int) -> Iterator[str]:
        for key, tokens in (("prompted", 2000), ("longer", 3500)):
            ask(port, min(tokens, slot - 64))
            yield key

    row = {"model": name, "flags": flags, "fit": fit(path, words)}
    return row | served(gpu, path, words, port, prompted)


def served(
    gpu: Gpu, path: Path, words: Sequence[str], port: int, use: Callable[[int], Iterable[str]]
) -> dict[str, Any]:
    """What a server takes when it is ready, and after each step of ``use``, which gives the step's name."""
    row: dict[str, Any] = {"card": gpu.name, "driver": gpu.driver}
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            ["llama-server", "-m", str(path), *words, "--fit", "off", "--port", str(port), "-lv", "4"],
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            row["ready"] = ready(server, port)
            if row["ready"]:
                row["loaded"] = gpu.used_by(server.pid)
                for key in use(port):
                    row[key] = gpu.used_by(server.pid)
        finally:
            server.kill()
            server.wait()
        log.seek(0)
        text = log.read()
    row["buffers"] = buffers(text)
    if not row["ready"]:
        row["said"] = text[-300:]
    return row


def fit(path: Path, words: Sequence[str]) -> int | None:
    """MiB on the device by llama-fit-params; None if there is none, or it fails."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["llama-fit-params", "-m", str(path), *words, "-fitp", "on"], capture_output=True, text=True, timeout=60
        )
        return sum(sum(map(int, m.groups()[1:])) for m in FIT.finditer(done.stdout) if m[1] == "CUDA0") or None
    return None


def buffers(text: str) -> dict[str, float]:
    """MiB by place and kind, as printed; of a compute buffer that was reserved twice the last."""
    found: dict[str, float] = {}
    for place, kind, size in BUFFER.findall(text):
        key = f"{place}.{'RS' if kind.startswith('DSV4') else kind}"
        found[key] = float(size) if kind == "compute" else round(found.get(key, 0.0) + float(size), 2)
    return found


def ready(server: subprocess.Popen[Any], port: int) -> bool:
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            if answer.status == 200:
                return True
        time.sleep(0.05)
    return False


def ask(port: int, tokens: int) -> None:
    body = json.dumps({"prompt": [300 + 7 * n % 900 for n in range(tokens)], "n_predict": 4, "cache_prompt": False})
    request = urllib.request.Request(f"http://127.0.0.1:{port}/completion", body.encode())
    urllib.request.urlopen(request, timeout=120).close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="file of JSON lines; what it has is not measured again")
    parser.add_argument("workers", type=int, help="launches at a time")
    parser.add_argument("seconds", type=float, help="after which no launch is begun")
    given = parser.parse_args()
    known = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = [(row["model"], row["flags"]) for row in known]
    measure(given.out, given.workers, given.seconds, skip=done)


if __name__ == "__main__":
    main()
