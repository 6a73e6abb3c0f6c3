"""lmxctl ask and chat, and a script that fails when its lease is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from forked import Forked
from lmxd_process import Lmxd, opened
from waiting import wait_until

Make = Callable[..., Lmxd]


def test_a_question_is_answered_by_a_real_model_and_the_lease_is_released(lmxd: Make) -> None:
    with lmxd() as running:
        said = running.lmxctl("ask", "smollm2", "Say", "hello", "--max-tokens", "8")
        assert said.returncode == 0, said.stderr
        assert said.stdout.strip()
        assert said.stderr == "", "the speed is for a terminal"
        assert [len(i.leases) for i in running.instances().values()] == [0]
        piped = running.lmxctl("ask", "smollm2", "--max-tokens", "8", "--system", "Be brief", input="Say hello")
        assert piped.stdout.strip()
        found = running.json("ask", "smollm2", "Say hello", "--max-tokens", "8")
        assert found["answer"].strip()
        assert 0 < found["usage"]["completion_tokens"] <= 8
        assert found["timings"]["predicted_per_second"] > 0


def test_a_chat_keeps_what_was_said_in_mind_and_its_lease_while_it_lasts(lmxd: Make) -> None:
    with lmxd(profile={"engine_flags": ["--temp", "0"]}) as running:
        one = running.lmxctl("chat", "smollm2", "--max-tokens", "8", input="Say hello\n\nnot asked\n")
        assert one.returncode == 0, one.stderr
        two = running.lmxctl("chat", "smollm2", "--max-tokens", "8", input="Say hello\nAgain\n")
        assert two.returncode == 0, two.stderr
        assert two.stdout.startswith(one.stdout)
        alone = running.lmxctl("ask", "smollm2", "--max-tokens", "8", "Again")
        assert two.stdout.removeprefix(one.stdout).strip() not in ("", alone.stdout.strip())
        assert [len(i.leases) for i in running.instances().values()] == [0]


def test_what_cannot_be_asked_says_why(fake: Make) -> None:
    with fake() as running:
        assert running.lmxctl("ask", "none", "x").returncode == 64
        assert "there is no question" in running.lmxctl("ask", "m", input=" \n").stderr
        assert running.lmxctl("ask", "m", "x", "--max-tokens", "3").stdout == "xxx\n"


def test_an_engine_that_breaks_off_or_answers_nonsense_is_told(fake: Make) -> None:
    with fake() as running, running.client() as client:
        for raw, why in (
            (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 27\r\n\r\n" + b'{"error":{"message":"no\x1b"}}', "no"),
            (b"HTTP/1.1 200 OK\r\n\r\ndata: {\n\n", "no JSON"),
            (b'HTTP/1.1 200 OK\r\n\r\ndata: {"error": "spent"}\n\n', "spent"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata", "IncompleteRead"),
            (b"nonsense\r\n\r\n", "nonsense"),
        ):
            with client.request("m") as lease, opened(lease, "/fake/answer", raw) as answer:
                answer.read()
            done = running.lmxctl("ask", "m", "x")
            assert done.returncode == 70, (raw, done.stdout, done.stderr)
            assert why in done.stderr, (raw, done.stderr)
            assert "\x1b" not in done.stderr


def test_a_script_ends_when_its_lease_is_refused(fake: Make) -> None:
    script = 'set -e; eval "$(lmxctl request --shell {0} --no-wait)"; echo "at $OPENAI_BASE_URL"'
    with fake() as running:
        run = ["sh", "-c", script.format("none")]
        done = subprocess.run(run, env=running.ctl_env, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (64, "")
        run = ["sh", "-c", script.format("m")]
        done = subprocess.run(run, env=running.ctl_env, capture_output=True, text=True, timeout=60)
        assert done.stdout.startswith("at http")


def test_a_script_ends_when_it_asks_wrongly(fake: Make) -> None:
    with fake() as running:
        env = running.ctl_env | {"OPENAI_BASE_URL": "of an earlier lease"}
        for options in ("--ctx many m", "--wait", "--none m", "m n", ""):
            script = f'set -e; eval "$(lmxctl request --shell {options})"; echo "at $OPENAI_BASE_URL"'
            done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stdout) == (64, ""), (options, done.stderr)


def test_a_script_ends_when_its_request_is_ended(fake: Make) -> None:
    """As by ``timeout 60 lmxctl request --shell m``."""
    with fake() as running, running.client() as client:
        client.hold(800 * 2**20)
        asking = Forked(
            [sys.executable, "-m", "lmxd.cli.main", "request", "--shell", "m"],
            env=running.ctl_env,
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: client.queue().tickets)
        asking.terminate()
        told, _ = asking.communicate(timeout=60)
        assert (told, asking.returncode) == ("(exit 143)\n", 143)
        wait_until(lambda: not client.queue().tickets)
