"""Other tools' configurations become profiles that lmxd takes; what could not be carried over is said."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import run
from house import model
from hypothesis import example, given
from hypothesis import strategies as st

from lmxd.cli.files import Wanted, estimates_of
from lmxd.config.file import parse
from lmxd.errors import LmxdError
from lmxd.migrate import llama_server, llama_swap, ollama, words
from lmxd.migrate.entries import Entry, FoundModel, rendered

SWAP = """
healthCheckTimeout: 120
logLevel: info
startPort: 10001
macros:
  llama: /opt/llama.cpp/llama-server --port ${PORT} --flash-attn on
models:
  "llama-3.1-8b":
    name: Llama 3.1
    description: the usual one
    cmd: |
      ${llama}
      --model /models/llama-3.1-8b-q4.gguf
      --ctx-size 16384 --parallel 2 -ngl 99
      --cache-type-k q8_0 --cache-type-v q8_0
      --temp 0.6 --jinja
    ttl: 600
    aliases: [gpt-4o-mini]
  vision:
    cmd: ${llama} -m /models/qwen2-vl.gguf --mmproj /models/mmproj.gguf -ngl 20
    env: ["CUDA_VISIBLE_DEVICES=1"]
  vllm:
    cmd: docker run --name vllm vllm/vllm-openai --port ${PORT}
    cmdStop: docker stop vllm
  "org/with spaces:Q4":
    cmd: llama-server -m /models/x.gguf -np 1
groups:
  always: {persistent: true, swap: false, exclusive: false, members: ["org/with spaces:Q4", vision]}
hooks:
  on_startup: {preload: [llama-3.1-8b]}
peers: {}
"""

PRESETS = """version = 1

[*]
ngl = all
fa = on

[gemma]
model = /models/gemma-3-4b.gguf
c = 8192
np = 2
jinja = true
load-on-startup = true
; a comment
[qwen]
LLAMA_ARG_MODEL = /models/qwen.gguf
ctx-size = 4096
temp = 0.7
no-mmap = false
mmproj = /models/mmproj.gguf
stop-timeout = 10
"""


def config(found: FoundModel) -> Any:
    """What lmxd makes of it."""
    return parse(rendered(found, "a test"), "a test")


def test_llama_swap(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(SWAP)
    found = llama_swap.read(path)
    made = config(found)
    llama = made.models["llama-3.1-8b"]
    assert llama.path == Path("/models/llama-3.1-8b-q4.gguf")
    assert (llama.context_length, llama.slots, llama.gpu_layers) == (8192, 2, None)
    assert (llama.cache_type_k, llama.flash_attention, llama.idle_timeout, llama.preload) == ("q8_0", "on", 600, True)
    assert llama.aliases == ("gpt-4o-mini",)
    assert llama.engine_flags == ("--temp", "0.6", "--jinja")
    assert made.engine.path is None, "a file does not choose what is run"
    assert (made.models["vision"].gpu_layers, made.models["vision"].pin) == (20, True)
    assert made.models["vision"].mmproj == Path("/models/mmproj.gguf")
    assert "vllm" not in made.models
    text = rendered(found, "a test")
    assert "#  vllm:" in text
    assert "#engine:\n#  path: /opt/llama.cpp/llama-server\n" in text
    assert "# Llama 3.1 the usual one" in text
    left = "\n".join(found.left)
    for word in (
        "vision: env",
        "engine.path: /opt/llama.cpp/llama-server is only suggested",
        "vllm: path: none is named",
        "vllm: cmdStop",
        "org/with spaces:Q4: is called org/with-spaces:Q4 here",
        "groups.always",
        "peers: has no counterpart here",
    ):
        assert word in left
    assert "startPort: lmxd gives each instance an address of its own (it was 10001)" in left


@pytest.mark.parametrize(
    ("text", "why"),
    [("a: [", "line|expected"), ("models: 3", "no models"), ("[]", "no models"), ("a: 1", "no models")],
)
def test_what_is_none_of_llama_swaps(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(LmxdError, match=why):
        llama_swap.read(path)
    with pytest.raises(LmxdError, match="No such file"):
        llama_swap.read(tmp_path / "none")


def test_a_macro_that_is_missing_and_a_quote_that_is_open_are_said(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("models: {a: {cmd: 'llama-server -m ${where}/a.gguf'}, b: {cmd: 'llama-server \"'}, c: 3}")
    left = "\n".join(llama_swap.read(path).left)
    assert "a: the macro where is not defined" in left
    assert "b: cmd: No closing quotation" in left
    assert "models.c is a int" in left


def test_presets_of_the_router(tmp_path: Path) -> None:
    path = tmp_path / "models.ini"
    path.write_text(PRESETS)
    found = llama_server.read(path)
    made = config(found)
    gemma, qwen = made.models["gemma"], made.models["qwen"]
    assert (gemma.context_length, gemma.slots, gemma.preload, gemma.flash_attention) == (4096, 2, True, "on")
    assert gemma.engine_flags == ("--jinja",)
    assert (qwen.path, qwen.context_length) == (Path("/models/qwen.gguf"), 4096)
    assert qwen.engine_flags == ("--temp", "0.7")
    assert qwen.mmproj == Path("/models/mmproj.gguf")
    assert found.left == []


def test_what_is_no_ini_file(tmp_path: Path) -> None:
    path = tmp_path / "models.ini"
    path.write_text("[a]\nmodel\n= 3 [")
    with pytest.raises(LmxdError, match="models-preset"):
        llama_server.read(path)


class Store:
    """ollama's, as it lies on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs").mkdir(parents=True)

    def blob(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        (self.root / f"blobs/sha256-{digest}").write_bytes(data)
        return f"sha256:{digest}"

    def manifest(self, name: str, **layers: str) -> None:
        path = self.root / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        listed = [{"mediaType": f"application/vnd.ollama.image.{k}", "digest": d} for k, d in layers.items()]
        path.write_text(json.dumps({"schemaVersion": 2, "layers": listed}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "models")
    weights = store.blob(model(tmp_path, "weights").read_bytes())
    params = {"num_ctx": 8192, "temperature": 0.2, "stop": ["<|end|>"], "mirostat": 1}
    store.manifest(
        "registry.ollama.ai/library/llama3.1/8b",
        model=weights,
        params=store.blob(json.dumps(params).encode()),
        template=store.blob(b"{{ .Prompt }}"),
        license=store.blob(b"free"),
    )
    store.manifest("hf.co/someone/some-model/Q4_K_M", model=weights, projector=store.blob(b"p"))
    store.manifest("registry.ollama.ai/library/gone/latest", model="sha256:" + "0" * 64)
    return store


def test_ollamas_store(store: Store) -> None:
    found = ollama.read(store.root)
    made = config(found)
    llama = made.models["llama3.1:8b"]
    assert llama.path is not None
    assert llama.path.read_bytes()[:4] == b"GGUF"
    assert llama.context_length == 8192
    assert llama.engine_flags == ("--temp", "0.2", "--reverse-prompt", "<|end|>")
    assert made.models["hf.co/someone/some-model:Q4_K_M"].mmproj is not None
    left = "\n".join(found.left)
    for word in ("llama3.1:8b: its template is Go's", "mirostat = 1", "gone: sha256-000"):
        assert word in left
    assert "license" not in left


def test_ollamas_files_can_be_leased_from_where_they_are(store: Store) -> None:
    """No copy: the daemon opens the blob, whose directory its absolute path names."""
    from lmxd.catalog.catalog import Catalog

    catalog = Catalog(config(ollama.read(store.root)))
    assert "blobs" in str(catalog.file("llama3.1:8b"))


def test_a_store_that_is_damaged(store: Store) -> None:
    (store.root / "manifests/registry.ollama.ai/library/llama3.1/8b").write_text("{")
    found = ollama.read(store.root)
    assert "is no manifest" in "\n".join(found.left)
    assert list(config(found).models) == ["hf.co/someone/some-model:Q4_K_M"]


def test_a_store_that_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    with pytest.raises(LmxdError, match="no store of ollama's"):
        ollama.store(None)
    (tmp_path / "manifests").mkdir()
    assert ollama.store(None) == tmp_path


NO_NUMBERS = ("²", "٣", "9" * 5000, "-" + "9" * 5000, "1_0")


@pytest.mark.parametrize(
    ("line", "settings", "left"),
    [
        ("-c 8192 -np 4", {"context_length": 2048, "slots": 4}, []),
        ("-c 0 -t -1 -ngl 999", {"context_length": 0}, []),
        ("-ngl 12 -b 512 -ub 256", {"gpu_layers": 12, "batch_size": 512, "ubatch_size": 256}, []),
        ("--temp -1 --seed -1", {"engine_flags": ["--temp", "-1", "--seed", "-1"]}, []),
        ("-fa -c 4096", {"flash_attention": "on", "context_length": 4096}, []),
        ("--ctx-size=4096 --host 0.0.0.0", {"context_length": 4096}, []),
        ("-sm layer -c 64", {"context_length": 64}, []),
        ("-sm none -c 64", {"context_length": 64, "split": False}, []),
        ("-sm row", {}, ["-sm is refused: it moves bytes to where they were not admitted; lmxd chooses the devices"]),
        ("--temp=0.5 --jinja=on", {"engine_flags": ["--temp", "0.5"]}, ["--jinja is a switch"]),
        ("-c many", {}, ["context_length is 'many', which is no number"]),
        *((f"{flag} {number}", {}, ["which is no number"]) for flag in ("-c", "-ngl", "-t") for number in NO_NUMBERS),
        ("--temp ² -c 1", {"context_length": 1}, ["--temp is '²', which is no number"]),
        ("--rpc -² --wrong", {}, ["--rpc is refused", "'-²'", "--wrong"]),
        ("--rpc x:1 --wrong", {}, ["--rpc is refused", "--wrong"]),
    ],
)
def test_words(line: str, settings: dict[str, Any], left: list[str]) -> None:
    found = FoundModel()
    assert words.settings(line.split(), found.about("m")) == settings
    assert len(found.left) == len(left)
    assert all(a in b for a, b in zip(left, found.left, strict=True))


@given(st.lists(st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=12), max_size=8))
def test_any_words_at_all_become_a_profile_or_are_said(line: list[str]) -> None:
    found = FoundModel()
    found.add(Entry("m", words.settings(line, found.about("m"))))
    config(found.checked())


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_any_names_at_all_become_names_that_can_be_asked_for(names: list[str]) -> None:
    found = FoundModel()
    for name in names:
        found.add(Entry(name, {}))
    made = config(found.checked())
    assert len(made.models) == len(names)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("cmd", "ttl", "aliases", "env", "macros", "name", "filters")


@given(
    models=st.dictionaries(
        st.text(max_size=8), st.dictionaries(st.sampled_from(KEYS), ANYTHING) | ANYTHING, max_size=3
    ),
    rest=st.dictionaries(st.sampled_from(("macros", "groups", "hooks", "peers")), ANYTHING),
)
@example(models={"m": {"cmd": "x", "name": "\x1b"}}, rest={})
@example(models={"m": {"cmd": "x", "name": "a\x85models: 3", "description": "b\u2028gpu: 4"}}, rest={})
def test_anything_at_all_under_llama_swaps_keys_is_read_or_said(
    tmp_path_factory: pytest.TempPathFactory, models: Any, rest: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(yaml.safe_dump({"models": models} | rest), encoding="utf-8")
    config(llama_swap.read(path))


@given(st.text(max_size=200) | st.text("[]=;\n ab*", max_size=60))
def test_any_text_at_all_is_presets_or_none(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.ini"
    path.write_text(text, encoding="utf-8", errors="replace")
    with contextlib.suppress(LmxdError):
        config(llama_server.read(path))


@given(params=ANYTHING, layers=ANYTHING)
def test_any_manifest_at_all_is_read_or_said(
    tmp_path_factory: pytest.TempPathFactory, params: Any, layers: Any
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "models")
    weights = store.blob(b"GGUF")
    store.manifest("registry.ollama.ai/library/a/latest", model=weights, params=store.blob(json.dumps(params).encode()))
    (store.root / "manifests/odd/b").mkdir(parents=True)
    (store.root / "manifests/odd/b/c").write_text(json.dumps({"layers": layers}))
    config(ollama.read(store.root))


def lmxd(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lmxd", *args]
    return run(command, cwd=cwd)


def test_the_command_writes_no_file_twice(tmp_path: Path) -> None:
    source, out = tmp_path / "config.yaml", tmp_path / "lmxd.yaml"
    source.write_text(SWAP)
    done = lmxd("import", "llama-swap", str(source), "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert "3 models from" in done.stderr
    assert "not carried over as it was:" in done.stderr
    assert lmxd("--config", str(out), "check-config").returncode == 0
    again = lmxd("import", "llama-swap", str(source), "-o", str(out))
    assert again.returncode == 78
    assert "File exists" in again.stderr
    assert lmxd("import", "llama-swap", str(tmp_path / "none")).returncode == 78


def test_scan_makes_profiles_with_their_bytes(tmp_path: Path) -> None:
    model(tmp_path, "small")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    done = lmxd("scan", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "broken.gguf" in done.stderr
    files = [(path, ()) for path in sorted(tmp_path.glob("*.gguf"))]
    (estimated,) = (e for e in estimates_of(files, Wanted()) if not isinstance(e, LmxdError))
    assert f"# {estimated.host['total'] / 2**30:.2f} GiB of RAM at" in done.stdout
    assert yaml.safe_load(done.stdout)["models"]["small"]["path"] == str(tmp_path / "small.gguf")
    assert lmxd("scan", str(tmp_path / "none")).returncode == 78


def test_init_writes_a_configuration_that_can_be_used(tmp_path: Path) -> None:
    model(tmp_path, "small")
    out = tmp_path / "etc/config.yaml"
    done = lmxd("init", str(tmp_path), "-o", str(out))
    assert done.returncode == 0, done.stderr
    text = out.read_text()
    assert "host: RAM" in text or "GPU-" in text
    assert "llama-server" in text
    assert f"model_dir: {tmp_path}" in text
    made = parse(text, "init")
    assert made.models["small"].path == tmp_path / "small.gguf"
    assert lmxd("init").returncode == 0


def test_init_adds_the_models_that_a_configuration_lacks_and_nothing_else(tmp_path: Path) -> None:
    """Also run from within, with a relative path: it means the same from everywhere."""
    (tmp_path / "sub").mkdir()
    model(tmp_path / "sub", "small")
    out = tmp_path / "config.yaml"
    out.write_text(
        f"# mine\nidle_timeout: 9m\nmodels:   # these\n    own: {{path: sub/small.gguf}}\nmodel_dir: {tmp_path}\n"
    )
    before = out.read_text()
    assert lmxd("init", "sub", "-o", "config.yaml", cwd=tmp_path).returncode == 0
    assert out.read_text() == before, "its file is served already"
    for name in ("own", "more"):  # the name of the first is taken
        (tmp_path / name).mkdir()
        model(tmp_path / name, "own" if name == "own" else "more")
    done = lmxd("init", ".", "-o", "config.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = out.read_text().splitlines()
    assert [line for line in before.splitlines() if line not in kept] == []
    paths = {name: profile.path for name, profile in parse(out.read_text(), "init").models.items()}
    assert paths == {
        "own": Path("sub/small.gguf"),
        "own-2": tmp_path / "own/own.gguf",
        "more": tmp_path / "more/more.gguf",
    }
    forced = lmxd("init", "more", "-o", "config.yaml", "--force", cwd=tmp_path)
    assert forced.returncode == 0, forced.stderr
    assert list(parse(out.read_text(), "init").models) == ["more"]
    assert (tmp_path / "config.yaml.old").read_text().splitlines() == kept


@pytest.mark.parametrize("text", ["models: {a: {path: /x.gguf}}\n", "modles: {}\n", "\0"])
def test_init_leaves_alone_what_it_cannot_add_to(tmp_path: Path, text: str) -> None:
    model(tmp_path, "small")
    out = tmp_path / "config.yaml"
    out.write_text(text)
    done = lmxd("init", str(tmp_path), "-o", str(out))
    assert done.returncode == 78
    assert "Traceback" not in done.stderr
    assert out.read_text() == text
