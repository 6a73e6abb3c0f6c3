"""SGLang as an engine, by the help of version 0.5.23 and by texts of its sources: it was not run."""

from __future__ import annotations

import lzma
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from engines.canned import engine, installed
from engines.plans import plan_in

from lmxd.engines.engine import EngineKind, Plan
from lmxd.engines.sglang.flags import FLAGS
from lmxd.engines.sglang.server import SglangServer
from lmxd.engines.visibility import Gpu
from lmxd.errors import LmxdError
from lmxd.failures import FailureCode

HELP = lzma.decompress((Path(__file__).parent / "sglang/help.xz").read_bytes()).decode()
KNOWN = frozenset(re.findall(r"^  (?:-\w, )?(--[a-z0-9-]+)", HELP, re.MULTILINE)) | frozenset(
    re.findall(r"(?<=, )(--[a-z0-9-]+)", "\n".join(line for line in HELP.splitlines() if line.startswith("  --")))
)
FIGURES = b"""# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0"} 3.0
sglang:num_queue_reqs{engine_type="unified",model_name="m",tp_rank="0"} 2.0
sglang:prompt_tokens_total{model_name="m"} 1200.0
sglang:generation_tokens_total{model_name="m"} 300.0
"""


@pytest.fixture
def sglang(tmp_path: Path) -> SglangServer:
    return SglangServer(installed(tmp_path / "venv", "sglang-0.5.23"), {}, None, "engines.sglang.path")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "home").mkdir()
    return replace(
        plan_in(tmp_path / "home"),
        model=Path("/models/llama"),
        kind=EngineKind.SGLANG,
        engine="sglang",
        flags=("--attention-backend", "triton"),
        kv_tokens=8192,
        size=30 * 2**30,
        capacity=80 * 2**30,
        used=20 * 2**30,
    )


def test_everything_that_decides_about_memory_is_said(sglang: SglangServer, plan: Plan) -> None:
    words = " ".join(sglang.command(plan).argv)
    assert " serve --config " in words
    assert "--model-path /models/llama --served-model-name m --host 127.0.0.1 --port " in words
    assert (
        "--context-length 4096 --max-running-requests 2 --max-total-tokens 8192 --mem-fraction-static 0.5000" in words
    )
    assert words.endswith("--attention-backend triton")
    assert "--tp-size" not in words


def test_several_gpus_have_equal_shares(sglang: SglangServer, plan: Plan) -> None:
    found = sglang.command(replace(plan, gpus=(Gpu(id="GPU-a"), Gpu(id="GPU-b"))))
    assert "--tp-size 2" in " ".join(found.argv)
    assert found.env["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert found.env["SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK"] == "false"


def test_its_own_parser_knows_each_of_its_flags(sglang: SglangServer, plan: Plan) -> None:
    found = sglang.command(replace(plan, gpus=(Gpu(id="GPU-a"), Gpu(id="GPU-b"))))
    assert {word for word in found.argv if word.startswith("--")} <= KNOWN
    assert len(KNOWN) > 400


def test_its_key_is_in_a_file_that_nobody_else_can_read(sglang: SglangServer, plan: Plan) -> None:
    found = sglang.command(plan)
    settings = Path(found.argv[found.argv.index("--config") + 1])
    assert yaml.safe_load(settings.read_text()) == {"api-key": found.key}
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.parent.stat().st_mode) == 0o700
    assert found.key not in " ".join((*found.argv, *found.env.values()))
    assert "--log-level warning" in " ".join(found.argv), "at info, its log begins with all of its settings"


def test_it_runs_on_gpus_alone(sglang: SglangServer, plan: Plan) -> None:
    with pytest.raises(LmxdError, match="SGLang runs on GPUs alone"):
        sglang.command(replace(plan, gpus=()))


@pytest.mark.parametrize(
    ("names", "problem"), [((), "there is no SGLang in its environment"), (None, "no sglang on PATH")]
)
def test_one_that_is_not_there_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...] | None, problem: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = None if names is None else installed(tmp_path / "venv", *names)
    with pytest.raises(LmxdError, match=problem) as refused:
        SglangServer(path, {}, None, "engines.sglang.path").require()
    assert refused.value.code == "engine_missing"
    assert "engines.sglang.path" in refused.value.remedy


def test_another_version_in_its_place_is_another_program(tmp_path: Path, sglang: SglangServer) -> None:
    before = sglang.stamp()
    (tmp_path / "venv/lib/python3.12/site-packages/sglang-0.5.23.dist-info").rename(
        tmp_path / "venv/lib/python3.12/site-packages/sglang-0.6.0.dist-info"
    )
    assert sglang.stamp() != before
    assert sglang.binary().name.endswith("bin/vllm (0.6.0)")


async def test_it_is_busy_with_what_runs_and_what_waits(sglang: SglangServer) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    async with engine(answer + FIGURES) as endpoint:
        found = await sglang.activity(endpoint)
    assert found is not None
    assert (found.busy, found.processing, found.prompted, found.generated) == (True, 3, 1200.0, 300.0)
    async with engine(answer + FIGURES.replace(b" 3.0", b" 0.0")) as endpoint:
        found = await sglang.activity(endpoint)
    assert found is not None
    assert (found.busy, found.processing) == (True, 0)
    async with engine(answer + b"other 1\n") as endpoint:
        assert await sglang.activity(endpoint) is None


def test_the_allow_list_names_flags_that_there_are() -> None:
    assert {flag for flag in FLAGS.known() if flag.startswith("--")} <= KNOWN | {"--enable-hicache"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--api-key", "x"], "lmxd sets it"),
        (["--tp-size", "2"], "use the key gpus instead"),
        (["--mem_fraction_static", "0.9"], "use the key estimated_memory_gb instead"),
        (["--cpu-offload-gb", "4"], "not admitted"),
        (["--log-requests"], "prompts would be in its log"),
        (["--made-up"], "is not a flag of SGLang that lmxd knows"),
        (["--page-size", "x"], "give a whole number"),
    ],
)
def test_a_flag_that_changes_what_was_admitted_is_refused(words: list[str], why: str) -> None:
    (problem,) = FLAGS.problems(words, declared=True)
    assert why in problem


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.", FailureCode.OUT_OF_MEMORY),
        ("ValueError: Loaded weights leave no GPU memory for the KV cache under x", FailureCode.OUT_OF_MEMORY),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", FailureCode.OUT_OF_MEMORY),
        (
            "ValueError: Warning: User-specified context_length (9) is greater than the derived context_length (8).",
            FailureCode.BAD_CONTEXT,
        ),
        ("sglang serve: error: unrecognized arguments: --made-up", FailureCode.BAD_FLAG),
        ("OSError: /m does not appear to have a file named config.json.", FailureCode.BAD_MODEL),
        ("OSError: [Errno 98] Address already in use", FailureCode.ENDPOINT_IN_USE),
        ("AssertionError: what nobody knows", FailureCode.ENGINE_DIED),
    ],
)
def test_its_last_words_have_a_code(sglang: SglangServer, plan: Plan, line: str, code: FailureCode) -> None:
    log = [
        "[2026-11-01 10:00:00 TP0] Scheduler hit an exception: Traceback (most recent call last):",
        '  File "scheduler.py", line 1, in run_scheduler_process',
        line,
        "",
        "[2026-11-01 10:00:01] Received sigquit from a child process. It usually means the child failed.",
    ]
    found = sglang.diagnose(plan, -9, log)
    assert found.code is code
    assert line.partition(": ")[2][:40] in found.message
