"""What a server got over, and served on after, is not why it ended."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from engines.plans import plan_in
from hypothesis import given
from hypothesis import strategies as st

from lmxd.engines.command import CommandEngine
from lmxd.engines.sglang import log as of_sglang
from lmxd.engines.signs_of_life import last_part
from lmxd.engines.tgi import log as of_tgi
from lmxd.engines.vllm.log import diagnose
from lmxd.failures import FailureCode

PROVOKED = "(APIServer pid=1) ERROR 11-26 23:38:10 [serving.py:1] torch.OutOfMemoryError: CUDA out of memory."
OF_CORE = "(EngineCore pid=2) ERROR 11-26 23:38:10 [core.py:1512] torch.OutOfMemoryError: CUDA out of memory."
OF_WORKER = "(Worker_TP0 pid=3) ERROR 11-26 23:38:10 [x.py:1] torch.OutOfMemoryError: CUDA out of memory."
DEAD = "(APIServer pid=1) ERROR 11-26 23:38:11 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore"
LOADED = "INFO:     Application startup complete."
FAILED = 'INFO:     127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 500 Internal Server Error'
SERVED = 'INFO:     127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 200 OK'
ASKED = 'INFO:      - "GET /metrics HTTP/1.1" 200 OK'
COUNTED = (
    "(APIServer pid=1) INFO 11-26 23:38:10 [loggers.py:271] Engine 000: Avg prompt throughput: 1.0 tokens/s, "
    "Avg generation throughput: {} tokens/s, Running: 1 reqs"
)


def code(*log: str) -> FailureCode:
    return diagnose(-11, log).code


def test_an_error_that_was_answered_long_ago_is_no_cause() -> None:
    assert code(LOADED, PROVOKED, FAILED, SERVED) is FailureCode.CRASHED
    assert code(LOADED, PROVOKED, FAILED, SERVED, DEAD) is FailureCode.ENGINE_DIED
    assert code(LOADED, PROVOKED, FAILED, *[ASKED] * 32) is FailureCode.CRASHED, "nobody but lmxd asked it since"
    assert code(LOADED, PROVOKED, FAILED) is FailureCode.OUT_OF_MEMORY


def test_what_it_got_over_while_it_loaded_is_none() -> None:
    assert code("OSError: cannot allocate memory", LOADED) is FailureCode.CRASHED
    assert code(OF_CORE, LOADED) is FailureCode.CRASHED


@pytest.mark.parametrize("cause", [OF_CORE, OF_WORKER])
def test_one_that_begins_answers_without_its_core_does_not_serve(cause: str) -> None:
    """The API server goes on for some seconds: it begins streams, and shows its figures."""
    assert code(LOADED, cause, SERVED, *[ASKED] * 5, DEAD) is FailureCode.OUT_OF_MEMORY
    assert code(LOADED, cause, "ValueError: no such tool", *[SERVED, DEAD] * 40) is FailureCode.OUT_OF_MEMORY
    assert code(LOADED, cause, *[SERVED] * 32, DEAD) is FailureCode.ENGINE_DIED, "it lived on for long"
    assert code(LOADED, DEAD, SERVED, *[ASKED] * 5) is FailureCode.ENGINE_DIED


def test_what_it_generates_is_a_sign_where_answers_are_not_logged() -> None:
    assert code(LOADED, PROVOKED, COUNTED.format("5.2")) is FailureCode.CRASHED
    assert code(LOADED, PROVOKED, COUNTED.format("0.0")) is FailureCode.OUT_OF_MEMORY


def test_an_error_that_quotes_an_answer_is_no_sign() -> None:
    assert code(LOADED, PROVOKED, f"ValueError: {SERVED}") is FailureCode.OUT_OF_MEMORY


def test_the_last_of_many_errors_are_looked_at() -> None:
    assert code(LOADED, *["ValueError: no such tool"] * 500, OF_CORE, DEAD) is FailureCode.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "served",
    [
        SERVED,
        '127.0.0.1 - - [26/Nov/2026 23:38:10] "POST /v1/embeddings HTTP/1.1" 200 -',
        "srv  log_server_r: request: POST /v1/chat/completions 127.0.0.1 200",
        "srv  log_server_r: done request: POST /v1/chat/completions 127.0.0.1 200",
    ],
)
def test_so_it_is_with_any_other_server(tmp_path: Path, served: str) -> None:
    engine, cause = CommandEngine(), "RuntimeError: CUDA out of memory."
    assert engine.diagnose(plan_in(tmp_path), -11, [cause, served]).code is FailureCode.CRASHED
    assert engine.diagnose(plan_in(tmp_path), -11, [served, cause]).code is FailureCode.OUT_OF_MEMORY


def test_so_it_is_with_sglang_and_tgi() -> None:
    cause, died = "torch.OutOfMemoryError: CUDA out of memory.", "Received sigquit from a child process."
    served = f"[2026-11-26 23:38:10] {SERVED}"
    assert of_sglang.diagnose(-9, [cause, served, died]).code is FailureCode.ENGINE_DIED
    assert of_sglang.diagnose(-9, [cause, died, served]).code is FailureCode.KILLED
    assert of_sglang.diagnose(-9, [served, cause, died]).code is FailureCode.OUT_OF_MEMORY
    served = "2026-11-26T23:38:10.1Z  INFO generate{}: text_generation_router::server: src/server.rs:1: Success"
    assert of_tgi.diagnose(-11, [cause, served]).code is FailureCode.CRASHED
    assert of_tgi.diagnose(-11, [served, cause]).code is FailureCode.OUT_OF_MEMORY


def test_a_real_one_that_lost_its_core_says_so_whatever_was_before() -> None:
    recorded = lzma.decompress((Path(__file__).parent / "vllm" / "core-killed.log.xz").read_bytes()).decode()
    log = recorded.splitlines()
    at = next(n for n, line in enumerate(log) if "Parent process exited" in line)
    found = diagnose(0, [*log[:at], PROVOKED, FAILED, SERVED, *log[at:]])
    assert found.code is FailureCode.ENGINE_DIED


def test_a_real_one_shows_its_figures_without_its_core() -> None:
    """Recorded: it answers /metrics with 200 after its core was killed, until it ends 5 s later."""
    recorded = lzma.decompress((Path(__file__).parent / "vllm" / "figures-after-death.log.xz").read_bytes()).decode()
    left = last_part(recorded.splitlines())
    dead = next(n for n, line in enumerate(left) if "EngineDeadError" in line)
    assert any('"GET /metrics HTTP/1.1" 200' in line for line in left[dead:])
    assert not any('"POST /v1/chat/completions HTTP/1.1"' in line for line in left), "its requests are done"


@given(st.lists(st.one_of(st.text(), st.sampled_from([LOADED, SERVED, ASKED, FAILED, PROVOKED, OF_CORE, DEAD]))))
def test_what_is_left_of_a_log_are_lines_of_it_in_order(log: list[str]) -> None:
    left, rest = last_part(log), iter(log)
    assert all(line in rest for line in left)
    assert SERVED not in left
    assert last_part([*log, LOADED]) == []
