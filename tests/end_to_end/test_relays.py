"""The relay that ``lmxctl run`` has for a program with an elastic lease: what others see of it, and what is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from forked import Forked
from house import fake_engine, model
from lmxd_process import Lmxd

PEEK = """
printf '%s\\n' "$OPENAI_API_KEY" "$LMXD_ENDPOINT_SOCKET" "$(stat -c %a "${LMXD_ENDPOINT_SOCKET%/*}")"
tr '\\0' ' ' < /proc/$PPID/cmdline; env | grep -ce "$OPENAI_API_KEY"
"""


def elastic(directory: Path, env: dict[str, str] | None = None) -> Lmxd:
    """``m`` grows from 512 to 2,048 tokens."""
    model(directory, "m", counts=True)
    profile = {"context_length": 2048, "estimated_memory_gb": 0.1, "elastic": {"start": 512}}
    config = {"gpu": {"device": "host", "max_memory_gb": 2}, "engine": {"path": str(fake_engine(directory))}}
    return Lmxd(directory, config | {"model_dir": str(directory), "models": {"m": profile}}, env)


def test_a_relay_is_for_its_program_alone_and_goes_with_it(tmp_path: Path) -> None:
    places = {"XDG_RUNTIME_DIR": "", "TMPDIR": str(tmp_path / "t")}
    (tmp_path / "t").mkdir()
    with elastic(tmp_path, places) as lmxd:
        done = lmxd.lmxctl("run", "m", "--json", "--", "sh", "-c", PEEK)
        assert done.returncode == 0, done.stderr
        key, socket, mode, argv = done.stdout.splitlines()[:4]
        assert (mode, key in argv, key in done.stderr, key in lmxd.log.read_text()) == ("700", False, False, False)
        assert json.loads(done.stderr)["api_key"] != key
        assert not list((tmp_path / "t").glob("lmxd-run-*"))
        assert socket.startswith(places["TMPDIR"])
        long = tmp_path / ("t" * 80)
        long.mkdir()
        lmxd.env["TMPDIR"] = str(long)
        done = lmxd.lmxctl("run", "m", "--", "true")
        assert done.returncode == 78
        assert "TMPDIR" in done.stderr
        lmxd.until(lambda: not any(i.leases for i in lmxd.instances().values()))


ASK = """
import http.client, json, os, socket, sys

class Over(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["LMXD_ENDPOINT_SOCKET"])

for line in sys.stdin:
    connection = Over("localhost", timeout=60)
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
    connection.request("POST", "/completion", json.dumps({"prompt": "a" * int(line), "n_predict": 1}), headers)
    answer = connection.getresponse()
    print(answer.status, json.loads(answer.read())["timings"]["cache_n"], flush=True)
"""


def test_a_program_goes_on_though_lmxd_is_started_again(tmp_path: Path) -> None:
    """Before its lease grows, and after."""
    with elastic(tmp_path) as lmxd:
        running = Forked(
            lmxd.command("run", "m", "--", sys.executable, "-c", ASK),
            env=lmxd.ctl_env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert running.stdin is not None
        assert running.stdout is not None
        answers = []
        for prompt in (300, 700, 900, 1500):
            running.stdin.write(f"{prompt}\n")
            running.stdin.flush()
            answers.append(running.stdout.readline().split())
            lmxd.stop(signal.SIGTERM)
            lmxd.start()
        running.stdin.close()
        assert running.wait(30) == 0
        assert answers == [["200", "0"], ["200", "300"], ["200", "700"], ["200", "900"]]
        lmxd.until(lambda: not any(i.leases for i in lmxd.instances().values()))
