"""A node fetches a model's directory for vLLM from another node's door: no code, no settings that are of a box."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hf_directory import LLAMA, LLAMA_8B, hf_directory, hollow_directory, llama_tensors, safetensors
from house import fake_vllm
from waiting import until

from fleet.test_copying import Pair
from lmxd.cli.fleet.copying import instead, profile
from lmxd.config.copied import allowed
from lmxd.config.file import load
from lmxd.errors import LmxdError
from lmxd.fleet import home
from lmxd.fleet.authority.certificates import Authority

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new("home")


def sharded(path: Path) -> Path:
    """The directory of a Llama in two files of weights, with an index, and with things that nobody wants elsewhere."""
    tensors = list(llama_tensors().items())
    hf_directory(path, {**LLAMA, "auto_map": {"AutoModel": "modeling_it.It"}})
    parts = [dict(tensors[:5]), dict(tensors[5:])]
    for name, some in zip(SHARDS, parts, strict=True):
        (path / name).write_bytes(safetensors(some))
    index = {name: file for file, some in zip(SHARDS, parts, strict=True) for name in some}
    (path / INDEX).write_text(json.dumps({"weight_map": index}))
    (path / "modeling_it.py").write_text("raise SystemExit")
    (path / ".secret.json").write_text("{}")
    (path / "pytorch_model.bin").write_bytes(b"pickle")
    (path / "original").mkdir()
    (path / "original/params.json").write_text("{}")
    return path


COPIED = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", INDEX, *SHARDS}


def pair(directory: Path, authority: Authority, models: dict[str, dict[str, Any]]) -> Pair:
    """Two nodes with a vLLM each: ``models`` are directories below that of ``n1``, beside further keys."""
    (directory / "n1/org").mkdir(parents=True, exist_ok=True)
    (directory / "n2").mkdir(exist_ok=True)
    made = {name: {"engine": "vllm"} | keys for name, keys in models.items()}
    found = Pair(directory, authority, made)
    for house in (found.here, found.there):
        house.write(engines={"vllm": {"path": str(fake_vllm(house.directory))}})
    return found


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


async def test_a_directory_is_copied_with_its_settings_and_answers(tmp_path: Path, authority: Authority) -> None:
    """All that counts on any box comes; code is left out, and said."""
    original = sharded(tmp_path / "n1/hf")
    flags = ["--dtype", "float16", "--trust-remote-code", "--chat-template", "/etc/shadow", "--enforce-eager"]
    keys = {"path": str(original), "context_length": 2048, "slots": 3, "kv_tokens": 4096, "aliases": ["large"]}
    more = {"engine_flags": flags, "sleep": True, "pin": True, "estimated_memory_gb": 1}
    async with pair(tmp_path, authority, {"org/m": keys | more}).open() as nodes:
        done = await nodes.copied("org/m")
        there = nodes.there.directory / "org-m"
        assert files(there) == {name: (original / name).read_bytes() for name in COPIED}
        assert done.done == done.total == sum(len(content) for content in files(there).values())
        assert done.left_out == ["modeling_it.py"]
        copied = load(nodes.there.config_path).models["org/m"]
        async with nodes.there.client() as client:
            lease = await client.request("org/m")
            words = nodes.there.argv(nodes.there.launched("org/m#1"))
    assert (copied.path, copied.engine, copied.context_length, copied.slots) == (there, "vllm", 2048, 3)
    assert (copied.kv_tokens, copied.aliases, copied.sleep, copied.pin) == (4096, ("large",), False, False)
    assert copied.engine_flags == ("--dtype", "float16", "--enforce-eager")
    assert (lease.model, str(there) in words, words[words.index("--max-num-seqs") + 1]) == ("org/m", True, "3")


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        (["--dtype=half", "--seed", "7", "--no-enable-prefix-caching"], ["--dtype=half", "--seed", "7"]),
        (["--trust_remote_code", "--tokenizer", "evil/it", "--enforce_eager"], ["--enforce_eager"]),
        (["--generation-config", "/etc", "--middleware", "os.system", "--load-format=pt"], []),
        ("--enforce-eager", []),
    ],
)
def test_a_peer_s_flags_name_neither_paths_nor_code(flags: object, kept: Sequence[str]) -> None:
    said = allowed({"engine_flags": flags, "engine": "sglang", "program": "/bin/sh"}, directory=True)
    assert [word for word in said.pop("engine_flags", []) if "prefix" not in word] == kept
    assert said == {}


async def test_what_was_broken_off_is_gone_on_with(tmp_path: Path, authority: Authority) -> None:
    """Files that are whole are not asked for again."""
    original, there = sharded(tmp_path / "n1/hf"), tmp_path / "n2/m"
    async with pair(tmp_path, authority, {"m": {"path": str(original)}}).open() as nodes:
        there.mkdir()
        (there / SHARDS[0]).write_bytes((original / SHARDS[0]).read_bytes())
        (there / f"{SHARDS[1]}.part").write_bytes((original / SHARDS[1]).read_bytes()[:1000])
        done = await nodes.copied("m")
        assert files(there) == {name: (original / name).read_bytes() for name in COPIED}
        assert done.done == done.total
        whole = [name for name, wanted in nodes.asked if wanted.endswith("-")]
        assert SHARDS[0] not in whole
        assert (SHARDS[1], "bytes=1000-") in nodes.asked


async def test_what_is_not_the_same_is_thrown_away(tmp_path: Path, authority: Authority) -> None:
    original, there = sharded(tmp_path / "n1/hf"), tmp_path / "n2/m"
    async with pair(tmp_path, authority, {"m": {"path": str(original)}}).open() as nodes:
        there.mkdir()
        (there / SHARDS[0]).write_bytes(b"x" * (original / SHARDS[0]).stat().st_size)
        (there / f"{SHARDS[1]}.part").write_bytes(b"x" * 1000)
        with pytest.raises(LmxdError, match="SHA-256 is another") as raised:
            await nodes.copied("m")
        assert raised.value.code == "bad_model_file"
        assert not (there / "config.json").exists(), "it is no model as long as something is missing"
        assert (await nodes.copied("m")).finished
        assert files(there) == {name: (original / name).read_bytes() for name in COPIED}


async def test_a_directory_that_does_not_fit_is_not_fetched(tmp_path: Path, authority: Authority) -> None:
    """Of 0.9 TB of weights, which are a hole, headers are read; a size that does not fit is left out."""
    hollow_directory(tmp_path / "n1/huge", {**LLAMA_8B, "num_hidden_layers": 2048, "vocab_size": 512})
    hf_directory(tmp_path / "n1/wide", LLAMA, llama_tensors())
    wide = {"path": str(tmp_path / "n1/wide"), "context_length": 32768, "slots": 256, "kv_tokens": 2**30, "gpus": 1}
    models: dict[str, dict[str, Any]] = {"huge": {"path": str(tmp_path / "n1/huge")}, "wide": wide}
    async with pair(tmp_path, authority, models).open() as nodes:
        with pytest.raises(LmxdError, match="huge does not fit this machine") as raised:
            await nodes.copied("huge")
        assert raised.value.code == "never_fits"
        assert not (nodes.there.directory / "huge").exists()
        await nodes.copied("wide")
        copied = load(nodes.there.config_path).models["wide"]
    assert (copied.context_length, copied.slots, copied.kv_tokens) == (None, 1, None)


@pytest.mark.parametrize(
    ("lie", "code", "why"),
    [
        ({"file": "../../evil.json"}, "bad_answer", "something else"),
        ({"file": "modeling.py"}, "bad_answer", "something else"),
        ({"file": ".bashrc"}, "bad_answer", "something else"),
        ({"file": "model.gguf"}, "bad_answer", "something else"),
        ({"key": "mmproj"}, "bad_answer", "something else"),
        ({"file": "config.json"}, "bad_answer", "something else"),
        ({"size": 2**60}, "invalid_params", "at most"),
        ({"size": 5}, "bad_model_file", "longer than the 5 bytes that were said"),
    ],
)
async def test_a_peer_puts_nothing_elsewhere(
    tmp_path: Path, authority: Authority, lie: dict[str, Any], code: str, why: str
) -> None:
    """Neither a file of another kind, nor one that is larger than it said."""
    original = sharded(tmp_path / "n1/hf")
    async with pair(tmp_path, authority, {"m": {"path": str(original)}}).open() as nodes:
        nodes.lies = lambda manifest: _of(manifest, "tokenizer.json").update(lie)
        before = set(nodes.there.directory.rglob("*"))
        with pytest.raises(LmxdError, match=why) as raised:
            await nodes.copied("m")
        assert raised.value.code == code
        assert {path for path in set(nodes.there.directory.rglob("*")) - before if path.is_file()} <= {
            nodes.there.directory / "m" / name for name in COPIED
        }
        assert "m" not in load(nodes.there.config_path).models


def _of(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in manifest["files"] if each["file"] == name)


async def test_weights_have_the_size_that_was_said(tmp_path: Path, authority: Authority) -> None:
    original = sharded(tmp_path / "n1/hf")
    async with pair(tmp_path, authority, {"m": {"path": str(original)}}).open() as nodes:
        nodes.lies = lambda manifest: _of(manifest, SHARDS[0]).update(size=2**50)
        with pytest.raises(LmxdError, match=f"and {2**50} were said") as raised:
            await nodes.copied("m")
        assert raised.value.code == "bad_model_file"
        assert not (nodes.there.directory / "m").exists()


@pytest.mark.parametrize("what", ["a link out of it", "Sentence Transformers", "another engine", "a part is missing"])
async def test_what_is_not_offered_is_said(tmp_path: Path, authority: Authority, what: str) -> None:
    original, keys = sharded(tmp_path / "n1/hf"), dict[str, Any]()
    match what:
        case "a link out of it":
            (tmp_path / "secret").write_text("{}")
            (original / "tokenizer.json").unlink()
            (original / "tokenizer.json").symlink_to(tmp_path / "secret")
            why = "tokenizer.json is a link that leads out of its directory"
        case "Sentence Transformers":
            (original / "modules.json").write_text("[]")
            why = "it is of Sentence Transformers"
        case "another engine":
            keys = {"engine": "sglang", "estimated_memory_gb": 1}
            why = "neither a GGUF file of its own nor a directory for vLLM"
        case _:
            (original / SHARDS[1]).unlink()
            why = "m cannot be used on this box, either"
    nodes = pair(tmp_path, authority, {"m": {"path": str(original)} | keys})
    nodes.here.write(model_dirs=[str(tmp_path)])
    async with nodes.open():
        with pytest.raises(LmxdError, match=why) as raised:
            await nodes.copied("m")
        assert raised.value.code == "model_file_missing"


async def test_links_into_the_cache_of_a_hub_are_followed(tmp_path: Path, authority: Authority) -> None:
    repository = tmp_path / "n1/models--org--m"
    blobs, snapshot = repository / "blobs", repository / "snapshots/0123"
    hf_directory(blobs, LLAMA, llama_tensors())
    snapshot.mkdir(parents=True)
    for each in blobs.iterdir():
        (snapshot / each.name).symlink_to(f"../../blobs/{each.name}")
    async with pair(tmp_path, authority, {"m": {"path": str(snapshot)}}).open() as nodes:
        await nodes.copied("m")
        assert files(nodes.there.directory / "m") == files(blobs)
        assert not any(path.is_symlink() for path in (nodes.there.directory / "m").iterdir())


async def test_the_vllm_of_another_profile_serves_it_as_well(tmp_path: Path, authority: Authority) -> None:
    nodes = pair(tmp_path, authority, {"m": {"path": str(sharded(tmp_path / "n1/hf"))}})
    other = {"engine": "vllm", "program": str(fake_vllm(tmp_path / "n2")), "path": "other", "estimated_memory_gb": 1}
    nodes.there.write(engines={}, models={"other": other})
    async with nodes.open():
        await nodes.copied("m")
        copied = load(nodes.there.config_path).models["m"]
        assert (copied.engine, copied.program) == ("vllm", tmp_path / "n2/vllm/bin/vllm")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "--size is not said of config.json"),
        (["--size", "config.json", "9", "--size", "../x.json", "9"], "'../x.json' is neither of weights nor"),
        (["--size", "config.json", "9", "--size", "x.py", "9"], "'x.py' is neither of weights nor"),
        (["--size", "config.json", "99999999"], "--size config.json 99999999: 67108864 at most"),
        (["--size", "config.json", "9", "--sha256", "0" * 64], "is of one file"),
        (["--size", "config.json", "9", "--settings", '{"mmproj": "/x"}'], "vLLM has no such key"),
    ],
)
def test_of_a_directory_all_files_are_said(tmp_path: Path, words: list[str], why: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"engines": {"vllm": {"path": str(fake_vllm(tmp_path))}}, "model_dir": str(tmp_path)}))
    command = [sys.executable, "-m", "lmxd", "--config", str(config), "--user", "pull", *words]
    done = subprocess.run([*command, "http://127.0.0.1:9/m/config.json"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, why in done.stderr) == (64, True), done.stderr


@pytest.mark.parametrize("there", ["a directory of another model", "a file beside", "no vLLM"])
async def test_what_the_other_box_has_is_left_alone(tmp_path: Path, authority: Authority, there: str) -> None:
    original, mine = sharded(tmp_path / "n1/hf"), tmp_path / "n2/m"
    nodes = pair(tmp_path, authority, {"m": {"path": str(original)}})
    match there:
        case "a directory of another model":
            hf_directory(mine, LLAMA, llama_tensors())
            nodes.there.write(models={"b": {"engine": "vllm", "path": str(mine)}})
            code, why = "config", "is a file of b, whose place"
        case "a file beside":
            mine.mkdir()
            (mine / "modeling_mine.py").write_text("mine")
            code, why = "config", "has modeling_mine.py, which is no file of this model"
        case _:
            nodes.there.write(engines={"vllm": {"path": str(tmp_path / "no-vllm")}})
            code, why = "engine_missing", "no-vllm"
    before = files(mine) if mine.exists() else None
    async with nodes.open():
        with pytest.raises(LmxdError, match=why) as raised:
            await nodes.copied("m")
        assert raised.value.code == code
        assert (files(mine) if mine.exists() else None) == before


async def test_a_directory_of_the_system_s_is_named_by_hand(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines run as another user than its node, which may not write the configuration."""
    original, copies = sharded(tmp_path / "n1/hf"), tmp_path / "copies"
    async with pair(tmp_path, authority, {"m": {"path": str(original), "slots": 2}}).open() as nodes:
        monkeypatch.setattr(home, "SYSTEM_STATE", nodes.homes[1].state)
        monkeypatch.setattr(home, "SYSTEM_COPIES", copies)
        nodes.there.write(models_from=[str(copies)])
        async with nodes.there.client() as client:
            await client.reload()
            done = await nodes.copied("m")
            shown = yaml.safe_load("\n".join(profile(done)))
            assert shown == {"m": {"path": str(copies / "m"), "engine": "vllm", "slots": 2}}
            assert "models_from serves GGUF files alone" in instead(done)
            nodes.there.write(models=shown)
            await client.reload()

            async def served() -> bool:
                return [each.slots for each in (await client.models()).models] == [2]

            await until(served)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (copies / "m").iterdir()}
    assert modes == dict.fromkeys(COPIED, 0o644)
    assert (copies / "m").stat().st_mode & 0o777 == 0o755
