"""The main job on a real NVIDIA GPU with a CUDA llama-server (on PATH). Skipped where there is none.

Run by hand where there is one: pytest tests/gpu -s. The models but SmolLM2 are synthetic:
of real shape, zero weights (tests/synthetic.py).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import synthetic
from gpu.this_gpu import GPU, needs_gpu, nvml
from lmxd_process import Lmxd, ask, lease_from, opened, post

from lmxd.engines.llama_cpp.binary import find, probe
from lmxd.engines.llama_cpp.dry_run import DryRunner
from lmxd.errors import LmxdError
from lmxd.estimate.arguments import parse, words
from lmxd.estimate.files import read_model
from lmxd.gguf.footprint import footprint
from lmxd.rpc.client import Client
from lmxd.rpc.messages import Granted
from lmxd.rpc.notifications import Progress

GIB = 2**30
MIB = 2**20
UNDER = 64 * MIB
"""By how much an estimate may be below what is measured."""

pytestmark = [
    needs_gpu,
    pytest.mark.skipif(shutil.which("llama-server") is None, reason="there is no llama-server on PATH"),
    pytest.mark.timeout(300),
]
Make = Callable[..., Lmxd]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("models")
    for name, make in {
        "llama8b": synthetic.llama_8b,
        "gemma12b": synthetic.gemma3_12b,
        "qwen4b": synthetic.qwen3_4b,
        "moe30b": synthetic.qwen3_30b_a3b,
    }.items():
        synthetic.write(where / f"{name}.gguf", *synthetic.speaking(make()))
    return where


@pytest.fixture
def lmxd(tmp_path: Path, shapes: Path, smollm2: Path) -> Make:
    def make(models: dict[str, Any] | None = None, **sections: Any) -> Lmxd:
        base = {"smollm2": {"path": str(smollm2), "context_length": 2048}}
        return Lmxd(tmp_path, {"model_dir": str(shapes), "models": models or base} | sections)

    return make


@pytest.fixture
def ballast() -> Iterator[Callable[[float], subprocess.Popen[str]]]:
    """Starts a foreign CUDA process that holds some GiB."""
    running: list[subprocess.Popen[str]] = []

    def hold(gib: float) -> subprocess.Popen[str]:
        command = [sys.executable, str(Path(__file__).parent / "ballast.py"), str(gib)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert running[-1].stdout is not None
        assert running[-1].stdout.readline() == "held\n"
        return running[-1]

    yield hold
    for process in running:
        process.kill()
        process.wait()


def memory() -> Any:
    return nvml.nvmlDeviceGetMemoryInfo(GPU, version=nvml.nvmlMemory_v2)


def of_process(pid: int | None) -> int:
    return sum(p.usedGpuMemory for p in nvml.nvmlDeviceGetComputeRunningProcesses(GPU) if p.pid == pid)


def test_devices_says_what_nvml_says(lmxd: Make, ballast: Callable[[float], object]) -> None:
    with lmxd() as running, running.client() as client:
        ballast(5)
        found, real = client.devices().devices[0], memory()
        assert found.id == nvml.nvmlDeviceGetUUID(GPU)
        assert (found.capacity, found.reserved) == (real.total - real.reserved, real.reserved)
        assert found.used == real.used
        assert found.foreign == found.used > 5 * GIB
        assert found.margin == 2 * GIB
        assert found.headroom == found.capacity - found.margin - found.foreign


def test_three_agents_on_a_budget_for_two(lmxd: Make) -> None:
    with lmxd(gpu={"max_memory_gb": 2}) as running, running.client() as one, running.client() as two:
        first, second = one.request("smollm2"), two.request("smollm2")
        assert "Paris" in ask(first)
        assert "Paris" in ask(second)
        for lease in (first, second):
            instance = running.instances()[lease.instance]
            assert 0 < of_process(instance.pid) <= sum(instance.promised.values()) + UNDER
        told: list[Progress] = []
        third: list[Granted] = []
        with running.client() as client:
            waits = threading.Thread(target=lambda: third.append(client.request("smollm2", on_progress=told.append)))
            waits.start()
            running.until(lambda: told)
            assert (told[0].state, told[0].position) == ("queued", 1)
            one.release(first.lease)
            waits.join(60)
            assert "Paris" in ask(third[0])


def test_a_killed_server_is_noticed_within_a_second_and_its_bytes_return(lmxd: Make) -> None:
    with lmxd({"llama8b": {}}) as running, running.client() as client:
        lease = client.request("llama8b")
        before = client.devices().devices[0].headroom
        pid = running.instances()[lease.instance].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        seconds = running.until(lambda: not running.instances(), 5)
        print(f"noticed and reclaimed after {seconds:.2f} s")
        assert client.devices().devices[0].headroom >= before + 5 * GIB


def test_foreign_memory_is_waited_for(lmxd: Make, ballast: Callable[[float], subprocess.Popen[str]]) -> None:
    with lmxd({"llama8b": {}}) as running, running.client() as client:
        other = ballast(memory().free / GIB - 5)
        told: list[Progress] = []
        granted: list[Granted] = []
        waits = threading.Thread(target=lambda: granted.append(client.request("llama8b", on_progress=told.append)))
        waits.start()
        running.until(lambda: told)
        (short,) = told[0].shortfalls
        assert [h.name for h in short.holders] == ["foreign"]
        assert not granted
        other.kill()
        waits.join(60)
        assert granted[0].instance == "llama8b#1"


def test_a_hold_takes_in_a_process_of_anybodys(lmxd: Make, ballast: Callable[[float], subprocess.Popen[str]]) -> None:
    """What a CUDA process takes is charged to its hold, not foreign, and comes back when it has ended."""
    with lmxd({"llama8b": {}}) as running, running.client() as client:
        free = client.devices().devices[0].headroom
        held = client.hold(4 * GIB, name="train", hold="explicit")
        assert held.cuda_visible_devices == nvml.nvmlDeviceGetUUID(GPU)
        process = ballast(6)
        client.adopt(held.lease, process.pid)
        device = client.devices().devices[0]
        taken = of_process(process.pid)
        assert taken > 6 * GIB
        assert (device.charged, device.foreign) == (taken, device.used - taken)
        print(f"held 4 GiB, took {taken / GIB:.2f}; foreign {device.foreign / MIB:.0f} MiB")
        process.kill()
        running.until(lambda: not running.instances(), 10)
        assert abs(client.devices().devices[0].headroom - free) < 64 * MIB


def test_growing_foreign_memory_ends_the_idle_then_asks_the_holder(
    lmxd: Make, ballast: Callable[[float], subprocess.Popen[str]]
) -> None:
    asked: list[dict[str, Any]] = []
    rules = {"grace": 2}
    with lmxd({"llama8b": {}, "qwen4b": {}}, admission_control=rules) as running, running.client() as client:
        client.request("qwen4b").release()
        with Client(running.socket, on_notification=lambda method, params: asked.append(params)) as holder:
            lease = holder.request("llama8b")
            room = client.devices().devices[0].headroom
            first = ballast(room / GIB + 1)
            running.until(lambda: "qwen4b#1" not in running.instances(), 15)
            assert lease.instance in running.instances(), "the idle one was enough"
            second = ballast(client.devices().devices[0].headroom / GIB + 1)
            running.until(lambda: lease.instance not in running.instances(), 20)
            holder.status()  # takes in what was said meanwhile
            assert asked[0]["lease"] == lease.lease
            assert asked[0]["within"] == pytest.approx(2, abs=0.1)
            assert asked[-1]["reason"] == "yielded"
        for process in (first, second):
            process.kill()


def test_a_yield_leaves_a_real_process_its_room(lmxd: Make, ballast: Callable[[float], subprocess.Popen[str]]) -> None:
    pinned = {"pin": True, "preload": True}
    with lmxd({"llama8b": pinned}) as running, running.client() as client:
        running.until(lambda: [i.phase for i in running.instances().values()] == ["ready"], 60)
        room = client.devices().devices[0].headroom
        made = running.json("yield", str(room + GIB), "--for", "1h")
        running.until(lambda: not running.instances(), 15)
        game = ballast((room + GIB) / GIB - 0.5)
        device = client.devices().devices[0]
        assert device.yielded < GIB, "what it took is not kept twice"
        game.kill()
        game.wait()
        assert running.lmxctl("yield", "--end", made["id"]).returncode == 0
        running.until(lambda: [i.phase for i in running.instances().values()] == ["ready"], 60)


def test_memory_that_runs_out_for_real_is_told_apart(lmxd: Make) -> None:
    """A declared figure that is far too low: cudaMalloc fails, and the answer says so."""
    models = {"llama8b": {"context_length": 131072, "slots": 8, "estimated_memory_gb": 1}}
    with lmxd(models) as running, running.client() as client:
        with pytest.raises(LmxdError) as caught:
            client.request("llama8b")
        assert caught.value.code == "launch_failed"
        assert caught.value.data["failure"]["code"] == "out_of_memory"
        print(caught.value.message)
        running.until(lambda: not running.instances())


def test_a_silent_fall_to_the_cpu_is_a_failed_launch(lmxd: Make, tmp_path: Path) -> None:
    """An engine that does not see the GPU loads into RAM and reports success: lmxd does not."""
    blind = tmp_path / "llama-server"
    blind.write_text(f'#!/bin/sh\nexport CUDA_VISIBLE_DEVICES=\nexec {shutil.which("llama-server")} "$@"\n')
    blind.chmod(0o755)
    with lmxd(engine={"path": str(blind)}) as running, running.client() as client:
        with pytest.raises(LmxdError) as caught:
            client.request("smollm2")
        assert caught.value.data["failure"]["code"] == "misplaced"
        print(caught.value.message)


SETTINGS: list[dict[str, Any]] = [
    {"context_length": 4096},
    {"context_length": 8192, "slots": 4},
    {"context_length": 8192, "cache_type_k": "q8_0", "cache_type_v": "q8_0"},
    {"context_length": 8192, "ubatch_size": 2048},
    {"context_length": 8192, "flash_attention": "off"},
    {"context_length": 8192, "gpu_layers": 10},
]


def test_real_use_stays_within_the_promise(lmxd: Make) -> None:
    """Four shapes in six settings, each after a first long prompt: what was promised, to 1 % or 64 MiB."""
    models = {
        f"{shape}-{number}": {"path": f"{shape}.gguf"} | setting
        for shape in ("llama8b", "gemma12b", "qwen4b", "moe30b")
        for number, setting in enumerate(SETTINGS)
    }
    rows, over = [], []
    with lmxd(models) as running, running.client() as client:
        for name, profile in models.items():
            with client.request(name) as lease:
                loaded = of_process(running.instances()[lease.instance].pid)
                post(lease, "/completion", {"prompt": "the cat " * 280, "n_predict": 4})
                instance = running.instances()[lease.instance]
                used, (promised,) = of_process(instance.pid), instance.promised.values()
            rows.append((name, profile, loaded, used, promised))
            filled = "flash_attention" not in profile  # without it a prompt that fills the context takes more
            if used > promised + UNDER or (filled and promised > used + max(UNDER, used // 100)):
                over.append(name)
            running.lmxctl("stop", lease.instance)
            running.until(lambda: not running.instances())
    print(f"\n{'model':12} {'MiB loaded':>11} {'prompted':>9} {'promised':>9} {'error':>7}  settings")
    for name, profile, loaded, used, promised in rows:
        said = " ".join(f"{k}={v}" for k, v in profile.items() if k != "path")
        error = (promised - used) / used
        print(f"{name:12} {loaded / MIB:11.0f} {used / MIB:9.0f} {promised / MIB:9.0f} {error:+7.1%}  {said}")
    assert not over


def test_what_was_observed_is_used_for_an_exact_repeat(lmxd: Make) -> None:
    models = {"llama8b": {"context_length": 4096}, "qwen4b": {"context_length": 4096}}
    with lmxd(models, idle_timeout=5) as running, running.client() as client:
        prior = client.estimate("qwen4b")
        with client.request("llama8b") as lease:
            post(lease, "/completion", {"prompt": "the cat " * 280, "n_predict": 4})
            running.until(lambda: any(o.prompted for o in client.estimates().observed), 30)
            took = of_process(running.instances()[lease.instance].pid)
        learned = client.estimates()
        (seen,), (context,) = learned.observed, learned.contexts
        print(*(f"{n / MIB:.0f} MiB" for n in (context.bytes, seen.loaded, seen.prompted)))
        assert abs(context.bytes - 590 * MIB) < 16 * MIB, "of an H100"
        repeat = client.estimate("llama8b")
        assert repeat.basis == "observed"
        assert abs(repeat.devices[0]["total"] - took) <= 4 * MIB
        assert client.estimate("qwen4b").error <= prior.error


def test_a_dry_run_leaves_the_gpu_alone(shapes: Path) -> None:
    """The CUDA build's own no-alloc pass beside a pretended card: no process, and not a byte, on the real one."""
    runner = DryRunner(probe(find(None)))
    before, seen, done = memory().used, set[int](), threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.update(p.pid for p in nvml.nvmlDeviceGetComputeRunningProcesses(GPU))

    watching = threading.Thread(target=look)
    watching.start()
    for flags in ("-c 8192 -np 1", "-c 8192 -np 1 -fa off", "-c 8192 -np 1 -ngl 10"):
        launch = parse(flags).resolved(0).launch
        said = runner.ask(shapes / "llama8b.gguf", words(launch), 1)
        found = footprint(read_model(shapes / "llama8b.gguf"), launch, 1)
        print(flags, said.devices[0].compute / MIB, found.device.compute / MIB)
        assert said.devices[0].weights == pytest.approx(found.device.weights, abs=2 * MIB)
        assert said.devices[0].compute == pytest.approx(found.device.compute, abs=32 * MIB)
    done.set()
    watching.join()
    assert not seen
    assert memory().used == before


def test_a_storm_of_requests_has_no_memory_error(lmxd: Make) -> None:
    """14 at once for an 8B with 32,768 tokens: without admission 6 of them die. With it, none."""
    with lmxd({"llama8b": {"context_length": 32768}}, admission_control={"queue_depth": 20}) as running:
        granted: list[str] = []
        failed: list[LmxdError] = []

        def agent() -> None:
            with running.client() as client:
                try:
                    with client.request("llama8b") as lease:
                        granted.append(lease.instance)
                        post(lease, "/completion", {"prompt": "the cat " * 100, "n_predict": 4})
                except LmxdError as error:
                    failed.append(error)

        agents = [threading.Thread(target=agent) for _ in range(14)]
        for thread in agents:
            thread.start()
        for thread in agents:
            thread.join(200)
        assert not failed
        assert len(granted) == 14
        print(f"14 of 14 served by {len(set(granted))} instances")


def test_a_killed_client_frees_its_lease_and_an_idle_instance_its_memory(lmxd: Make) -> None:
    with lmxd(idle_timeout=3) as running:
        command = running.command("request", "smollm2", "--hold", "connection")
        client = subprocess.Popen(command, env=running.ctl_env, stdout=subprocess.DEVNULL)
        running.until(lambda: any(i.leases for i in running.instances().values()), 60)
        assert memory().used > 500 * MIB
        client.kill()
        client.wait()
        running.until(lambda: not any(i.leases for i in running.instances().values()), 5)
        running.until(lambda: not running.instances(), 10)
        assert memory().used < 100 * MIB


def books(running: Lmxd) -> list[dict[str, Any]]:
    keys = ("instance", "pid", "endpoint", "socket", "promised", "measured", "charged")
    return [
        {k: i[k] for k in keys} | {"leases": [x["lease"] for x in i["leases"]]} for i in running.json("ps")["instances"]
    ]


def test_a_killed_daemon_is_replaced_without_a_byte_or_a_token_lost(lmxd: Make) -> None:
    """SIGKILL while two instances serve and one of them streams: NVML, the ledger and the stream are as before."""
    models = {"qwen4b": {"context_length": 4096}, "llama8b": {"context_length": 8192}}
    with lmxd(models=models) as running:
        lease, other = running.json("request", "qwen4b"), running.json("request", "llama8b")
        running.until(lambda: all(i["measured"] for i in books(running)))
        lines: list[bytes] = []

        def stream() -> None:
            body = {"prompt": "a b c", "n_predict": 1500, "stream": True, "ignore_eos": True}
            with opened(lease_from(lease), "/completion", body) as answer:
                lines.extend(answer)

        reading = threading.Thread(target=stream)
        reading.start()
        running.until(lambda: len(lines) > 20)
        before, used = books(running), memory().used
        device = running.json("devices")["devices"][0]
        running.process.kill()
        running.process.wait()
        at_death = len(lines)
        running.start()
        after = books(running)
        print(f"\n{len(lines) - at_death} lines streamed while there was no daemon; {before}")
        assert after == before, "the ledger is the same, to the byte"
        assert abs(memory().used - used) < MIB, "but for what the driver keeps for those who ask it"
        found = running.json("devices")["devices"][0]
        assert (found["charged"], found["reclaiming"]) == (device["charged"], device["reclaiming"])
        assert abs(found["headroom"] - device["headroom"]) < MIB
        reading.join(120)
        assert sum(line.startswith(b"data: ") for line in lines) >= 1500
        assert running.json("touch", other["lease"])["lease"] == other["lease"]
        for each in (lease, other):
            assert running.lmxctl("release", each["lease"]).returncode == 0


def test_a_lost_ledger_is_rebuilt_from_what_the_gpu_shows(lmxd: Make) -> None:
    with lmxd(models={"qwen4b": {"context_length": 4096}}) as running:
        running.json("request", "qwen4b")
        running.until(lambda: all(i["measured"] for i in books(running)))
        before = books(running)
        running.process.kill()
        running.process.wait()
        ledger = running.directory / "lmxd.sock.d/state/ledger.db"
        ledger.write_bytes(os.urandom(20_000))
        ledger.with_name("ledger.db-wal").unlink()  # from which SQLite would restore it all
        running.start()
        assert books(running) == [i | {"leases": []} for i in before]
