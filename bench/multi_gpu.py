"""Two real GPUs: where models go, what a split one takes of each card, what loads at once, and a storm over both.

bench/multi_gpu.py [--json FILE]: needs two NVIDIA GPUs and a CUDA llama-server on PATH. Models have the shapes of
well-known ones and zero weights. Every line ends with what was seen; what was not as it should be is marked with !,
and the exit status is 1 then. Beside each split stands llama-server's own: `--fit on`, which is its default, on the
same model and context.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "bench"))

import storm  # noqa: E402
from lmxd_process import Lmxd  # noqa: E402
from shapes import written  # noqa: E402

from lmxd.engines.environment import environment  # noqa: E402
from lmxd.engines.llama_cpp.binary import find  # noqa: E402
from lmxd.instances.proc import tree  # noqa: E402
from lmxd.rpc.client import Client  # noqa: E402

GIB, MIB = 2**30, 2**20
WITHIN = 0.02
FLOOR = 128 * MIB
SPLITS = (
    # shape, tokens, GiB that lmxd may use of each card: less than the model takes
    ("llama31-70b", 8192, 30),
    ("llama31-70b", 32768, 40),
    ("qwen3-30b-a3b-q4_0", 32768, 14),
    ("gpt-oss-20b", 16384, 9),
    ("gemma3-12b-q4_0", 16384, 7),
    ("llama31-8b-q4_0", 32768, 6),
)


class Cards:
    """What NVML says."""

    def __init__(self) -> None:
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        self.handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(count)]
        self.ids = [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in self.handles]
        self.name = str(pynvml.nvmlDeviceGetName(self.handles[0])) if self.handles else "none"
        self.capacity = int(pynvml.nvmlDeviceGetMemoryInfo(self.handles[0]).total) if self.handles else 0

    def used(self) -> list[int]:
        memory = (self._nvml.nvmlDeviceGetMemoryInfo(h, version=self._nvml.nvmlMemory_v2) for h in self.handles)
        return [int(m.used) for m in memory]

    def of(self, pid: int) -> list[int]:
        """Bytes that a process and its children have of each card."""
        pids = tree(pid)
        found = []
        for handle in self.handles:
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            found.append(sum(p.usedGpuMemory or 0 for p in running if p.pid in pids))
        return found

    def settle(self) -> None:
        """Wait until what ended is gone."""
        deadline = time.monotonic() + 20
        while max(self.used()) > 2 * GIB and time.monotonic() < deadline:
            time.sleep(0.2)


class Findings:
    """What is printed, and whether it was as it should be."""

    def __init__(self) -> None:
        self.wrong = 0
        self.rows: dict[str, Any] = {}

    def say(self, text: str, as_it_should: bool) -> None:
        self.wrong += not as_it_should
        print(f"  {' ' if as_it_should else '!'} {text}", flush=True)


@contextmanager
def daemon(models: dict[str, Any], limit: float | None = None, **more: Any) -> Iterator[tuple[Lmxd, Client]]:
    gpu = {} if limit is None else {"max_memory_gb": limit, "margin_gb": 1}
    config: dict[str, Any] = {"gpu": gpu, "admission_control": {"queue_depth": 100}, "models": models} | more
    config["engine"] = {"endpoint": "tcp"} | config.get("engine", {})
    with tempfile.TemporaryDirectory() as place, Lmxd(Path(place), config) as lmxd, lmxd.client() as client:
        yield lmxd, client


@contextmanager
def foreign(card: str, gib: float) -> Iterator[None]:
    """A CUDA process that is not lmxd's."""
    command = [sys.executable, str(ROOT / "tests/gpu/ballast.py"), str(gib)]
    env = os.environ | {"CUDA_VISIBLE_DEVICES": card}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield
    finally:
        process.kill()
        process.wait()


def profile(place: Path, shape: str, tokens: int, **more: Any) -> dict[str, Any]:
    return {"path": str(written(place, shape, speaking=True)), "context_length": tokens} | more


def mib(sizes: list[int]) -> str:
    return " + ".join(f"{size / MIB:,.0f}" for size in sizes) + " MiB"


def placement(place: Path, cards: Cards, found: Findings) -> None:
    print("\nOne card is enough")
    small, large = profile(place, "llama31-8b-q4_0", 8192), profile(place, "llama31-70b", 8192)
    with daemon({"small": small, "large": large}) as (_, client), ExitStack() as stack:
        first = stack.enter_context(client.request("small")).devices
        found.say(f"both empty: the small one goes to card {index(cards, first)}", len(first) == 1)
        with foreign(cards.ids[index(cards, first)], 45):
            where = stack.enter_context(client.request("large")).devices
            other = 1 - index(cards, first)
            text = f"a foreign process takes 45 GiB of card {index(cards, first)}: the large one goes to card "
            found.say(f"{text}{index(cards, where)}, the emptier", list(where) == [cards.ids[other]])
    cards.settle()
    with daemon({"small": small}) as (_, client), foreign(cards.ids[0], 74), ExitStack() as stack:
        where = stack.enter_context(client.request("small")).devices
        text = (
            f"a foreign process fills card 0: the small one, which would go there, goes to card {index(cards, where)}"
        )
        found.say(text, list(where) == [cards.ids[1]])
    cards.settle()
    with daemon({"small": small}) as (_, client), foreign(cards.ids[1], 60), ExitStack() as stack:
        where = stack.enter_context(client.request("small")).devices
        text = "a foreign process leaves 17 GiB of card 1: the small one is packed there, and card 0 stays whole"
        found.say(text, list(where) == [cards.ids[1]])
    cards.settle()


def index(cards: Cards, devices: dict[str, int]) -> int:
    return cards.ids.index(next(iter(devices)))


def splits(place: Path, cards: Cards, found: Findings) -> None:
    print("\nMore than either card may give: divided over both")
    found.rows["splits"] = []
    for shape, tokens, limit in SPLITS:
        with daemon({"m": profile(place, shape, tokens)}, limit) as (_, client), client.request("m"):
            [instance] = client.instances().instances
            assert instance.pid is not None
            words = Path(f"/proc/{instance.pid}/cmdline").read_text().split("\0")
            split = words[words.index("-ts") + 1] if "-ts" in words else "none"
            promised, taken = [instance.promised.get(id, 0) for id in cards.ids], cards.of(instance.pid)
            prompted(instance)
            taken = [max(a, b) for a, b in zip(taken, cards.of(instance.pid), strict=True)]
        cards.settle()
        own = by_itself(place, shape, tokens, cards)
        cards.settle()
        near = all(abs(p - t) <= max(FLOOR, WITHIN * t) for p, t in zip(promised, taken, strict=True))
        inside = all(t <= limit * GIB for t in taken)
        name = f"{shape}, {tokens} tokens, {limit} GiB a card"
        found.say(f"{name}: split {split}", split != "none" and len([p for p in promised if p]) == 2)
        found.say(f"    promised {mib(promised)}, taken {mib(taken)}", near and inside)
        print(f"        llama-server's own, --fit on: {mib(own)}")
        found.rows["splits"].append(
            {"shape": shape, "tokens": tokens, "limit": limit, "split": split}
            | {"promised": promised, "taken": taken, "own": own}
        )


def prompted(instance: Any) -> None:
    """A prompt of 2,000 tokens: what CUDA takes with the first one belongs to the footprint."""
    words = Path(f"/proc/{instance.pid}/cmdline").read_text().split("\0")
    key = Path(words[words.index("--api-key-file") + 1]).read_text().strip()
    body = json.dumps({"prompt": [5] * 2000, "n_predict": 2}).encode()
    request = urllib.request.Request(
        f"{instance.endpoint}/completion", body, {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=120).read()


def by_itself(place: Path, shape: str, tokens: int, cards: Cards) -> list[int]:
    """What llama-server takes of each card where nobody tells it how to divide."""
    path = written(place, shape, speaking=True)
    words = ["-m", str(path), "-c", str(tokens), "-np", "1", "--port", "21500", "--fit", "on"]
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it lives as long as its server)
    server = subprocess.Popen([str(find(None)), *words], env=environment(), stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and server.poll() is None:
            log.seek(0)
            if "listening on" in log.read():
                return cards.of(server.pid)
            time.sleep(0.2)
        return [0 for _ in cards.ids]
    finally:
        server.kill()
        server.wait()


def loading(place: Path, cards: Cards, found: Findings) -> None:
    print("\nLaunches")
    models = {name: profile(place, "qwen3-30b-a3b-q4_0", 4096, batch_size=batch) for name, batch in BATCHES}
    with daemon(models, 22) as (lmxd, _):
        spans = started_at_once(lmxd, list(models)[:2])
        text = f"two models, one to a card: from {spans[0]} and from {spans[1]}"
        found.say(f"{text}: at once", spans[0].overlaps(spans[1]) and spans[0].device != spans[1].device)
    cards.settle()
    with daemon(models, 45) as (lmxd, client):
        client.hold(44 * GIB, device=cards.ids[1])
        spans = started_at_once(lmxd, list(models)[:2])
        text = f"two models, both to card {cards.ids.index(spans[0].device)}: from {spans[0]} and from {spans[1]}"
        found.say(f"{text}: at once", spans[0].overlaps(spans[1]) and spans[0].device == spans[1].device)
    cards.settle()


BATCHES = (("one", 2048), ("two", 1024))


class Span:
    """From the start of an instance's process to its readiness, in seconds of the system's clock."""

    def __init__(self, begun: float, ended: float, device: str, origin: float) -> None:
        self.begun, self.ended, self.device, self._origin = begun, ended, device, origin

    def overlaps(self, other: Span) -> bool:
        return self.begun < other.ended - 0.05 and other.begun < self.ended - 0.05

    def __str__(self) -> str:
        return f"{self.begun - self._origin:.1f} s to {self.ended - self._origin:.1f} s"


def started_at_once(lmxd: Lmxd, models: list[str]) -> list[Span]:
    origin = time.clock_gettime(time.CLOCK_BOOTTIME)

    def one(name: str) -> Span:
        with lmxd.client() as client, client.request(name) as lease:
            ended = time.clock_gettime(time.CLOCK_BOOTTIME)
            [mine] = [i for i in client.instances().instances if i.instance == lease.instance]
            fields = Path(f"/proc/{mine.pid}/stat").read_text().rpartition(")")[2].split()
            begun = int(fields[19]) / os.sysconf("SC_CLK_TCK")
            return Span(begun, ended, next(iter(lease.devices)), origin)

    with ThreadPoolExecutor(len(models)) as pool:
        return sorted(pool.map(one, models), key=lambda span: span.begun)


def held_entirely(place: Path, cards: Cards, found: Findings) -> None:
    print("\nOne card is held entirely, the other too full")
    with daemon({"m": profile(place, "llama31-70b", 8192, split=False)}) as (lmxd, client), foreign(cards.ids[0], 50):
        room = next(d for d in client.devices().devices if d.id == cards.ids[1]).headroom
        client.hold(room - GIB, device=cards.ids[1], name="training")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: lmxd.lmxctl("request", "m", "--wait", "4"))
            Lmxd.until(lambda: client.queue().tickets, 20)
            [ticket] = client.queue().tickets
            for s in ticket.shortfalls:
                holders = ", ".join(f"{h.name} {h.bytes / GIB:.1f} GiB" for h in s.holders)
                text = f"card {cards.ids.index(s.device)}: needs {s.need / GIB:.1f} GiB, has {max(0, s.have) / GIB:.1f}"
                found.say(f"{text}; held by {holders}", bool(s.holders))
            names = {h.name.partition("#")[0] for s in ticket.shortfalls for h in s.holders}
            found.say(
                f"both cards are named, and by whom: {', '.join(sorted(names))}", names == {"training", "foreign"}
            )
            done = waiting.result()
            found.say(f"exit status {done.returncode}: {done.stderr.splitlines()[0]}", done.returncode == 75)
    cards.settle()


def over_both(place: Path, cards: Cards, found: Findings) -> None:
    print("\nA storm of 40 mixed requests over both cards, 45 GiB of each")
    models = storm.profiles(place, on_gpu=True)
    models["large"] = profile(place, "llama31-70b", 16384)
    with daemon(models, 45) as (lmxd, client):
        before = time.monotonic()
        outcomes, waits, wrong = storm.storm(lmxd, list(models), 40, 1)
        took, log = time.monotonic() - before, lmxd.log.read_text()
        ooms = log.count("out of memory")
        found.say(f"{ooms} out of memory, {len(wrong)} without a good reason, {took:.1f} s", not ooms and not wrong)
        found.say(", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())), outcomes["served"] > 0)
        waits.sort()
        print(f"      waited p50 {waits[len(waits) // 2]:.1f} s, p99 {waits[len(waits) * 99 // 100]:.1f} s")
        found.say(
            f"{client.status().broken_invariants or 'no'} broken invariants", not client.status().broken_invariants
        )
        for line in wrong:
            print(f"    ! {line}")
    cards.settle()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures of the splits there")
    parser.add_argument("--only", help="parts to run, by name, with commas between")
    given = parser.parse_args()
    try:
        cards = Cards()
    except Exception as error:
        sys.exit(f"two NVIDIA GPUs are needed: {error}")
    if len(cards.ids) < 2:
        sys.exit(f"two NVIDIA GPUs are needed, here is {len(cards.ids)}")
    print(f"{len(cards.ids)} x {cards.name}")
    found = Findings()
    parts: dict[str, Callable[[Path, Cards, Findings], None]] = {
        "placement": placement,
        "splits": splits,
        "loading": loading,
        "held": held_entirely,
        "storm": over_both,
    }
    with tempfile.TemporaryDirectory() as place:
        for name, part in parts.items():
            if given.only is None or name in given.only.split(","):
                part(Path(place), cards, found)
    if given.json is not None:
        given.json.write_text(json.dumps({"card": cards.name, **found.rows}, indent=1))
    sys.exit(bool(found.wrong))


if __name__ == "__main__":
    main()
