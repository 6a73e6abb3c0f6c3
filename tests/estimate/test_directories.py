"""Model directories are read whole, remembered while nothing changes, and refused with what to do."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from pathlib import Path

import pytest
from hf_directory import LLAMA, LLAMA_8B, hf_directory, hollow_directory, llama_tensors, safetensors_file

from lmxd.errors import LmxdError
from lmxd.estimate.directories import is_directory, is_read, read_context, read_directory, stored_bytes
from lmxd.estimate.learned import Card
from lmxd.estimate.rests import NO_RESTS, KnownRests, Rest
from lmxd.estimate.served import estimate_served, rest_key
from lmxd.safetensors.serving import ServedLaunch

MIB = 2**20
H100 = Card(name="NVIDIA H100 80GB HBM3", multiprocessors=132, compute=(9, 0))


def llama(tmp_path: Path, **changed: object) -> Path:
    return hf_directory(tmp_path / "m", {**LLAMA, **changed}, llama_tensors())


def refusal(path: Path) -> LmxdError:
    with pytest.raises(LmxdError) as caught:
        read_directory(path)
    return caught.value


def test_all_files_of_weights_are_read(tmp_path: Path) -> None:
    path, tensors = hf_directory(tmp_path / "m"), list(llama_tensors().items())
    for number, part in enumerate((tensors[:7], tensors[7:])):
        safetensors_file(path / f"model-0000{number}-of-00002.safetensors", dict(part))
    assert len(read_directory(path).tensors) == len(tensors)
    assert read_directory(path).stored == sum(f.stat().st_size for f in path.glob("*.safetensors")) - headers(path)
    assert stored_bytes(path) == sum(f.stat().st_size for f in path.glob("*.safetensors"))


def headers(path: Path) -> int:
    """Bytes of all headers with their lengths."""
    return sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in path.glob("*.safetensors"))


def test_it_is_remembered_until_a_file_changes(tmp_path: Path) -> None:
    path = llama(tmp_path)
    assert not is_read(path)
    first = read_directory(path)
    assert read_directory(path) is first
    assert is_read(path)
    hf_directory(path, {**LLAMA, "num_hidden_layers": 3})
    os.utime(path / "config.json", (1, 1))
    assert not is_read(path)
    assert read_directory(path).layers == 3


def test_an_index_is_read_once_until_it_changes(tmp_path: Path) -> None:
    """Of a large model it has 9 MB, and each estimate asks which files there are."""
    path, index = llama(tmp_path), tmp_path / "m" / "model.safetensors.index.json"
    (weights,) = (file.name for file in path.glob("*.safetensors"))
    text = json.dumps({"weight_map": {"a": weights}})
    index.write_text(text)
    first, before = read_directory(path), index.stat()
    index.write_text(" " * len(text))
    os.utime(index, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read_directory(path) is first
    os.utime(index, (1, 1))
    assert "index.json cannot be read" in str(refusal(path))


def test_why_it_cannot_be_used_is_remembered_until_a_file_changes(tmp_path: Path) -> None:
    """Each look at it read all headers again: nothing was known of one that no formula covers."""
    path = llama(tmp_path, model_type="mamba2")
    assert not is_read(path)
    assert refusal(path).data == refusal(path).data
    assert refusal(path) is not refusal(path), "each has its own stack"
    assert is_read(path)
    hf_directory(path, LLAMA)
    os.utime(path / "config.json", (1, 1))
    assert not is_read(path)
    assert read_directory(path).layers == 2


def test_whether_it_was_read_is_told_without_reading_its_index(tmp_path: Path) -> None:
    path, index = llama(tmp_path), tmp_path / "m" / "model.safetensors.index.json"
    (weights,) = (file.name for file in path.glob("*.safetensors"))
    index.write_text(json.dumps({"weight_map": {"a": weights}}))
    called: set[str] = set()
    sys.setprofile(lambda frame, *_: called.add(frame.f_code.co_name))
    try:
        assert not is_read(path)
        assert "json_object" not in called
        read_directory(path)
        assert "json_object" in called
    finally:
        sys.setprofile(None)
    assert is_read(path)


@pytest.mark.parametrize("changed", [{}, {"architectures": []}])
def test_its_context_is_in_its_configuration(tmp_path: Path, changed: dict[str, object]) -> None:
    assert read_context(hf_directory(tmp_path / "m", {**LLAMA, **changed})) == 32_768
    with pytest.raises(LmxdError):
        read_context(tmp_path)


def test_links_into_a_cache_are_followed(tmp_path: Path) -> None:
    """Snapshots of a hub's cache are links to blobs."""
    blobs, snapshot = llama(tmp_path), tmp_path / "snapshot"
    snapshot.mkdir()
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(blobs / name)
    assert read_directory(snapshot).stored == read_directory(blobs).stored


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere").code == "model_file_missing"
    assert "no config.json" in refusal(tmp_path).message
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file").code == "model_file_missing"
    path = llama(tmp_path)
    (path / "model.safetensors").unlink()
    os.mkfifo(path / "model.safetensors")
    assert "not a regular file" in refusal(path).message


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = llama(tmp_path)
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[:-10])
    error = refusal(path)
    assert (error.code, "model.safetensors is cut short" in error.message) == ("bad_model_file", True)
    (path / "model.safetensors").write_bytes(whole)
    (path / "config.json").write_text("{")
    assert "config.json cannot be read" in refusal(path).message


def test_what_no_formula_covers_is_to_be_declared(tmp_path: Path) -> None:
    error = refusal(llama(tmp_path, model_type="mamba2"))
    assert (error.code, error.remedy) == ("bad_model_file", "set estimated_memory_gb for the model")
    assert "uncovered" in error.data


def test_states_beside_attention_are_those_of_the_version_that_was_compared(tmp_path: Path) -> None:
    path, launch = llama(tmp_path, model_type="qwen3_next"), ServedLaunch(context=4096)
    assert estimate_served(path, launch, version="0.32.0+cpu") == estimate_served(path, launch)
    with pytest.raises(LmxdError, match=r"how vLLM 0\.24\.0 keeps states") as caught:
        estimate_served(path, launch, version="0.24.0")
    assert "uncovered" in caught.value.data


def test_gguf_beside_a_config_is_not_for_vllm(tmp_path: Path) -> None:
    path = hf_directory(tmp_path / "m")
    assert is_directory(path)
    (path / "model-Q4_K_M.gguf").write_bytes(b"")
    assert not is_directory(path)
    safetensors_file(path / "model.safetensors", llama_tensors())
    assert is_directory(path)
    assert not is_directory(tmp_path / "nowhere")


def test_in_ram_all_is_one_place(tmp_path: Path) -> None:
    path, launch = llama(tmp_path), ServedLaunch(context=4096, sequences=2, block=128)
    found = estimate_served(path, launch)
    assert found.parts.devices == ()
    assert found.parts.host.weights == read_directory(path).stored
    assert found.parts.host.kv == 512 * (2 * 4096 + 128), "two requests, and the null block"
    assert any(f"--kv-cache-memory-bytes {found.parts.host.kv}" in note for note in found.notes)


def test_on_cards_the_shares_are_equal(tmp_path: Path) -> None:
    path = llama(tmp_path)
    one, two = (estimate_served(path, ServedLaunch(context=4096, ranks=n), (H100,) * n) for n in (1, 2))
    first, second = two.parts.devices
    assert first == second
    assert first.kv == one.parts.devices[0].kv // 2
    assert first.weights < one.parts.devices[0].weights
    assert one.error > 512 * MIB, "it was measured on one kind of card, with one model"


@pytest.mark.parametrize(("ranks", "taken"), [(1, 24_880), (2, 14_272)])
def test_the_prior_is_near_what_was_taken(tmp_path: Path, ranks: int, taken: int) -> None:
    """MiB of each H100 under load, by NVML: bench/engines_on_card.py with vLLM 0.24.0."""
    path = hollow_directory(tmp_path / "m", LLAMA_8B)
    launch = ServedLaunch(context=16384, sequences=8, kv_tokens=65536, ranks=ranks)
    for parts in estimate_served(path, launch, (H100,) * ranks).parts.devices:
        assert abs(parts.total - taken * MIB) < 0.03 * parts.total


def test_a_directory_that_is_shut_says_how_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another user than root sees it."""
    path = llama(tmp_path)

    def shut(_: Path) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.listdir", shut)
    monkeypatch.setattr("lmxd.estimate.files.obstacle", lambda path: path)
    with pytest.raises(LmxdError, match="Permission denied") as caught:
        read_directory(path)
    assert re.match(rf"setfacl -m u:\w+:rx {path};", caught.value.remedy)


def test_the_length_of_texts_is_that_of_sentence_transformers(tmp_path: Path) -> None:
    """As vLLM has it, which refuses a longer one with bad_context: all-MiniLM-L6-v2 says 256, its config.json 512."""
    path = llama(tmp_path)
    before = stored_bytes(path)
    assert read_directory(path).context == read_context(path) == 32_768
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 256, "do_lower_case": false}')
    assert read_directory(path).context == read_context(path) == 256
    assert stored_bytes(path) == before
    (path / "sentence_bert_config.json").write_text('{"do_lower_case": false}')
    assert read_directory(path).context == read_context(path) == 32_768
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": "256"}')
    for read in (read_directory, read_context):
        with pytest.raises(LmxdError, match="max_seq_length is '256'"):
            read(path)


def test_a_launch_that_cannot_be_is_the_askers_fault(tmp_path: Path) -> None:
    with pytest.raises(LmxdError, match="more than the 32768") as caught:
        estimate_served(llama(tmp_path), ServedLaunch(context=40_000))
    assert (caught.value.code, caught.value.remedy) == ("invalid_params", "ask for less")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("config.json", "fetch the model again"), ("model.safetensors", "run git lfs pull where it is")],
)
def test_a_file_that_is_none_has_one_remedy(tmp_path: Path, name: str, remedy: str) -> None:
    path = llama(tmp_path)
    (path / name).write_text("version https://git-lfs.github.com/spec/v1\n" if "git" in remedy else "<html></html>")
    with pytest.raises(LmxdError) as caught:
        read_directory(path)
    assert (caught.value.code, caught.value.remedy) == ("bad_model_file", remedy)
    assert remedy not in caught.value.message


def test_what_was_learned_takes_the_place_of_the_prior(tmp_path: Path) -> None:
    path, launch = llama(tmp_path), ServedLaunch(context=4096, batched=512)
    key = rest_key(path, launch, H100, "0.32.0")
    before = estimate_served(path, launch, (H100,), NO_RESTS, "0.32.0").parts.devices[0]
    exact = before.weights + before.kv
    rests = NO_RESTS.seeing(Rest(key=key, promised=before.total, exact=exact), before.total + 700 * MIB)
    after = estimate_served(path, launch, (H100,), rests, "0.32.0")
    assert 0 <= after.parts.devices[0].total - (before.total + 700 * MIB) < 64 * MIB
    assert after.contexts == ()
    for other in (ServedLaunch(context=4096, batched=1024), ServedLaunch(context=4096, batched=512, eager=True)):
        assert rests.get(rest_key(path, other, H100, "0.32.0")) is None
    assert rests.get(rest_key(path, launch, H100, "0.33.0")) is None
    assert rests.get(rest_key(path, ServedLaunch(context=512, batched=512), H100, "0.32.0")) is not None


def test_a_tiny_learned_figure_leaves_no_part_negative(tmp_path: Path) -> None:
    path, launch = llama(tmp_path), ServedLaunch(context=4096)
    found = estimate_served(path, launch, (), KnownRests({rest_key(path, launch, None, ""): MIB}))
    assert found.parts.host.total == found.parts.host.weights + found.parts.host.kv + MIB
