"""Profiles of the models in directories: written so that lmxd takes them, by one figure for one file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from house import House, fake_engine, model
from model_caches import in_hub, in_llama_cache, in_lm_studio, in_ollama, split, split_model

from lmxd.catalog.catalog import Catalog
from lmxd.cli.files import Wanted, of_file
from lmxd.config.file import parse
from lmxd.engines.llama_cpp.binary import find
from lmxd.errors import LmxdError
from lmxd.migrate import machine
from lmxd.migrate.entries import rendered


def linked(directory: Path) -> Path:
    """A directory with links to models elsewhere, one of them split."""
    (directory / "far").mkdir(parents=True)
    (directory / "near").mkdir()
    model(directory / "far", "m-Q4_0")
    (directory / "near/link.gguf").symlink_to("../far/m-Q4_0.gguf")
    return directory / "near"


def test_what_is_written_of_every_layout_passes_the_check(tmp_path: Path) -> None:
    in_hub(tmp_path / "hub", "unsloth/Qwen3-8B-GGUF", "Qwen3-8B-Q4_K_M.gguf")
    in_llama_cache(tmp_path / "llama", "org/r", "r-Q8_0.gguf")
    in_lm_studio(tmp_path / "studio", "pub/repo", "x-Q6_K.gguf")
    in_ollama(tmp_path / "ollama", "registry.ollama.ai/library/llama3/8b")
    places = [*(tmp_path / name for name in ("hub", "llama", "studio", "ollama")), linked(tmp_path / "linked")]
    for text in (rendered(machine.scan(places), "a test"), machine.configuration(places, machine.look(places))):
        config = parse(text, "test")
        assert config.models.keys() == {
            "unsloth/Qwen3-8B-GGUF:Q4_K_M",
            "org/r:Q8_0",
            "pub/repo:Q6_K",
            "llama3:8b",
            "link",
        }
        catalog = Catalog(config)
        assert catalog.warnings([]) == []


def test_a_split_model_whose_parts_are_links_is_written_with_their_directory(tmp_path: Path) -> None:
    far = split_model(tmp_path / "far", "big", 2)
    (tmp_path / "near").mkdir()
    for path in far:
        (tmp_path / "near" / path.name).symlink_to(path)
    found = machine.scan([tmp_path / "near"])
    assert [entry.settings["path"] for entry in found.entries] == [str(tmp_path / "near" / far[0].name)]
    config = parse(rendered(found, "a test"), "test")
    assert config.model_dirs == (tmp_path / "far",)
    assert Catalog(config).warnings([]) == []


def test_nothing_found_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LmxdError, match="no model file") as error:
        machine.scan([tmp_path / "empty", tmp_path / "none"])
    assert f"{tmp_path / 'empty'}, {tmp_path / 'none'}" in error.value.message
    assert f"{tmp_path / 'none'}: No such file" in error.value.message
    with pytest.raises(LmxdError, match=f"{tmp_path}/.cache/huggingface/hub"):
        machine.scan([])
    found = machine.look([tmp_path / "empty"])
    machine.configuration([tmp_path / "empty"], found)
    assert any("no model file" in sentence for sentence in found.left)


def test_a_torn_model_and_a_file_that_is_none_are_said_and_not_written(tmp_path: Path) -> None:
    model(tmp_path, "good")
    split(tmp_path, "torn", 3)[2].unlink()
    (tmp_path / "junk.gguf").write_bytes(b"junk")
    found = machine.scan([tmp_path])
    assert [entry.name for entry in found.entries] == ["good"]
    left = "\n".join(found.left)
    assert "torn: 1 of its parts are missing" in left
    assert "junk: " in left


async def test_scan_estimate_and_models_have_one_figure_for_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model(tmp_path, "m")
    monkeypatch.setenv("PATH", str(fake_engine(tmp_path).parent), prepend=":")
    (entry,) = machine.scan([tmp_path]).entries
    estimated = of_file(path, Wanted(dry_run="never"))
    async with House(tmp_path, models={"m": {}}).open() as h, h.client() as client:
        (listed,) = (await client.models()).models
        asked = await client.estimate("m")
    total = estimated.host["total"]
    assert listed.bytes == {"host": total}
    assert asked.host["total"] == total
    assert entry.comment.startswith(f"{total / 2**30:.2f} GiB of RAM at 4096 tokens")


def test_a_gateway_is_suggested_where_its_user_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own, system = (machine.configuration([tmp_path], machine.look([tmp_path]), own=own) for own in (True, False))
    assert f"keys_file: {tmp_path}/lmxd/gateway.keys" in own
    assert "lmxd --user gateway" in own
    assert "keys_file: /etc/lmxd/gateway.keys" in system
    assert "systemctl start lmxd-gateway" in " ".join(system.replace("#", "").split())


def test_the_command_scans_the_usual_places_and_its_output_is_a_configuration(tmp_path: Path) -> None:
    in_hub(tmp_path / ".cache/huggingface/hub", "o/r", "r-Q4_0.gguf")
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-m", "lmxd", "scan"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert list(yaml.safe_load(done.stdout)["models"]) == ["o/r:Q4_0"]


def test_init_suggests_the_other_llama_servers_as_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find(None)
    places = [tmp_path / name for name in ("first", "new-rocm")]
    for place in places:
        place.mkdir()
        (place / "llama-server").write_text(f'#!/bin/sh\nexec {real} "$@"\n')
        (place / "llama-server").chmod(0o755)
    monkeypatch.setenv("PATH", ":".join(map(str, places)), prepend=":")
    text = machine.configuration([tmp_path], machine.look([tmp_path]))
    assert f"#engine:\n#  path: {places[0] / 'llama-server'}\n" in text
    suggestion = text[text.index("#engines:\n") :].partition("\n\n")[0]
    suggested = parse("\n".join(line.removeprefix("#") for line in suggestion.splitlines()), "suggested")
    assert suggested.engines["rocm"].path == places[1] / "llama-server"
    assert parse(text, "made").engines == {}
