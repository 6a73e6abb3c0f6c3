"""The main job on a real llama-server with a real model, judged as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import synthetic
from forked import Forked
from lmxd_process import Lmxd, ask, get_over, lease_from, post

from lmxd.engines.llama_cpp.binary import find
from lmxd.errors import LmxdError
from lmxd.rpc.client import Client
from lmxd.rpc.messages import Granted
from lmxd.rpc.notifications import Progress

Make = Callable[..., Lmxd]


def test_three_agents_on_a_budget_for_two(lmxd: Make) -> None:
    """Two answers from real servers; the third waits with its position and is served when one is released."""
    with lmxd() as running, running.client() as one, running.client() as two:
        leases: dict[str, Granted] = {}

        def agent(name: str, client: Client) -> None:
            leases[name] = client.request("smollm2")

        agents = [threading.Thread(target=agent, args=x) for x in (("one", one), ("two", two))]
        for thread in agents:
            thread.start()
        for thread in agents:
            thread.join(60)
        assert {leases["one"].instance, leases["two"].instance} == {"smollm2#1", "smollm2#2"}
        assert "Paris" in ask(leases["one"])
        assert "Paris" in ask(leases["two"])

        told: list[Progress] = []
        third: list[Granted] = []
        with running.client() as client:
            waits = threading.Thread(target=lambda: third.append(client.request("smollm2", on_progress=told.append)))
            waits.start()
            running.until(lambda: told)
            assert (told[0].state, told[0].position) == ("queued", 1)
            assert {h.name for h in told[0].shortfalls[0].holders} >= {"smollm2#1", "smollm2#2"}
            one.release(leases["one"].lease)
            waits.join(60)
            assert "Paris" in ask(third[0])


def test_a_killed_client_frees_its_lease(lmxd: Make) -> None:
    with lmxd() as running:
        client = Forked(
            running.command("request", "smollm2", "--hold", "connection"),
            env=running.ctl_env,
            stdout=subprocess.DEVNULL,
        )
        running.until(lambda: any(i.leases for i in running.instances().values()))
        client.kill()
        client.wait()
        running.until(lambda: not any(i.leases for i in running.instances().values()))


def test_a_killed_server_is_noticed_and_its_bytes_return(lmxd: Make) -> None:
    with lmxd() as running, running.client() as client:
        lease = client.request("smollm2")
        full = client.devices().devices[0].charged
        assert full > 100 * 2**20
        pid = running.instances()[lease.instance].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        running.until(lambda: not running.instances())
        assert client.devices().devices[0].charged == 0
        with pytest.raises(LmxdError) as caught:
            client.renew(lease.lease)
        assert caught.value.data["reason"] == "instance_exited"


def test_an_idle_instance_is_reaped(lmxd: Make) -> None:
    with lmxd(idle_timeout=3) as running, running.client() as client:
        lease = client.request("smollm2")
        pid = running.instances()[lease.instance].pid
        begun = time.monotonic()
        running.until(lambda: not running.instances())
        assert time.monotonic() - begun > 2.5
        assert not Path(f"/proc/{pid}").exists()


def test_a_stream_is_never_cut_by_the_idle_timeout(lmxd: Make, few_layers: Path) -> None:
    with lmxd(profile={"path": str(few_layers)}, idle_timeout=0.2) as running, running.client() as client:
        lease = client.request("smollm2")
        body = {"prompt": "Once upon a time", "n_predict": 500, "ignore_eos": True}
        begun = time.monotonic()
        answer = post(lease, "/completion", body)
        assert answer["tokens_predicted"] == 500
        assert time.monotonic() - begun > 0.3, "longer than the timeout, or this shows nothing"


def test_a_model_of_ten_times_the_ram_is_refused_at_once(lmxd: Make, tmp_path: Path) -> None:
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    layers = 10 * ram // (3 * 16384 * 53248 * 2) + 1
    parts = synthetic.decoder(
        "llama", layers=layers, embedding=16384, heads=128, kv_heads=8, feed_forward=53248, vocabulary=128256, head=128,
        kind="f16",
    )  # fmt: skip
    giant = synthetic.write(tmp_path / "giant.gguf", *parts)
    with lmxd(models={"giant": {"path": str(giant)}}, gpu={"device": "host"}) as running, running.client() as client:
        client.models()
        with pytest.raises(LmxdError) as caught:
            client.request("giant")
        assert caught.value.code == "never_fits"
        (short,) = caught.value.data["shortfalls"]
        assert short["need"] > 10 * ram > short["ceiling"]
        assert not running.instances()


def test_real_use_stays_within_the_promise(lmxd: Make, few_layers: Path) -> None:
    """Long prompts on a real server: its resident size never exceeds what was promised, and is close to it."""
    with lmxd(profile={"path": str(few_layers)}) as running, running.client() as client:
        lease = client.request("smollm2")
        for number in range(2):
            post(lease, "/completion", {"prompt": f"{number} word" * 800, "n_predict": 16})
        instance = running.instances()[lease.instance]
        assert instance.charged == instance.promised
        status = Path(f"/proc/{instance.pid}/status").read_text()
        resident = int(status.split("VmRSS:")[1].split()[0]) * 1024
        assert 0.75 * instance.promised["host"] < resident <= instance.promised["host"]


@pytest.mark.parametrize(
    ("damage", "code"),
    [({"path": "cut.gguf"}, "bad_model_file"), ({"path": "bad.gguf", "estimated_memory_gb": 0.2}, "launch_failed")],
)
def test_a_bad_model_is_told_apart(
    lmxd: Make, tmp_path: Path, smollm2: Path, damage: dict[str, object], code: str
) -> None:
    (tmp_path / "cut.gguf").write_bytes(smollm2.read_bytes()[: 50 * 2**20])
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(1000))
    with lmxd(models={"broken": damage}, model_dir=str(tmp_path)) as running, running.client() as client:
        with pytest.raises(LmxdError) as caught:
            client.request("broken")
        assert caught.value.code == code
        if code == "launch_failed":
            assert caught.value.data["failure"]["code"] == "bad_model"
            assert caught.value.data["failure"]["log"]
        running.until(lambda: not running.instances())


def test_memory_that_runs_out_for_real_is_told_apart(lmxd: Make, tmp_path: Path) -> None:
    """A declared figure that is far too low: the load fails, by the real server under a real limit of memory."""
    with lmxd(
        engine={"path": str(_with_little_memory(tmp_path))},
        profile={"slots": 16, "context_length": 8192, "estimated_memory_gb": 0.4},
    ) as running:
        done = running.lmxctl("request", "smollm2")
        assert done.returncode == 70
        assert "out_of_memory" in done.stderr
        assert "failed to allocate" in done.stderr


def _with_little_memory(directory: Path) -> Path:
    """A real llama-server in 1.5 GB of address space, started again until its last words are in the log.

    A thread of its own writes its log: one crash in twenty takes the lines along that say why.
    """
    engine = directory / "llama-server"
    engine.write_text(
        f"""#!/bin/sh
ulimit -v 1500000
for attempt in 1 2 3 4 5 6 7 8; do
    "{find(None)}" "$@" > "{directory}/said" 2>&1
    status=$?
    grep -q "failed to allocate" "{directory}/said" && break
done
cat "{directory}/said"
exit $status
"""
    )
    engine.chmod(0o755)
    return engine


def test_a_unix_endpoint_on_the_real_server(lmxd: Make) -> None:
    with lmxd() as running:
        lease = lease_from(running.json("request", "smollm2"))
        assert Path(lease.socket).stat().st_mode & 0o777 == 0o600
        assert "smollm2" in get_over(lease.socket, "/v1/models", lease.api_key)


def test_a_tcp_endpoint_on_the_real_server(lmxd: Make) -> None:
    with lmxd(profile={"endpoint": "tcp"}) as running:
        lease = lease_from(running.json("request", "smollm2"))
        assert lease.socket is None
        assert lease.endpoint.startswith("http://127.0.0.1:")
        assert "Paris" in ask(lease)
        assert "unset LMXD_ENDPOINT_SOCKET" in running.lmxctl("request", "--shell", "smollm2").stdout


def test_an_openai_client_speaks_to_a_lease_itself(lmxd: Make) -> None:
    with lmxd() as running, running.client() as client, client.request("smollm2") as lease:
        direct = httpx2.Client(transport=httpx2.HTTPTransport(uds=lease.socket))
        with openai.OpenAI(base_url=lease.base_url, api_key=lease.api_key, http_client=direct) as spoken:
            assert [model.id for model in spoken.models.list()] == ["smollm2"]


def test_a_client_that_overlooks_the_socket_tells_its_key_to_nobody(lmxd: Make) -> None:
    """Its URL names no host that there could be, and not whoever listens on port 80."""
    with lmxd() as running, running.client() as client, client.request("smollm2") as lease:
        spoken = openai.OpenAI(base_url=lease.base_url, api_key=lease.api_key, max_retries=0)
        with spoken, pytest.raises(openai.APIConnectionError):
            spoken.models.list()


def test_three_agents_on_one_model_take_the_weights_once(lmxd: Make) -> None:
    """Three leases at once cause one start and share one real server, each with a slot and an answer of its own."""
    with lmxd(profile={"slots": 3}) as running:
        leases: list[Granted] = []
        answers: list[str] = []

        def agent() -> None:
            with running.client() as client, client.request("smollm2") as lease:
                leases.append(lease)
                answers.append(ask(lease))

        agents = [threading.Thread(target=agent) for _ in range(3)]
        for thread in agents:
            thread.start()
        for thread in agents:
            thread.join(60)
        assert {lease.instance for lease in leases} == {"smollm2#1"}
        assert len(answers) == 3
        assert all("Paris" in answer for answer in answers)
        assert list(running.instances()) == ["smollm2#1"]


def test_a_prompt_outlives_a_swap(lmxd: Make, few_layers: Path) -> None:
    """An evicted instance's prompt cache comes back with it: the real server processes one token of it again."""
    one = {"path": str(few_layers), "context_length": 2048, "estimated_memory_gb": 0.4}
    sections = {
        "models": {"kept": one | {"suspend": True}, "other": one},
        "engine": {"prompt_cache_gb": 1},
    }
    body = {"prompt": "word " * 400, "n_predict": 1, "cache_prompt": True}
    with lmxd(**sections) as running, running.client() as client:
        processed = []
        for _ in range(2):
            with client.request("kept") as lease:
                processed.append(post(lease, "/completion", body)["timings"]["prompt_n"])
            client.request("other").release()
        assert processed[0] >= 400
        assert processed[1] <= 2
        explained = running.lmxctl("explain", "kept#1").stdout
        assert "evicted" in explained


def does_nothing(lease: Any, path: str, name: str) -> bool:
    """Whether a save or a restore is refused; builds before 10092 say of a save that it wrote no byte."""
    try:
        return bool(post(lease, path, {"filename": name})["n_written"] == 0)
    except AssertionError as error:
        return "error" in str(error)


def test_clients_of_a_real_server_can_do_nothing_with_slots(lmxd: Make, few_layers: Path) -> None:
    """Neither write files by its save, nor read others' prompts by its restore, whatever they still have in memory."""
    one = {"path": str(few_layers), "context_length": 2048, "estimated_memory_gb": 0.4, "slots": 2}
    sections = {"models": {"kept": one | {"suspend": True}, "other": one}, "engine": {"prompt_cache_gb": 1}}
    with lmxd(**sections) as running, running.client() as client:
        there = running.socket.with_name(running.socket.name + ".d") / "state" / "prompts"
        for life in range(2):
            lease = client.request("kept")
            before = sorted(there.rglob("*"))
            post(lease, "/completion", {"prompt": "word " * 200, "n_predict": 1, "cache_prompt": True})
            for path in ("/slots/0", "/%73lots/0", "/slots/%30", "/slots/0/", "/slots/1"):
                for action in ("save", "restore"):
                    for name in ("slot-0.bin", "slot-1.bin", "x" * 100):
                        assert does_nothing(lease, f"{path}?action={action}", name)
            assert sorted(there.rglob("*")) == before, "not a byte more"
            assert bool(before) is bool(life)
            lease.release()
            client.request("other").release()
            running.until(lambda: "kept#" not in str(running.instances()))
        kept = {path.name for path in there.rglob("*") if path.is_file()}
        assert kept == {"complete", "slot-0.bin", "slot-1.bin"}


def test_holds_plans_and_yields_from_the_shell(lmxd: Make) -> None:
    with lmxd() as running:
        held = running.lmxctl("hold", "100M", "--name", "train", "--", "sh", "-c", "echo $LMXD_HOLD_BYTES; exit 3")
        assert (held.returncode, held.stdout) == (3, f"{100 * 2**20}\n")
        running.until(lambda: not running.instances())
        assert running.lmxctl("plan", "smollm2").returncode == 0
        assert running.json("plan", "smollm2")["outcome"] == "start"
        made = running.json("yield", "23G", "--for", "1h")
        refused = running.lmxctl("plan", "smollm2")
        assert refused.returncode == 75
        assert "yielded" in refused.stdout
        assert "kept free for others" in running.lmxctl("why", "host").stdout
        assert running.lmxctl("yield", "--end", made["id"]).returncode == 0
        assert running.lmxctl("plan", "smollm2").returncode == 0
        for words in (["hold", "9X", "--", "true"], ["yield"], ["yield", "1G", "--for", "soon"], ["explain", "l-0"]):
            assert running.lmxctl(*words).returncode == 64, words
