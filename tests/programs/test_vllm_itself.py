"""vLLM itself, for the CPU, under lmxd: in turn with llama-server, its failures, and what is left of it."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from gateway_process import Gateway
from hf_directory import LLAMA, hf_directory, llama_tensors
from lmxd_process import Lmxd, ask
from programs.conftest import VENVS

from lmxd.errors import LmxdError
from lmxd.instances import proc

pytestmark = pytest.mark.timeout(900)
ROOM = {"device": "host", "max_memory_gb": 2.2, "margin_gb": 0}
"""For one of the two."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What vLLM keeps from start to start."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory with a short path: vLLM binds Unix sockets with long names below."""
    with tempfile.TemporaryDirectory(prefix="lmxd") as path:
        yield Path(path)


@pytest.fixture
def config(tmp_path: Path, cache: Path) -> Callable[..., dict[str, Any]]:
    """A configuration with a vLLM called v; ``changes``: of its profile."""

    def made(**changes: Any) -> dict[str, Any]:
        path = tmp_path / "llama"
        if not path.exists():
            hf_directory(path, LLAMA, llama_tensors())
        program = Path(str(VENVS)).absolute() / "vllm/bin/vllm"
        profile = {"engine": "vllm", "program": str(program), "path": str(path), "context_length": 4096, "slots": 2}
        profile |= {"flags": ["--enforce-eager"]} | changes
        engine = {"load_timeout": 300, "environment": {"XDG_CACHE_HOME": str(cache)}}
        return {"gpu": ROOM, "engine": engine, "models": {"v": profile}}

    return made


def left_behind(directory: Path, shared: set[str]) -> list[str]:
    """Processes that write to logs there, sockets, and shared memory that was not there before."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    engines = [f"{pid}" for pid in pids if writes_to(pid).startswith(str(directory))]
    sockets = [str(path) for path in directory.glob("**/*") if path.is_socket()]
    return [*engines, *sockets, *(name for name in os.listdir("/dev/shm") if name not in shared)]


def writes_to(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/1")
    except OSError:
        return ""


def test_both_kinds_are_served_in_turn_where_one_has_room(
    tmp_path: Path, smollm2: Path, config: Callable[..., dict[str, Any]]
) -> None:
    whole = config()
    whole["models"]["g"] = {"path": str(smollm2), "context_length": 2048, "estimated_memory_gb": 1}
    messages: Any = [{"role": "user", "content": "hello"}]
    with (
        Lmxd(tmp_path, whole) as lmxd,
        Gateway(lmxd, wait=300) as gateway,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, timeout=400) as client,
    ):
        for name in ("v", "g", "v"):
            answer = client.chat.completions.create(model=name, messages=messages, max_tokens=8)
            assert answer.model == name
            assert answer.choices[0].message.content
            chunks = list(client.chat.completions.create(model=name, messages=messages, max_tokens=8, stream=True))
            assert {chunk.model for chunk in chunks} == {name}
            assert [x.model for x in lmxd.instances().values()] == [name]


def test_five_starts_are_promised_the_same(tmp_path: Path, config: Callable[..., dict[str, Any]]) -> None:
    promised, said = [], []
    with Lmxd(tmp_path, config()) as lmxd, lmxd.client() as client:
        for _ in range(5):
            lease = client.request("v")
            ask(lease, tokens=4)
            (instance,) = lmxd.instances().values()
            promised.append(instance.promised["host"])
            said += re.findall(
                r"KV cache size: ([\d,]+) tokens", "\n".join(client.logs(instance.instance, lines=1000).lines)
            )
            assert instance.measured["host"] <= instance.promised["host"] * 1.03
            client.stop(instance.instance)
            lmxd.until(lambda: not lmxd.instances(), 60)
    assert len(set(promised)) == 1
    assert len(set(said)) == 1
    assert int(said[0].replace(",", "")) >= 2 * 4096


def cut_off(path: Path) -> None:
    (weights,) = path.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])


def without_tokenizer(path: Path) -> None:
    for file in path.glob("tokenizer*"):
        file.unlink()


def of_nobody(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"architectures": ["NobodysForCausalLM"]}))


UNKNOWN_PARSER = ["--tool-call-parser", "nobodys", "--enable-auto-tool-choice"]
BROKEN: list[tuple[str, Callable[[Path], object], dict[str, Any], str]] = [
    ("no directory", shutil.rmtree, {}, "model_file_missing"),
    ("no weights", lambda path: next(path.glob("*.safetensors")).unlink(), {}, "model_file_missing"),
    ("cut off", cut_off, {}, "bad_model_file"),
    ("no tokenizer", without_tokenizer, {}, "bad_model"),
    ("an architecture of nobody", of_nobody, {"estimated_memory_gb": 1.8}, "bad_model"),
    ("a context beyond", lambda path: None, {"context_length": 99_999}, "invalid_params"),
    (
        "a parser of nobody",
        lambda path: None,
        {"flags": ["--tool-call-parser", "x", "--enable-auto-tool-choice"]},
        "bad_flag",
    ),
    ("more than there is", lambda path: None, {"kv_tokens": 2**30}, "never_fits"),
    ("sleep without a GPU", lambda path: None, {"sleep": True}, "bad_flag"),
    ("no program", lambda path: None, {"program": "/nowhere/vllm"}, "engine_missing"),
]


@pytest.mark.parametrize(("breaks", "changes", "code"), [each[1:] for each in BROKEN], ids=[each[0] for each in BROKEN])
def test_a_broken_profile_has_its_code_and_a_sentence(
    tmp_path: Path, config: Callable[..., dict[str, Any]], breaks: Callable[[Path], object], changes: Any, code: str
) -> None:
    whole = config(**changes)
    breaks(tmp_path / "llama")
    with Lmxd(tmp_path, whole) as lmxd, lmxd.client() as client, pytest.raises(LmxdError) as caught:
        client.request("v")
    assert code in (
        caught.value.code,
        caught.value.data.get("code"),
        (caught.value.data.get("failure") or {}).get("code"),
    )
    assert "does not say why" not in str(caught.value)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_left_of_what_was_killed_at_a_random_moment(
    tmp_path: Path, config: Callable[..., dict[str, Any]], seed: int
) -> None:
    chance, shared = random.Random(seed), set(os.listdir("/dev/shm"))
    with Lmxd(tmp_path, config()) as lmxd:
        asking = subprocess.Popen(lmxd.command("request", "v"), env=lmxd.ctl_env, stdout=subprocess.DEVNULL)
        lmxd.until(lambda: any(x.pid for x in lmxd.instances().values()), 60)
        (api,) = (x.pid for x in lmxd.instances().values())
        moment = chance.uniform(0, 25)
        lmxd.until(lambda: age(api) > moment or not alive(api), 60)
        lmxd.stop(signal.SIGKILL)
        if chance.random() < 0.7 and alive(api):
            os.kill(api, signal.SIGKILL)
        asking.wait(60)
        lmxd.start()
        lmxd.until(lambda: all(x.phase == "ready" for x in lmxd.instances().values()), 120)
    Lmxd.until(lambda: not left_behind(tmp_path, shared), 30)


def alive(pid: int) -> bool:
    return proc.born(pid) is not None and proc.exit_status(pid) is None


def age(pid: int) -> float:
    born = proc.born(pid)
    ticks = os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - (born or 0) / ticks if born else float("inf")
