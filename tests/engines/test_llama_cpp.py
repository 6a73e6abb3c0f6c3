"""llama-server's command line, and what its logs say. The logs are real ones of build 10434."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import synthetic
from engines.plans import plan_in
from house import fake_engine, model
from pydantic import TypeAdapter
from recorded import shape

from lmxd.daemon.places import places
from lmxd.engines.engine import EngineKind, Plan
from lmxd.engines.launching import free_socket
from lmxd.engines.llama_cpp import log
from lmxd.engines.llama_cpp.binary import Binary, find, probe
from lmxd.engines.llama_cpp.command import command
from lmxd.engines.llama_cpp.flags import FLAGS
from lmxd.engines.llama_cpp.server import LlamaServer
from lmxd.errors import LmxdError

LOGS = Path(__file__).parent / "logs"


def lines(name: str) -> list[str]:
    return (LOGS / name).read_text().splitlines()


@pytest.fixture
def binary(tmp_path: Path) -> Binary:
    return probe(fake_engine(tmp_path))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_in(tmp_path)


def words(binary: Binary, plan: Plan) -> str:
    return " ".join(command(binary, plan).argv)


def test_all_that_decides_about_memory_is_said(binary: Binary, plan: Plan) -> None:
    said = words(binary, plan)
    for flag in ("-m /models/m.gguf", "-c 8192", "-np 2", "-ngl 999", "-b 2048", "-ub 512", "-ctk q8_0", "-ctv f16",
                 "-fa auto", "--fit off", "--no-kv-unified", "-t 4", "--jinja"):  # fmt: skip
        assert flag in said


def test_in_ram_nothing_is_taken_beyond_the_footprint(binary: Binary, plan: Plan) -> None:
    said = words(binary, replace(plan, gpus=()))
    for flag in ("-ngl 0", "--device none", "--no-repack", "--cache-ram 0", "--ctx-checkpoints 0"):
        assert flag in said


def test_the_speed_of_the_processor_is_left_to_the_engine(binary: Binary, plan: Plan) -> None:
    """Its own choice of threads knows the cores of the machine, as it does without lmxd."""
    said = words(binary, replace(plan, threads=None, flags=(), gpus=())).split()
    left = {
        name for name in FLAGS if re.match("-t|-tb|--threads|--numa|--prio|--poll|-C|--cpu-|--mlock|-lm|--load", name)
    }
    assert left - {"-to"} & set(said) == set()
    assert len(left) > 20


def test_tensors_that_newer_builds_would_read_on_demand_are_resident_as_they_were_counted(
    binary: Binary, plan: Plan
) -> None:
    newer = replace(binary, flags=binary.flags | {"--lazy-mode"})
    assert "--lazy-mode off" in words(newer, plan)
    assert "--lazy-mode" not in words(binary, plan)


def test_on_a_gpu_no_request_waits_for_copies_of_the_caches_of_idle_slots(binary: Binary, plan: Plan) -> None:
    assert "--no-cache-idle-slots" in words(binary, plan)
    older = replace(binary, flags=binary.flags - {"--no-cache-idle-slots"})
    assert "--no-cache-idle-slots" not in words(older, plan)


def test_flags_that_a_build_does_not_know_are_left_out(binary: Binary, plan: Plan) -> None:
    old = replace(binary, flags=frozenset({"--flash-attn"}))
    said = words(old, replace(plan, launch=replace(plan.launch, flash="on"), gpus=()))
    assert "--fit" not in said
    assert " -fa -" in said, "a bare switch in old builds"
    assert "-fa" not in words(old, plan)


def test_the_environment_is_scrubbed(binary: Binary, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    env = command(binary, plan).env
    assert not {"LLAMA_ARG_CTX_SIZE", "AWS_SECRET_ACCESS_KEY"} & env.keys()
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    assert command(binary, replace(plan, gpus=())).env["CUDA_VISIBLE_DEVICES"] == ""


def test_the_key_is_in_a_file_of_ours_alone(binary: Binary, plan: Plan) -> None:
    made = command(binary, plan)
    assert made.address.key_file.stat().st_mode & 0o777 == 0o600
    assert made.address.key_file.read_text().strip() == made.key
    assert made.key not in " ".join(made.argv)
    assert command(binary, plan).key != made.key, "a fresh one for every start"


def test_a_symlink_in_the_place_of_a_key_is_not_followed(binary: Binary, plan: Plan, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "m#1.key").symlink_to(victim)
    command(binary, plan)
    assert victim.read_text() == "precious"


def test_the_real_help_is_understood() -> None:
    real = probe(find(None))
    for flag in (
        "--fit",
        "-fa",
        "--flash-attn",
        "--no-kv-unified",
        "--device",
        "--no-repack",
        "--cache-ram",
        "--no-cache-idle-slots",
        "--offline",
    ):
        assert real.knows(flag), flag
    assert real.version != "unknown"


def test_where_the_engine_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = fake_engine(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find(None) == on_path
    monkeypatch.setenv("PATH", "/nowhere")
    assert "skulk_llama_server" in str(find(None)), "then in an installed wheel"
    assert find(on_path) == on_path
    with pytest.raises(LmxdError, match=r"engine.path .*/none is not an executable file") as caught:
        find(tmp_path / "none")
    assert caught.value.code == "engine_missing"


def test_an_engine_that_does_not_run_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "llama-server"
    broken.write_text("\0")
    broken.chmod(0o755)
    with pytest.raises(LmxdError, match="does not run"):
        probe(broken)


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("bad_model.log", 1, "bad_model"),
        ("bad_model_truncated.log", 1, "bad_model"),
        ("bad_flag.log", 1, "bad_flag"),
        ("out_of_memory.log", 1, "out_of_memory"),
        ("loaded_cpu.log", 3, "exited"),
        ("loaded_cpu.log", -9, "killed"),
        ("loaded_cpu.log", -6, "crashed"),
    ],
)
def test_why_it_ended(name: str, status: int, code: str) -> None:
    assert log.diagnose(status, lines(name)).code == code


def test_a_diagnosis_quotes_the_line_that_says_so() -> None:
    assert "4612423680" in log.diagnose(1, lines("out_of_memory.log")).message
    assert "--frobnicate" in log.diagnose(1, lines("bad_flag.log")).message


@pytest.mark.parametrize(
    "said",
    [
        [
            "0.00.145.122 E llama_adapter_lora_init: failed to apply lora adapter: tensor 'blk.0.attn_q.weight' has"
            " incorrect shape (hint: maybe wrong base model?)",
            "0.00.145.133 E cmn  common_init_: failed to load lora adapter '/m/style.gguf'",
            "0.00.145.139 E cmn  common_init_: failed to create context with model '/m/m.gguf'",
            "0.00.145.526 E srv  llama_server: exiting due to model loading error",
        ],
        [
            "0.01.656.972 E mtmd_init_from_file: error: mismatch between text model (n_embd = 576) and mmproj"
            " (n_embd = 640)",
            "0.01.656.993 E srv    load_model: failed to load multimodal model, '/m/mmproj.gguf'",
            "0.01.668.178 E srv  llama_server: exiting due to model loading error",
        ],
        [
            "error: the supplied chat template is not supported: {% for m in messages %}{{ m.content }",
            "note: llama.cpp was started without --jinja, we only support commonly used templates",
        ],
    ],
)
def test_what_goes_beside_a_model_is_told_from_the_model_and_its_flags(said: list[str]) -> None:
    found = log.diagnose(1, said)
    assert found.code == "bad_companion"
    assert log.ERROR.sub("", said[0], 1) in found.message, "the line that says why, not one that follows from it"


@pytest.mark.parametrize(
    "line",
    [
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 41.9 MiB on device 0: cudaMalloc failed: out of memory",
        "0.01 E alloc_tensor_range: failed to allocate CUDA0 buffer of size 4357900288",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "ggml_vulkan: Device memory allocation failed. vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
    ],
)
def test_memory_that_ran_out_in_other_builds(line: str) -> None:
    assert log.diagnose(1, [line]).code == "out_of_memory"


def test_a_server_that_exits_before_its_log_is_written_is_told_by_the_file(tmp_path: Path) -> None:
    """llama-server's log has a thread of its own, which may not have written yet when the process ends."""
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(1000))
    assert log.diagnose(1, [], bad).code == "bad_model"
    good = synthetic.write(tmp_path / "good.gguf", *shape("llama32-1b-q8_0"))
    assert log.diagnose(1, [], good).code == "exited"
    assert log.diagnose(1, [], None).code == "exited"
    assert log.diagnose(1, lines("bad_flag.log"), bad).code == "bad_flag"


def test_buffers_are_summed_by_place() -> None:
    found = log.buffers(lines("loaded_cpu.log"))
    assert found["CPU_Mapped"] == pytest.approx(92.10)
    assert found["CPU"] == pytest.approx(45.00 + 14.51 + 0.38)
    split = [
        "llama_kv_cache:      CUDA0 KV buffer size =   224.00 MiB",
        "llama_kv_cache:      CUDA0 KV buffer size =   256.00 MiB",
    ]
    assert log.buffers(split) == {"CUDA0": 480.0}


def test_buffers_in_ram_contradict_a_plan_for_a_gpu(plan: Plan, tmp_path: Path) -> None:
    plan, server = replace(plan, model=model(tmp_path, "m")), LlamaServer(None)
    assert "CPU_Mapped" in str(server.misplaced(plan, lines("loaded_cpu.log")))
    assert server.misplaced(replace(plan, gpus=()), lines("loaded_cpu.log")) is None
    assert (
        server.misplaced(plan, ["x:  CUDA0 model buffer size = 1.00 MiB", "x: CPU_Mapped model buffer size = 1.00 MiB"])
        is None
    )
    assert server.misplaced(plan, ["a build that prints no buffers"]) is None


def test_a_socket_has_a_path_that_fits_whatever_the_model_is_called(binary: Binary, plan: Plan) -> None:
    with TemporaryDirectory(prefix="h" * 60, dir="/tmp") as directory:
        home = Path(directory)
        named = replace(plan, endpoint="unix", home=home)
        assert free_socket(named) == home / "m#1/s.sock"
        paths = {free_socket(replace(named, instance=f"{'m' * 128}#{number}")) for number in (1, 2)}
        assert len(paths) == 2
        assert all(path.parent.parent == home and len(os.fsencode(path)) <= 107 for path in paths)
        with pytest.raises(LmxdError, match="longer than 107 bytes"):
            free_socket(replace(named, home=Path("/tmp/" + "h" * 100)))


def test_a_place_that_leaves_no_room_for_sockets_is_refused_at_the_start() -> None:
    with pytest.raises(LmxdError, match=r"socket of an instance in .* is longer than 107 bytes"):
        places(Path("/tmp/" + "s" * 90), user=True)


def test_the_group_of_the_home_may_pass_to_a_socket_whatever_the_umask(plan: Plan, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = free_socket(plan)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    assert path.parent.stat().st_gid == tmp_path.stat().st_gid


@pytest.mark.parametrize("kind", list(EngineKind))
def test_what_an_earlier_lmxd_wrote_names_no_engine_and_is_of_the_one_of_its_kind(
    tmp_path: Path, kind: EngineKind
) -> None:
    written = TypeAdapter(Plan).dump_python(replace(plan_in(tmp_path), kind=kind), mode="json")
    del written["engine"]
    assert TypeAdapter(Plan).validate_python(written).engine == kind
