"""vLLM, SGLang and TGI as other tools start them, as profiles of their kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lmxd.engines.engine import EngineKind
from lmxd.migrate import compose, llama_swap, shell_script, systemd_unit
from lmxd.migrate.command import StartCommand, entry
from lmxd.migrate.entries import FoundModel, rendered
from lmxd.migrate.other_servers import in_container, other_server


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model as Hugging Face has them."""
    place = tmp_path / "qwen"
    place.mkdir()
    (place / "config.json").write_text("{}")
    return place


def script(tmp_path: Path, line: str) -> FoundModel:
    path = tmp_path / "serve.sh"
    path.write_text(f"#!/bin/sh\n{line}\n")
    return shell_script.read(path)


VLLM = "vllm serve {} --max-model-len 32k --max-num-seqs=16 -tp 2 --dtype half --enforce-eager --port 8000"
SAID = {
    "engine": "vllm",
    "context_length": 32000,
    "slots": 16,
    "gpus": 2,
    "engine_flags": ["--dtype", "half", "--enforce-eager"],
}


@pytest.mark.parametrize(
    "line",
    [
        VLLM,
        "exec /opt/vllm/bin/" + VLLM,
        "CUDA_VISIBLE_DEVICES=0 nohup " + VLLM + " > log 2>&1 &",
        "python3 -m vllm.entrypoints.openai.api_server --model {} --max_model_len 32k --max-num-seqs 16"
        " --tensor_parallel_size 2 --dtype half --enforce-eager",
        "vllm serve --enforce-eager {} --max-model-len 32000 --max-num-seqs 16 -tp 2 --dtype half",
    ],
)
def test_a_line_that_starts_vllm_is_a_profile_of_its_kind(tmp_path: Path, directory: Path, line: str) -> None:
    [made] = script(tmp_path, line.format(directory)).entries
    flags = made.settings.pop("engine_flags")
    assert sorted(flags) == sorted(SAID["engine_flags"])  # type: ignore[call-overload]
    assert made.settings | {"engine_flags": SAID["engine_flags"]} == SAID | {"path": str(directory)}
    assert (made.name, made.open) == ("qwen", False)


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        (
            "python -m sglang.launch_server --model-path {} --context-length 8192 --max-running-requests 4 --tp 2"
            " --max-total-tokens 65536 --attention-backend triton --mem-fraction-static 0.8",
            {
                "engine": "sglang",
                "context_length": 8192,
                "slots": 4,
                "gpus": 2,
                "kv_tokens": 65536,
                "engine_flags": ["--attention-backend", "triton"],
            },
        ),
        (
            "text-generation-launcher --model-id {} --max-total-tokens 4096 --num-shard 2 --quantize awq"
            " --max-concurrent-requests 300 --cuda-memory-fraction 0.5",
            {
                "engine": "tgi",
                "context_length": 4096,
                "slots": 256,
                "gpus": 2,
                "engine_flags": ["--quantize", "awq"],
                "open": True,
            },
        ),
    ],
)
def test_others_wait_for_their_bytes(tmp_path: Path, directory: Path, line: str, settings: dict[str, Any]) -> None:
    found = script(tmp_path, line.format(directory))
    [made] = found.entries
    assert made.settings == settings | {"path": str(directory)}
    assert made.open, "nobody said what it takes"
    assert "estimated_memory_gb" in made.comment
    assert any(
        "fraction" in sentence and "estimated_memory_gb says what it takes" in sentence for sentence in found.left
    )
    meant = made.settings | {"estimated_memory_gb": 20}
    assert yaml.safe_load(rendered(found, "a script"))["models"] == {}
    made.settings, made.open = meant, False
    assert list(yaml.safe_load(rendered(found.checked(), "a script"))["models"]) == ["qwen"]


def test_what_cannot_be_carried_over_is_said(tmp_path: Path, directory: Path) -> None:
    line = f"VLLM_ATTENTION_BACKEND=X vllm serve {directory} --api-key hush --pipeline-parallel-size 2 --made-up 3 4"
    found = script(tmp_path, f"{line} --gpu-memory-utilization 0.9 --max-model-len auto")
    said = "\n".join(found.left)
    for words in (
        "--pipeline-parallel-size 2",
        "--made-up 3",
        "--gpu-memory-utilization 0.9",
        "VLLM_ATTENTION_BACKEND",
    ):
        assert words in said
    assert "--max-model-len auto: context_length is a number here" in said
    assert "slots: it took as many requests at once as came" in said
    assert "hush" not in rendered(found, "a script") + said + str(found.report.unneeded)


def test_the_name_of_a_hub_is_no_directory_yet(tmp_path: Path) -> None:
    found = script(tmp_path, "vllm serve Qwen/Qwen3-8B --served-model-name coder helper")
    [made] = found.entries
    assert (made.name, made.settings["aliases"], made.open) == ("coder", ["helper"], True)
    assert "coder: path: Qwen/Qwen3-8B: name the directory that it was fetched to" in "\n".join(found.left)
    assert "#    path: Qwen/Qwen3-8B" in rendered(found, "a script")


def test_llama_swap_and_systemd_start_it_likewise(tmp_path: Path, directory: Path) -> None:
    config = tmp_path / "config.yaml"
    command = f"/opt/vllm/bin/vllm serve {directory} --port ${{PORT}} --served-model-name ${{MODEL_ID}}"
    config.write_text(yaml.safe_dump({"models": {"m": {"cmd": command, "checkEndpoint": "/health"}}}))
    [made] = llama_swap.read(config).entries
    assert (made.name, made.settings["engine"], made.settings["path"]) == ("m", "vllm", str(directory))
    assert "command" not in made.settings
    unit = tmp_path / "llm.service"
    unit.write_text(f"[Service]\nExecStart=/usr/bin/python3 -m sglang.launch_server --model-path {directory}\n")
    [made] = systemd_unit.read(unit).entries
    assert made.settings["engine"] == "sglang"


def test_a_container_of_it_is_read_too(tmp_path: Path, directory: Path) -> None:
    volume = f"{directory.parent}:/models:ro"
    service = {
        "image": "vllm/vllm-openai:latest",
        "command": "--model /models/qwen --max-model-len 4096",
        "volumes": [volume],
    }
    file = tmp_path / "compose.yaml"
    file.write_text(yaml.safe_dump({"services": {"llm": service}}))
    [made] = compose.read(file).entries
    assert made.settings["path"] == str(directory)
    assert (made.settings["engine"], made.settings["context_length"]) == ("vllm", 4096)
    run = (
        f"docker run --gpus all -v {volume} ghcr.io/huggingface/text-generation-inference:3.3.7 --model-id /models/qwen"
    )
    [made] = script(tmp_path, run).entries
    assert (made.settings["engine"], made.settings["path"]) == ("tgi", str(directory))


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["vllm"],
        ["vllm", "bench", "serve"],
        ["python3", "-m"],
        ["python3", "-m", "http.server"],
        ["python3", "x.py", "vllm", "serve"],
        ["sglang", "version"],
        ["docker", "run", "ollama/ollama"],
    ],
)
def test_others_are_none_of_these(argv: list[str]) -> None:
    assert other_server(argv) is None
    assert in_container("ollama/ollama", argv) is None


@given(
    st.sampled_from([*EngineKind]), st.lists(st.text(max_size=12) | st.sampled_from(["--model", "-tp", "--x=1", "--"]))
)
def test_no_words_break_it(kind: EngineKind, words: list[str]) -> None:
    start = {"vllm": ["vllm", "serve"], "sglang": ["sglang", "serve"]}.get(kind.value, ["text-generation-launcher"])
    found = FoundModel()
    found.add(entry(found, "m", StartCommand([*start, *words])))
    rendered(found.checked(), "words")
