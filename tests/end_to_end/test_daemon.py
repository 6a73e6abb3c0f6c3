"""The daemon as a service: start, reload, drain, restart after a crash, systemd's protocols, metrics."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import synthetic
import yaml
from forked import Forked
from lmxd_process import Lmxd, get_over, post
from recorded import uncovered

Make = Callable[..., Lmxd]


def lmxd_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lmxd", *words], capture_output=True, text=True, timeout=30)


def test_sigint_drains_cleanly(lmxd: Make) -> None:
    with lmxd() as running, running.client() as client:
        lease = client.request("smollm2")
        pid = running.instances()[lease.instance].pid
        assert running.stop() == 0
        assert not Path(f"/proc/{pid}").exists()
        assert not running.socket.exists()
        assert list((running.directory / "lmxd.sock.d").glob("*.key")) == []


def test_who_waits_is_told_that_it_is_draining(fake: Make) -> None:
    with fake() as running, running.client() as client:
        leases = [client.request("m") for _ in range(3)]
        waits = Forked(running.command("request", "m"), env=running.ctl_env, stderr=subprocess.PIPE, text=True)
        running.until(lambda: running.json("queue")["tickets"])
        assert running.stop() == 0
        assert "lmxd is draining" in waits.communicate(timeout=20)[1]
        assert waits.returncode == 75
        ended = [client.receive()["params"]["reason"] for _ in leases]
        assert ended == ["draining"] * 3


def test_a_second_daemon_on_the_same_place_is_refused(fake: Make) -> None:
    with fake() as running:
        again = lmxd_command("--config", str(running.config_path), "--socket", str(running.socket))
        assert again.returncode == 78
        assert "another lmxd runs in" in again.stderr
        assert running.answers(), "and does not disturb the first"


def test_a_second_daemon_on_the_same_state_is_refused(fake: Make, tmp_path: Path) -> None:
    """Though it listens elsewhere: it would take the first one's models for its own."""
    made = fake()
    daemons = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
        env = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path / name), "XDG_STATE_HOME": str(tmp_path / "state")}
        command = [sys.executable, "-m", "lmxd", "--user", "--config", str(made.config_path)]
        daemons.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
        if name == "one":
            Lmxd.until((tmp_path / "one/lmxd.sock").exists)
    first, second = daemons
    assert second.wait(20) == 78
    assert second.stderr is not None
    assert "another lmxd runs in" in second.stderr.read()
    assert first.poll() is None
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=20)
    assert first.returncode == 0


def test_reload_by_signal_and_by_command(fake: Make) -> None:
    with fake() as running:
        config = yaml.safe_load(running.config_path.read_text())
        running.configure(config | {"admission_control": {"queue_depth": 9}})
        running.process.send_signal(signal.SIGHUP)
        running.until(lambda: running.json("status")["queue_depth"] == 9)
        running.configure(config | {"models": {}})
        assert running.lmxctl("reload").returncode == 0
        assert running.json("models")["models"] == []


def test_a_bad_file_keeps_the_old_configuration_and_says_why(fake: Make) -> None:
    with fake() as running, running.client() as client:
        client.request("m")
        running.config_path.write_text("models: {m: {contxt_length: 7}}")
        done = running.lmxctl("reload")
        assert done.returncode == 78
        assert "models.m.contxt_length: unknown key; did you mean context_length?" in done.stderr
        assert [x["model"] for x in running.json("models")["models"]] == ["m"]
        running.process.send_signal(signal.SIGHUP)
        running.until(lambda: "the configuration in force stays" in running.log.read_text())
        assert running.instances()["m#1"].leases


def test_a_reload_with_other_settings_does_not_reuse_an_old_instance(fake: Make) -> None:
    with fake() as running, running.client() as client:
        client.request("m").release()
        config = yaml.safe_load(running.config_path.read_text())
        config["models"]["m"]["cache_type_k"] = "q8_0"
        running.configure(config)
        assert running.lmxctl("reload").returncode == 0
        assert client.request("m").instance == "m#2"


def test_starting_with_a_bad_configuration_exits_78(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("gpu: {devise: 0}")
    done = lmxd_command("--config", str(tmp_path / "c.yaml"), "--socket", str(tmp_path / "s"))
    assert done.returncode == 78
    assert "gpu.devise: unknown key; did you mean device?" in done.stderr
    done = lmxd_command("--config", str(tmp_path / "none.yaml"), "--socket", str(tmp_path / "s"))
    assert done.returncode == 78
    assert "No such file" in done.stderr
    long = tmp_path / ("x" * 120)
    (tmp_path / "c.yaml").write_text("")
    done = lmxd_command("--config", str(tmp_path / "c.yaml"), "--socket", str(long))
    assert done.returncode == 78
    assert "longer than 107 bytes" in done.stderr


def test_check_config(tmp_path: Path, smollm2: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"gpu: {{device: host}}\nmodels: {{s: {{path: {smollm2}}}}}")
    good = lmxd_command("check-config", "--config", str(path))
    assert (good.returncode, good.stderr) == (0, "")
    assert "ok, 1 model" in good.stdout
    path.write_text(f"gpu: {{device: host}}\nmodels: {{s: {{path: {smollm2}, estimated_memory_gb: 0.1}}}}")
    low = lmxd_command("--config", str(path), "check-config")
    assert low.returncode == 0
    assert re.search(r"models\.s\.estimated_memory_gb is 0\.1, but the estimator finds 0\.\d\d GiB", low.stderr)
    path.write_text("modles: {}")
    bad = lmxd_command("check-config", "--config", str(path))
    assert bad.returncode == 78
    assert "modles: unknown key; did you mean models?" in bad.stderr


def test_user_mode_keeps_to_the_users_directories(fake: Make, tmp_path: Path) -> None:
    made = fake()
    env = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "XDG_STATE_HOME": str(tmp_path / "state")}
    (tmp_path / "run").mkdir(mode=0o700)
    command = [sys.executable, "-m", "lmxd", "--user", "--config", str(made.config_path)]
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        Lmxd.until((tmp_path / "run/lmxd.sock").exists)
        found = subprocess.run(made.command("request", "m"), env=env, capture_output=True, text=True, timeout=30)
        assert found.returncode == 0, found.stderr
        assert (tmp_path / "state/lmxd/log/m#1.log").exists()
        assert (tmp_path / "run/lmxd.sock").stat().st_mode & 0o777 == 0o600
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_a_user_who_has_configured_nothing_yet_has_a_daemon_and_gives_it_models_later(fake: Make) -> None:
    """With the umask of Debian and Ubuntu, and without the directory that a login makes."""
    made = fake()
    with tempfile.TemporaryDirectory() as home:  # of a short name, as homes have
        env = {k: v for k, v in os.environ.items() if not k.startswith("XDG_") and k != "LMXD_SOCKET"} | {"HOME": home}

        def lmxctl(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(made.command(*words), env=env, capture_output=True, text=True, timeout=60)

        process = subprocess.Popen(
            [sys.executable, "-m", "lmxd", "--user"], env=env, umask=0o002, stderr=subprocess.PIPE
        )
        try:
            Lmxd.until(lambda: lmxctl("status").returncode == 0)
            assert json.loads(lmxctl("models", "--json").stdout)["models"] == []
            path = Path(home) / ".config/lmxd/config.yaml"
            path.parent.mkdir(parents=True)
            shutil.copy(made.config_path, path)
            assert lmxctl("reload").returncode == 0
            assert lmxctl("request", "m").returncode == 0
        finally:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "there is no" in (text := said.decode())
        assert str(path) in text


def test_systemd_is_told_and_the_watchdog_fed(fake: Make, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        said: list[str] = []

        def until(word: str) -> None:
            while not any(word in x for x in said):
                said.append(manager.recv(4096).decode())

        with fake({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}) as running:
            until("READY=1")
            until("WATCHDOG=1")
            running.lmxctl("request", "m")
            until("STATUS=1 running")
            running.process.send_signal(signal.SIGHUP)
            until("RELOADING=1\nMONOTONIC_USEC=")
        until("STOPPING=1")


def test_socket_activation(fake: Make, tmp_path: Path) -> None:
    """Requests that come before the daemon is up are answered by it."""
    made = fake()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(tmp_path / "activated.sock"))
    listening.listen()
    early = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    early.connect(str(tmp_path / "activated.sock"))
    early.sendall(b'{"jsonrpc":"2.0","id":1,"method":"hello"}\n')
    start = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
        "os.execv(sys.executable, [sys.executable, '-m', 'lmxd', *sys.argv[2:]])"
    )
    command = [
        sys.executable,
        "-c",
        start,
        str(listening.fileno()),
        "--config",
        str(made.config_path),
        "--socket",
        str(tmp_path / "s"),
    ]
    process = subprocess.Popen(
        command, env=os.environ | {"LISTEN_FDS": "1"}, pass_fds=[listening.fileno()], stderr=subprocess.DEVNULL
    )
    try:
        early.settimeout(20)
        assert b'"protocol":"1.0"' in early.recv(4096)
    finally:
        early.close()
        listening.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_metrics(fake: Make, tmp_path: Path, kind: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listen = f"127.0.0.1:{port}" if kind == "tcp" else f"unix:{tmp_path}/metrics.sock"
    with fake(metrics={"listen": listen}) as running:
        with running.client() as client:
            client.request("m").release()
        if kind == "tcp":
            with urllib.request.urlopen(f"http://{listen}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        else:
            text = get_over(f"{tmp_path}/metrics.sock", "/metrics")
        for line in (
            'lmxd_decisions_total{model="m",result="granted"} 1.0',
            'lmxd_instances{phase="ready"} 1.0',
            "lmxd_leases 0.0",
            "lmxd_queue_length 0.0",
            'lmxd_leases_ended_total{reason="released"} 1.0',
            'lmxd_launch_seconds_count{model="m"} 1.0',
            'lmxd_wait_seconds_count{result="granted"} 1.0',
            'lmxd_device_available{device="host"} 1.0',
        ):
            assert line in text, text
        assert re.search(r'lmxd_device_bytes\{class="headroom",device="host"\} [\d.e+]+', text)


def test_a_metrics_port_that_is_taken_exits_78(fake: Make, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        made = fake(metrics={"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        done = lmxd_command("--config", str(made.config_path), "--socket", str(made.socket))
    assert done.returncode == 78
    assert "metrics.listen 127.0.0.1" in done.stderr


def test_what_a_long_prompt_takes_is_observed(tmp_path: Path, smollm2: Path) -> None:
    """Its resident size is noted when it is ready, and again when a whole micro-batch has gone through it."""
    models = {"smollm2": {"path": str(smollm2), "context_length": 2048}}
    with Lmxd(tmp_path, {"gpu": {"device": "host"}, "models": models, "idle_timeout": 5}) as running:
        with running.client() as client, client.request("smollm2") as lease:
            post(lease, "/completion", {"prompt": "the cat " * 300, "n_predict": 1})
            running.until(lambda: any(o["prompted"] for o in running.json("estimates")["observed"]))
        (seen,) = running.json("estimates")["observed"]
        assert (seen["card"], seen["count"]) == ("RAM", 1)
        assert 0 < seen["loaded"] <= seen["prompted"] <= seen["predicted"] + 100 * 2**20
        assert seen["buffers"] > 130 * 2**20


def test_a_model_that_only_the_engine_knows_is_admitted_by_its_dry_run(tmp_path: Path) -> None:
    """No formula here has it: llama-server itself is asked."""
    metadata, tensors = synthetic.speaking(uncovered())
    synthetic.write(tmp_path / "uncovered.gguf", metadata, tensors)
    models = {"uncovered": {"path": str(tmp_path / "uncovered.gguf"), "context_length": 2048}}
    with Lmxd(tmp_path, {"gpu": {"device": "host"}, "models": models}) as running:
        said = running.lmxctl("estimate", "uncovered", "--json")
        if "unknown model architecture" in said.stdout + said.stderr:
            pytest.skip("the wheel for older processors does not know it")
        found = json.loads(said.stdout)
        assert found["basis"] == "dry-run"
        assert found["host"]["kv"] > 10 * 2**20
        assert any("does not cover qwen3tts" in note for note in found["notes"])
        assert running.json("models")["models"][0]["bytes"]["host"] == found["host"]["total"]
