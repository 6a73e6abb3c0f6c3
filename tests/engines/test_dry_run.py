"""The real llama-server's own no-alloc pass beside pretended GPUs, and what keeps it in its place."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest
import synthetic
from recorded import shape, uncovered

from lmxd.accounts import SystemUser
from lmxd.engines.llama_cpp import dry_run
from lmxd.engines.llama_cpp.binary import Binary, find, probe
from lmxd.engines.llama_cpp.dry_run import DryRunner
from lmxd.errors import LmxdError
from lmxd.estimate.arguments import parse, words
from lmxd.estimate.estimator import Estimator
from lmxd.estimate.files import read_model
from lmxd.estimate.learned import Card
from lmxd.gguf.footprint import footprint
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model

MIB = 2**20


@pytest.fixture(scope="module")
def binary() -> Binary:
    return probe(find(None))


@pytest.fixture(scope="module")
def runner(binary: Binary) -> DryRunner:
    return DryRunner(binary)


def file(directory: Path, name: str) -> Path:
    metadata, tensors = shape(name)
    return synthetic.write(directory / f"{name}.gguf", metadata | {"tokenizer.ggml.model": "none"}, tensors)


@pytest.mark.parametrize("cards", [0, 1, 2])
@pytest.mark.parametrize("flags", ["-c 8192 -np 1", "-c 8192 -np 1 -ctk q8_0 -ctv q8_0", "-c 8192 -np 2 -ub 1024"])
@pytest.mark.parametrize("name", ["llama31-8b-q4_0", "gemma3-4b-q4_0", "qwen3-30b-a3b-q4_0", "mamba-1.4b-q8_0"])
def test_it_agrees_with_the_closed_form(
    binary: Binary, runner: DryRunner, tmp_path: Path, name: str, flags: str, cards: int
) -> None:
    if name.startswith("mamba") and cards > 1:
        pytest.skip("the closed form is unsure there, and says so")
    path = file(tmp_path, name)
    model, launch = read_model(path), parse(flags).resolved(0).launch
    said, found = runner.ask(path, words(launch), cards), _closed(binary, model, launch, cards)
    for (weights, cache, compute), theirs in zip(found, (*said.devices, said.host), strict=True):
        assert theirs.context == pytest.approx(cache, abs=2 * MIB)
        if theirs is not said.host or not cards:
            assert theirs.compute == pytest.approx(compute, abs=20 * MIB)
        if cards and theirs is not said.host:
            assert theirs.weights == pytest.approx(weights, abs=2 * MIB)


def test_it_agrees_where_feed_forward_matrices_stay_in_ram(binary: Binary, runner: DryRunner, tmp_path: Path) -> None:
    path = file(tmp_path, "llama31-8b-q4_0")
    model, launch = read_model(path), parse("-c 8192 -np 1 --n-cpu-ffn 12").resolved(0).launch
    (card, _), said = _closed(binary, model, launch, 1), runner.ask(path, words(launch), 1)
    assert said.devices[0].weights == pytest.approx(card[0], abs=2 * MIB)
    assert said.devices[0].compute == pytest.approx(card[2], abs=20 * MIB)


def _closed(binary: Binary, model: Model, launch: Launch, cards: int) -> list[tuple[int, int, int]]:
    found = footprint(model, launch, cards, binary.family)
    return [(p.weights, p.kv + p.state, p.compute) for p in (*found.devices, found.host)]


def test_an_architecture_without_a_closed_form(runner: DryRunner, tmp_path: Path) -> None:
    """Eight layers of keys and values for 8,192 tokens: only llama-server itself knows it of such a model."""
    metadata, tensors = uncovered()
    path = synthetic.write(tmp_path / "uncovered.gguf", metadata | {"tokenizer.ggml.model": "none"}, tensors)
    try:
        found = Estimator(second=runner).estimate(path, Launch(context=8192), (Card(name="NVIDIA H100 80GB HBM3"),))
    except LmxdError as error:
        if "unknown model architecture" not in str(error) and "could not load the model file" not in str(error):
            raise
        pytest.skip("the wheel for older processors does not know it")
    assert found.basis == "dry-run"
    assert found.parts.device.kv >= 64 * MIB


def test_answers_are_kept_by_file_flags_and_binary(binary: Binary, tmp_path: Path) -> None:
    path, cache = file(tmp_path, "llama32-1b-q8_0"), tmp_path / "cache"
    asked = words(Launch(context=4096))
    first = DryRunner(binary, cache)
    assert first.known(path, asked, 1) is None
    answer = first.ask(path, asked, 1)
    assert first.known(path, asked, 1) is answer
    (kept,) = cache.iterdir()
    kept.write_text(kept.read_text().replace('"compute": ', '"compute": 9'))
    assert DryRunner(binary, cache).ask(path, asked, 1) != answer, "read, not run again"
    kept.write_text("{")
    assert DryRunner(binary, cache).ask(path, asked, 1) == answer, "a damaged entry is no entry"
    os.utime(path, (1, 1))
    assert first.known(path, asked, 1) is None, "the file changed"
    assert first.known(path, words(Launch(context=8192)), 1) is None


def test_a_file_may_be_named_from_where_one_is(
    runner: DryRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file(tmp_path, "llama32-1b-q8_0")
    monkeypatch.chdir(tmp_path)
    assert runner.ask(Path("llama32-1b-q8_0.gguf"), words(Launch(context=4096)), 1).devices[0].weights > 0


def test_what_llama_server_refuses_is_said_and_remembered(runner: DryRunner, tmp_path: Path) -> None:
    metadata, tensors = shape("llama32-1b-q8_0")
    path = synthetic.write(tmp_path / "m.gguf", metadata | {"tokenizer.ggml.model": "none"}, tensors[:-1])
    for _ in range(2):
        with pytest.raises(LmxdError, match=r"llama-server's dry run failed: .*blk.15.ffn_down.weight") as caught:
            runner.ask(path, words(Launch(context=4096)), 1)
        assert caught.value.code == "bad_model_file"


def test_a_dry_run_that_hangs_is_ended(tmp_path: Path) -> None:
    slow = tmp_path / "llama-server"
    slow.write_text("")
    (tmp_path / "libllama-server-impl.so").symlink_to("/dev/zero")
    for name in ("libggml-base.so", "libggml.so"):
        os.mkfifo(tmp_path / name)
    runner = DryRunner(Binary(slow, "11434", frozenset()), timeout=1.0)
    began = time.monotonic()
    with pytest.raises(LmxdError):
        runner.ask(file(tmp_path, "llama32-1b-q8_0"), [], 1)
    assert time.monotonic() - began < 15


def test_a_binary_without_shared_libraries_cannot_be_asked(tmp_path: Path) -> None:
    alone = tmp_path / "llama-server"
    alone.write_text("#!/bin/sh\n")
    alone.chmod(alone.stat().st_mode | stat.S_IEXEC)
    with pytest.raises(LmxdError, match="without shared libraries"):
        DryRunner(Binary(alone, "1", frozenset())).ask(file(tmp_path, "llama32-1b-q8_0"), [], 1)


TAKEN_OVER = r"""
#include <stdio.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/un.h>
int api = 2;
void *ggml_backend_reg_by_name(const char *name) { return &api; }
int llama_server(int argc, char **argv) __asm__("_Z12llama_serveriPPc");
int llama_server(int argc, char **argv) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    char key[4096] = "";
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], "-m")) {
            snprintf(key, sizeof key, "%s.key", argv[i + 1]);
            snprintf(to.sun_path, 107, "%s.sock", argv[i + 1]);
        }
    int read_key = open(key, O_RDONLY), removed = unlink(key);
    int connected = connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&to, sizeof to), child = fork();
    if (!child) for (;;) pause();
    const char *said = "error: invalid argument: key %d, removed %d, connected %d, child %d\n";
    printf(said, read_key, removed, connected, child);
    return 1;
}
"""


def taken_over(tmp_path: Path, code: str) -> Path:
    """A directory with a llama-server whose libraries are made of ``code``."""
    source, directory = tmp_path / "evil.c", tmp_path / "bin"
    source.write_text(code)
    directory.mkdir()
    for name in ("libggml-base.so", "libggml.so", "libllama-server-impl.so"):
        subprocess.run(["cc", "-w", "-shared", "-fPIC", "-o", directory / name, source], check=True, timeout=60)
    (directory / "llama-server").touch()
    return directory


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_llama_server_that_was_taken_over_reaches_nothing(tmp_path: Path) -> None:
    """Run as lmxd runs it, with code in the place of llama-server's that does what a model file made it do."""
    directory = taken_over(tmp_path, TAKEN_OVER)
    path = file(tmp_path, "llama32-1b-q8_0")
    key = Path(f"{path}.key")
    key.write_text("secret")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{path}.sock")
        sock.listen()
        runner = DryRunner(Binary(directory / "llama-server", "11434", frozenset()))
        with pytest.raises(LmxdError, match="key -1, removed -1, connected -1, child -1"):
            runner.ask(path, [], 0)
    assert key.read_text() == "secret"


MAKES_SOCKETS = r"""
    for (long n = 0;; n++) {
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        for (int i = 1; i < argc; i++)
            if (!strcmp(argv[i], "--host")) snprintf(at.sun_path, 107, "%.80s%ld", argv[i + 1], n);
        int s = socket(AF_UNIX, SOCK_STREAM, 0);
        bind(s, (void *)&at, sizeof at);
        close(s);
    }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize(
    ("does", "problem"),
    [
        ('for (;;) printf("%01000d", 1);', "says too much"),
        ('for (;;) puts("ab");', "says too much"),
        ('for (;;) puts("error: invalid argument: x");', "says too much"),
        (MAKES_SOCKETS, "makes too many sockets"),
    ],
)
def test_a_dry_run_that_never_stops_is_ended(tmp_path: Path, does: str, problem: str) -> None:
    directory = taken_over(
        tmp_path,
        "#include <stdio.h>\n#include <string.h>\n#include <unistd.h>\n#include <sys/socket.h>\n#include <sys/un.h>\n"
        "int api = 2;\nvoid *ggml_backend_reg_by_name(const char *name) { return &api; }\n"
        f"int _Z12llama_serveriPPc(int argc, char **argv) {{ {does} }}\n",
    )
    runner = DryRunner(Binary(directory / "llama-server", "11434", frozenset()), timeout=30)
    with pytest.raises(LmxdError, match=problem):
        runner.ask(file(tmp_path, "llama32-1b-q8_0"), [], 0)


def test_of_a_long_dry_run_few_lines_are_kept() -> None:
    figure = "0.01 I sched_reserve:        CPU compute buffer size =   5.00 MiB"
    kept = dry_run.kept([figure, *(f"line {n}" for n in range(50_000)), "the last"])
    assert figure in kept
    assert kept[-1] == "the last"
    assert len(kept) < 1000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as somebody else")
def test_a_user_who_cannot_run_it_is_an_error_and_no_crash(binary: Binary, tmp_path: Path) -> None:
    """As when python, lmxd or the model is in root's own directory."""
    nobody = SystemUser(name="nobody", uid=65534, gid=65534, groups=(), home="/")
    with pytest.raises(LmxdError, match="dry run"):
        DryRunner(binary, account=nobody).ask(file(tmp_path, "llama32-1b-q8_0"), ["-c", "512"], 1)
