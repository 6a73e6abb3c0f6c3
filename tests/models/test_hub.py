"""Models of a hub: estimated from their headers, fetched when they fit, compared with checksums, and served."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import synthetic
import vision
import yaml
from loopback_hub import LoopbackHub, running

from lmxd.cli.files import Wanted, of_file
from lmxd.cli.remote import fits_here, of_reference
from lmxd.config.file import load
from lmxd.errors import LmxdError
from lmxd.models.fetching import fetch
from lmxd.models.hub import Hub, chosen
from lmxd.models.reference import Reference, reference

pytest.importorskip("huggingface_hub")

REPOSITORY = "unsloth/Tiny-GGUF"


def projector(embedding: int) -> bytes:
    """A projector for models of that embedding length."""
    with TemporaryDirectory() as directory:
        return vision.projector(Path(directory) / "made.gguf", embedding).read_bytes()


def header(layers: int = 2, kind: str = "q4_0", embedding: int = 256) -> tuple[bytes, int]:
    """(the header of a model, the bytes of the whole)."""
    parts = synthetic.decoder(
        "llama",
        layers=layers,
        embedding=embedding,
        heads=4,
        kv_heads=2,
        feed_forward=4 * embedding,
        vocabulary=100,
        head=64,
        context=8192,
        kind=kind,
    )
    return synthetic.header(*parts)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with running() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for name, kind in (("Q4_K_M", "q4_k"), ("Q8_0", "q8_0"), ("F16", "f16")):
            head, size = header(kind=kind)
            made.add(f"{REPOSITORY}/Tiny-{name}.gguf", head.ljust(size, b"\0"))
        head, size = header(layers=200, kind="f32", embedding=16384)
        made.add(f"{REPOSITORY}/huge/Tiny-F32.gguf", head, size)
        made.add(f"{REPOSITORY}/mmproj-F16.gguf", projector(256))
        made.add(f"{REPOSITORY}/mmproj-BF16.gguf", b"GGUF")
        made.add(f"{REPOSITORY}/README.md", b"words")
        yield made


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("hf:o/r", Reference(repository="o/r")),
        ("hf:o/r-GGUF:UD-Q4_K_XL", Reference(repository="o/r-GGUF", quant="UD-Q4_K_XL")),
        ("https://huggingface.co/o/r", Reference(repository="o/r")),
        (
            "https://huggingface.co/o/r/resolve/main/a/b.gguf?download=true",
            Reference(repository="o/r", revision="main", file="a/b.gguf"),
        ),
        ("https://x.org/m.gguf", Reference(url="https://x.org/m.gguf")),
    ],
)
def test_references(words: str, meant: Reference) -> None:
    assert reference(words) == meant


@pytest.mark.parametrize("words", ["hf:o", "hf:../r", "hf:o/r/x", "hf:o/r:", "https://x.org/m.zip", "http:///m.gguf"])
def test_what_is_no_reference_is_refused(words: str) -> None:
    with pytest.raises(LmxdError, match="names no") as error:
        reference(words)
    assert error.value.code == "invalid_params"


def test_the_models_of_a_repository_are_its_quantizations_the_largest_first(hub: LoopbackHub) -> None:
    offers = Hub().offers(reference(f"hf:{REPOSITORY}"))
    assert [offer.name for offer in offers] == [f"{REPOSITORY}:{q}" for q in ("F32", "F16", "Q8_0", "Q4_K_M")]
    assert chosen(offers, reference(f"hf:{REPOSITORY}")).quant == "Q4_K_M"
    assert chosen(offers, reference(f"hf:{REPOSITORY}:q8_0")).quant == "Q8_0"
    with pytest.raises(LmxdError, match="no such model") as error:
        chosen(offers, reference(f"hf:{REPOSITORY}:Q2_K"))
    assert "Q8_0 (0.0 GiB)" in error.value.remedy


def test_an_estimate_reads_headers_alone_and_says_the_largest_that_fits(hub: LoopbackHub, tmp_path: Path) -> None:
    found = of_reference(reference(f"hf:{REPOSITORY}:Q4_K_M"), Wanted(dry_run="never"))
    assert found.model == f"hf:{REPOSITORY}:Q4_K_M"
    assert fits_here(found)
    assert found.fits["largest_quantization"] == "F16"
    huge = of_reference(reference(f"hf:{REPOSITORY}:F32"), Wanted(dry_run="never"))
    assert not fits_here(huge)
    assert "it does not fit this machine as asked" in huge.notes
    assert hub.sent <= 4 * 4 * 2**20, "a few MiB of a model of 3 TiB"
    whole = tmp_path / "whole.gguf"
    whole.write_bytes(hub.files[f"{REPOSITORY}/Tiny-Q4_K_M.gguf"])
    (tmp_path / "beside.gguf").write_bytes(projector(256))
    same = Wanted(dry_run="never", beside=("--mmproj", str(tmp_path / "beside.gguf")))
    assert of_file(whole, same).host == found.host, "the figure of the files themselves"


def test_a_token_is_not_sent_to_the_host_of_the_files(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    of_reference(reference(f"hf:{REPOSITORY}:Q4_K_M"), Wanted(dry_run="never"))
    sent = {"Authorization" in headers for _, path, headers in hub.asked if path.startswith("/storage/")}
    asked = {headers.get("Authorization") for _, path, headers in hub.asked if "/resolve/" in path}
    assert (sent, asked) == ({False}, {"Bearer hf_secret"})


def test_a_gated_and_a_missing_repository_say_what_to_do(hub: LoopbackHub) -> None:
    with pytest.raises(LmxdError) as missing:
        Hub().offers(reference("hf:no/body"))
    assert (missing.value.code, "check its name" in missing.value.remedy) == ("model_file_missing", True)
    assert "it has no such repository" in missing.value.message
    assert "repo_id" not in missing.value.message, "a name in the library's own functions"
    hub.gated.add(REPOSITORY)
    with pytest.raises(LmxdError) as gated:
        Hub().offers(reference(f"hf:{REPOSITORY}"))
    assert "HF_TOKEN" in gated.value.remedy


def test_a_hub_that_nobody_answers_at_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(LmxdError, match="the hub: ") as error:
        Hub().offers(reference("hf:o/r"))
    assert error.value.code == "model_file_missing"
    assert "http://127.0.0.1:9" in error.value.message
    assert "HF_ENDPOINT" in error.value.remedy


def test_what_is_fetched_is_compared_with_its_checksum(hub: LoopbackHub, tmp_path: Path) -> None:
    made = Hub()
    offer = chosen(made.offers(reference(f"hf:{REPOSITORY}")), reference(f"hf:{REPOSITORY}"))
    there = made.fetch(offer, tmp_path / "models")
    (path,) = there.files
    assert there.projector == tmp_path / f"models/{REPOSITORY}/mmproj-F16.gguf"
    assert path == tmp_path / f"models/{REPOSITORY}/Tiny-Q4_K_M.gguf"
    assert path.read_bytes() == hub.files[f"{REPOSITORY}/Tiny-Q4_K_M.gguf"]
    hub.checksums[f"{REPOSITORY}/Tiny-Q8_0.gguf"] = "0" * 64
    offers = made.offers(reference(f"hf:{REPOSITORY}"))
    with pytest.raises(LmxdError, match="its SHA-256 differs"):
        made.fetch(chosen(offers, reference(f"hf:{REPOSITORY}:Q8_0")), tmp_path / "models")
    assert not (tmp_path / f"models/{REPOSITORY}/Tiny-Q8_0.gguf").exists()


def test_a_file_behind_a_url_is_gone_on_with_where_it_broke_off(hub: LoopbackHub, tmp_path: Path) -> None:
    content = hub.files[f"{REPOSITORY}/Tiny-F16.gguf"]
    url = f"{hub.storage}/storage/{REPOSITORY}/Tiny-F16.gguf"
    hub.breaks_after = len(content) // 2
    with pytest.raises(LmxdError, match="kept"):
        fetch(url, tmp_path, lambda done, whole: None)
    assert [path.name for path in tmp_path.glob("*.gguf*")] == ["Tiny-F16.gguf.part"]
    assert not (tmp_path / "Tiny-F16.gguf").exists()
    hub.sent = 0
    told: list[tuple[int, int]] = []
    path = fetch(url, tmp_path, lambda done, whole: told.append((done, whole)))
    assert path.read_bytes() == content
    assert hub.sent == len(content) - len(content) // 2
    assert told[-1] == (len(content), len(content))
    with pytest.raises(LmxdError, match="SHA-256"):
        fetch(url, tmp_path / "cache", lambda done, whole: None, sha256="0" * 64)


def lmxd(directory: Path, *words: str, hub: LoopbackHub) -> subprocess.CompletedProcess[str]:
    env = {
        "HOME": str(directory),
        "HF_ENDPOINT": hub.url,
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": ":".join(sys.path),
        "NO_PROXY": "127.0.0.1",
        "XDG_RUNTIME_DIR": str(directory),
    }
    command = [sys.executable, "-m", "lmxd", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)


def test_pull_writes_a_profile_that_the_check_passes_and_keeps_all_else(hub: LoopbackHub, tmp_path: Path) -> None:
    config = tmp_path / ".config/lmxd/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("# mine\ngpu: {device: host}  # here\nmodels: {}  # none yet\nidle_timeout: 60\n")
    config.chmod(0o640)
    done = lmxd(tmp_path, "pull", "--user", f"hf:{REPOSITORY}", hub=hub)
    assert done.returncode == 0, done.stderr
    text = config.read_text()
    assert text.startswith("# mine\ngpu: {device: host}  # here\nmodels:  # none yet\n")
    assert config.stat().st_mode & 0o777 == 0o640
    made = load(config)
    path = tmp_path / f".local/share/lmxd/models/{REPOSITORY}/Tiny-Q4_K_M.gguf"
    profile = made.models[f"{REPOSITORY}:Q4_K_M"]
    assert (profile.path, profile.mmproj) == (path, path.with_name("mmproj-F16.gguf")), "as llama-server -hf does"
    assert "with its projector mmproj-F16.gguf" in done.stderr
    assert made.idle_timeout == 60
    checked = lmxd(tmp_path, "check-config", "--user", hub=hub)
    assert f"models.{REPOSITORY}" not in checked.stderr
    said = lmxd(tmp_path, "pull", "--user", "--json", f"hf:{REPOSITORY}", hub=hub)
    steps = [json.loads(line) for line in said.stdout.splitlines()]
    assert [steps[0]["status"], steps[-1]["status"]] == ["pulling manifest", "success"], said.stderr
    both = path.stat().st_size + path.with_name("mmproj-F16.gguf").stat().st_size
    assert max(step.get("completed", 0) for step in steps) == both
    again = lmxd(tmp_path, "pull", "--user", f"hf:{REPOSITORY}", hub=hub)
    assert (again.returncode, config.read_text()) == (0, text), again.stderr


def test_pull_refuses_what_does_not_fit_and_names_the_largest_that_does(hub: LoopbackHub, tmp_path: Path) -> None:
    done = lmxd(tmp_path, "pull", "--user", f"hf:{REPOSITORY}:F32", hub=hub)
    assert done.returncode == 75, done.stderr
    assert f"{REPOSITORY}:F32 does not fit this machine (F16 is the largest that does" in done.stderr
    assert not (tmp_path / f".local/share/lmxd/models/{REPOSITORY}").exists()


def test_a_place_that_takes_no_model_is_said_with_what_would_help(hub: LoopbackHub, tmp_path: Path) -> None:
    config, taken = tmp_path / ".config/lmxd/config.yaml", tmp_path / "a-file"
    config.parent.mkdir(parents=True)
    taken.touch()
    config.write_text(f"gpu: {{device: host}}\nmodel_dir: {taken}\n")
    done = lmxd(tmp_path, "pull", "--user", f"hf:{REPOSITORY}", hub=hub)
    assert done.returncode == 78
    assert f"say --to DIRECTORY, or name another model_dir in {config}" in done.stderr, "--user was said"


def test_the_command_estimates_a_model_of_a_hub(hub: LoopbackHub, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "PATH": "/bin", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-m", "lmxd.cli.main", "estimate", "--json", f"hf:{REPOSITORY}:Q8_0"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fits"]["largest_quantization"] == "F16"


def test_without_the_library_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError('not here')")
    env = {"HOME": str(tmp_path), "PATH": "/bin", "PYTHONPATH": f"{tmp_path}:" + ":".join(sys.path)}
    command = [sys.executable, "-m", "lmxd", "pull", "--user", "hf:o/r"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    assert f"{Path(sys.executable).parent}/pip install 'lmxd[hub]'" in " ".join(done.stderr.split())


def test_a_configuration_in_another_style_is_left_alone(hub: LoopbackHub, tmp_path: Path) -> None:
    config = tmp_path / ".config/lmxd/config.yaml"
    config.parent.mkdir(parents=True)
    text = yaml.safe_dump({"models": {"a": {"context_length": 512}}}, default_flow_style=True)
    config.write_text(text)
    done = lmxd(tmp_path, "pull", "--user", f"hf:{REPOSITORY}", hub=hub)
    assert done.returncode == 78
    assert "add it by hand" in done.stderr
    assert config.read_text() == text
    for path in tmp_path.rglob("*.gguf"):
        path.unlink()
    done = lmxd(tmp_path, "pull", "--user", "--json", f"hf:{REPOSITORY}:Q8_0", hub=hub)
    assert done.returncode == 78
    (line,) = map(json.loads, done.stdout.splitlines())
    assert line["error"]["code"] == "config"
    assert "in a style that no profile can be added to" in line["error"]["message"]
    assert not list(tmp_path.rglob("*.gguf")), "no program adds by hand what was fetched"


def test_what_somebody_changes_while_a_model_comes_is_kept(hub: LoopbackHub, tmp_path: Path) -> None:
    """It may take hours: another model may be pulled meanwhile."""
    config = tmp_path / ".config/lmxd/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("models: {}\n")

    class Asked(list[tuple[str, str, dict[str, str]]]):
        """The requests, at the first of which for a file somebody writes."""

        def append(self, request: tuple[str, str, dict[str, str]]) -> None:
            super().append(request)
            if request[0] == "GET" and request[1].startswith("/storage/"):
                config.write_text("models:\n  other: {path: /m/other.gguf}\n")

    hub.asked = Asked()
    done = lmxd(tmp_path, "pull", "--user", f"hf:{REPOSITORY}", hub=hub)
    assert done.returncode == 0, done.stderr
    assert set(load(config).models) == {"other", f"{REPOSITORY}:Q4_K_M"}


def test_of_a_crowd_of_projectors_none_is_fetched(hub: LoopbackHub) -> None:
    """Each would be compared with each model: a hub could keep us busy for days."""
    for n in range(100):
        hub.add(f"{REPOSITORY}/mmproj-{n}-F16.gguf", b"GGUF")
    offers = Hub(hub.url).offers(reference(f"hf:{REPOSITORY}"))
    assert offers
    assert [offer.projector for offer in offers] == [None] * len(offers)
