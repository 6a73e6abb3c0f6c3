"""Text Generation Inference as an engine, by the flags, figures and texts of its sources: it was not run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engines.canned import engine, installed
from engines.plans import plan_in

from lmxd.engines.engine import EngineKind, Plan
from lmxd.engines.tgi.flags import FLAGS
from lmxd.engines.tgi.server import TgiServer
from lmxd.engines.visibility import Gpu
from lmxd.failures import FailureCode

KNOWN = {line.split()[0] for line in (Path(__file__).parent / "tgi/flags.txt").read_text().splitlines()}
FIGURES = b"""# TYPE tgi_queue_size gauge
tgi_queue_size 1
tgi_batch_current_size 4
tgi_request_input_length_sum 900
tgi_request_input_length_count 9
tgi_request_generated_tokens_sum 200
"""


@pytest.fixture
def tgi(tmp_path: Path) -> TgiServer:
    return TgiServer(installed(tmp_path / "tgi"), {}, None, "engines.tgi.path")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "home").mkdir()
    return replace(
        plan_in(tmp_path / "home"),
        model=Path("/models/llama"),
        kind=EngineKind.TGI,
        engine="tgi",
        flags=("--dtype", "bfloat16"),
        size=30 * 2**30,
        capacity=80 * 2**30,
        used=20 * 2**30,
    )


def test_everything_that_decides_about_memory_is_said(tgi: TgiServer, plan: Plan) -> None:
    found = tgi.command(plan)
    words = " ".join(found.argv)
    assert "--model-id /models/llama --hostname 127.0.0.1 --port " in words
    assert "--max-total-tokens 4096 --max-input-tokens 4095 --max-concurrent-requests 2" in words
    assert "--num-shard 1 --shard-uds-path " in words
    assert words.endswith("--dtype bfloat16")
    assert {word for word in found.argv if word.startswith("--")} <= KNOWN


def test_its_fraction_leaves_others_what_they_use(tgi: TgiServer, plan: Plan) -> None:
    """Its cache is (what is free) - (1 - fraction * wiggle) * (all of it): what is free lacks what others use."""
    found = tgi.command(plan)
    fraction = float(found.argv[found.argv.index("--cuda-memory-fraction") + 1])
    wiggle, weights = float(found.env["TGI_WIGGLE_ROOM"]), 16 * 2**30
    free = plan.capacity - plan.used - weights
    cache = free - (1 - fraction * wiggle) * plan.capacity
    assert cache + weights == pytest.approx(plan.size, rel=1e-3)


def test_two_of_them_share_no_port_and_no_file(tgi: TgiServer, plan: Plan) -> None:
    two = replace(plan, gpus=(Gpu(id="GPU-a"), Gpu(id="GPU-b")))
    first, second = tgi.command(two), tgi.command(replace(two, instance="m#2"))
    for flag in ("--port", "--prometheus-port", "--master-port", "--shard-uds-path"):
        assert first.argv[first.argv.index(flag) + 1] != second.argv[second.argv.index(flag) + 1]
    shards = Path(first.argv[first.argv.index("--shard-uds-path") + 1])
    assert str(shards.parent) == first.env["TMPDIR"]
    assert "--num-shard 2" in " ".join(first.argv)


def test_its_key_is_a_variable(tgi: TgiServer, plan: Plan) -> None:
    found = tgi.command(plan)
    assert found.env["API_KEY"] == found.key
    assert found.key not in " ".join(found.argv)


async def test_it_is_busy_with_what_runs_and_what_waits(tgi: TgiServer) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    async with engine(answer + FIGURES) as endpoint:
        found = await tgi.activity(endpoint)
    assert found is not None
    assert (found.busy, found.processing, found.prompted, found.generated) == (True, 4, 900.0, 200.0)
    idle = FIGURES.replace(b"size 1", b"size 0").replace(b"size 4", b"size 0")
    async with engine(answer + idle) as endpoint:
        found = await tgi.activity(endpoint)
    assert found is not None
    assert not found.busy


def test_there_is_an_answer_to_each_of_its_flags() -> None:
    # the page with its flags leaves out those that have a short form, too
    assert FLAGS.known() == KNOWN


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--api-key", "x"], "lmxd sets it"),
        (["--cuda-memory-fraction", "1"], "use the key estimated_memory_gb instead"),
        (["--ngrok"], "sent elsewhere"),
        (["--dtype", "int8"], "possible are float16, bfloat16"),
        (["--made-up"], "is not a flag of TGI that lmxd knows"),
    ],
)
def test_a_flag_that_changes_what_was_admitted_is_refused(words: list[str], why: str) -> None:
    (problem,) = FLAGS.problems(words, declared=True)
    assert why in problem


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."], FailureCode.OUT_OF_MEMORY),
        (
            ["RuntimeError: Not enough memory to handle 4096 prefill tokens. You need to decrease it"],
            FailureCode.OUT_OF_MEMORY,
        ),
        (
            ['Error: ArgumentValidation("`max_input_tokens`(8) must be < `max_total_tokens`(4)")'],
            FailureCode.BAD_CONTEXT,
        ),
        (["\x1b[1m\x1b[31merror:\x1b[0m unexpected argument '--made-up' found"], FailureCode.BAD_FLAG),
        (['Error: NotEnoughCUDADevices("`sharded` is true but only found 1")'], FailureCode.BAD_FLAG),
        (["Error: DownloadError"], FailureCode.BAD_MODEL),
        (
            ["huggingface_hub.errors.LocalEntryNotFoundError: nothing here", "Error: DownloadError"],
            FailureCode.BAD_MODEL,
        ),
        (["RuntimeError: nobody knows", "Error: ShardCannotStart"], FailureCode.EXITED),
    ],
)
def test_its_last_words_have_a_code(tgi: TgiServer, plan: Plan, lines: list[str], code: FailureCode) -> None:
    before = "\x1b[2m2026-11-01T10:00:00.000000Z\x1b[0m \x1b[31mERROR\x1b[0m text_generation_launcher: it failed"
    found = tgi.diagnose(plan, 1, [before, *lines])
    assert found.code is code
    assert "ShardCannotStart" not in found.message
