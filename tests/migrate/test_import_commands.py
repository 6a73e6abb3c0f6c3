"""What users bring: odd names, containers, hubs, variables and several servers, in each of the forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import model_caches
import pytest
import yaml
from house import model
from migrate.test_imports import Store

from lmxd.config.file import parse
from lmxd.config.schema import Config
from lmxd.errors import LmxdError
from lmxd.migrate import (
    compose,
    large_model_proxy,
    llama_server,
    llama_swap,
    modelfile,
    ollama,
    shell_script,
    systemd_unit,
)
from lmxd.migrate.entries import FoundModel, rendered

NEVER = 10**9


def config(found: FoundModel) -> Config:
    return parse(rendered(found, "a test"), "a test")


def swap(tmp_path: Path, whole: dict[str, Any]) -> FoundModel:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(whole, allow_unicode=True), encoding="utf-8")
    return llama_swap.read(path)


def cmd(tmp_path: Path, text: str, **more: Any) -> FoundModel:
    return swap(tmp_path, {"models": {"m": {"cmd": text, **more}}})


def unneeded(found: FoundModel) -> str:
    return "\n".join(found.report.unneeded)


def test_a_macro_in_a_comment_is_none(tmp_path: Path) -> None:
    whole = {
        "macros": {"server": "llama-server\n-m /other.gguf\n"},
        "models": {"m": {"cmd": "# ${server} is above\n  # -c 1\nllama-server -m /x.gguf \\\n  -c 512"}},
    }
    profile = config(swap(tmp_path, whole)).models["m"]
    assert (profile.path, profile.context_length) == (Path("/x.gguf"), 512)


def test_a_hash_inside_of_a_word_ends_nothing(tmp_path: Path) -> None:
    found = cmd(tmp_path, "llama-server -m /models/c#/x.gguf#1 --temp 0.5 -c 2048")
    profile = config(found).models["m"]
    assert (profile.path, profile.context_length) == (Path("/models/c#/x.gguf#1"), 2048)
    assert profile.engine_flags == ("--temp", "0.5")


def test_one_odd_alias_takes_no_model_away(tmp_path: Path) -> None:
    models = {
        "m": {"cmd": "llama-server -m /x.gguf", "aliases": ["good", "not good", "", "n", "good", "größer/ok", 7]},
        "n": {"cmd": "llama-server -m /y.gguf", "aliases": ["good", "own"]},
    }
    found = swap(tmp_path, {"models": models})
    made = config(found).models
    assert (made["m"].aliases, made["n"].aliases) == (("good", "größer/ok", "7"), ("own",))
    left = "\n".join(found.left)
    for said in ("m: aliases: not good is no name", "m: aliases: n is the name of another", "n: aliases: good is the"):
        assert said in left


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("-b", "0", "-b 0"),
        ("-ub", "99999999", "m: ubatch_size: "),
        ("-ctk", "q9_9", "m: cache_type_k: possible are"),
        ("-fa", "perhaps", "m: flash_attention: "),
        ("-np", "4000", "m: slots: "),
    ],
)
def test_one_odd_value_takes_no_model_away(tmp_path: Path, option: str, value: str, sentence: str) -> None:
    found = cmd(tmp_path, f"llama-server -m /x.gguf --temp 1 {option} {value}")
    assert config(found).models["m"].engine_flags == ("--temp", "1")
    assert sentence in "\n".join([*found.left, unneeded(found)])


@pytest.mark.parametrize(
    ("text", "context"), [("", 0), ("-c 0", 0), ("-c 4096", 4096), ("--ctx_size=512", 512), ("-np 2 -c 1024", 512)]
)
def test_the_trained_context_is_the_one_of_who_says_none(tmp_path: Path, text: str, context: int) -> None:
    assert config(cmd(tmp_path, f"llama-server -m /x.gguf {text}")).models["m"].context_length == context
    ini = tmp_path / "models.ini"
    pairs = [word.lstrip("-").replace("=", " ").replace("_", "-") for word in text.split(" -")] if text else []
    ini.write_text("[m]\nmodel = /x.gguf\n" + "".join(f"{p.replace(' ', ' = ', 1)}\n" for p in pairs))
    assert config(llama_server.read(ini)).models["m"].context_length == context


@pytest.mark.parametrize(
    ("whole", "ttl", "seconds"),
    [
        ({}, None, NEVER),
        ({}, 0, NEVER),
        ({}, 60, 60),
        ({"globalTTL": 900}, None, 900),
        ({"globalTTL": 900}, -1, 900),
        ({"globalTTL": 900}, 0, NEVER),
        ({"globalTTL": 0}, None, NEVER),
    ],
)
def test_a_ttl_of_0_is_never(tmp_path: Path, whole: dict[str, Any], ttl: int | None, seconds: int) -> None:
    model = {"cmd": "llama-server -m /x.gguf"} | ({} if ttl is None else {"ttl": ttl})
    made = config(swap(tmp_path, whole | {"models": {"m": model}}))
    assert made.idle_timeout_of(made.models["m"]) == seconds


def test_variables_are_filled_in_or_stay_and_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMXD_TEST_HOME", "/home/me")
    monkeypatch.delenv("LMXD_TEST_NONE", raising=False)
    models = {
        "a": {"cmd": "llama-server -m ${env.LMXD_TEST_HOME}/${MODEL_ID}.gguf"},
        "b": {"cmd": "llama-server -m ${env.LMXD_TEST_NONE}/b.gguf"},
    }
    found = swap(tmp_path, {"models": models})
    made = config(found)
    assert made.models["a"].path == Path("/home/me/a.gguf")
    assert "b" not in made.models, "a path without its variable is an error of the configuration"
    assert "#    path: ${env.LMXD_TEST_NONE}/b.gguf" in rendered(found, "x")
    assert "b: the environment has no LMXD_TEST_NONE" in "\n".join(found.left)


def test_a_router_is_no_model(tmp_path: Path) -> None:
    unit = tmp_path / "llama.service"
    unit.write_text("[Service]\nExecStart=/usr/bin/llama-server --models-preset /etc/models.ini --models-max 2\n")
    found = systemd_unit.read(unit)
    assert not config(found).models
    assert "llama: is the router: lmxd import llama-server FILE reads its presets" in "\n".join(found.left)


def test_variables_of_an_engine_are_said_with_their_place(tmp_path: Path) -> None:
    found = cmd(tmp_path, "llama-server -m /x.gguf", env=["HSA_OVERRIDE_GFX_VERSION=11.0.0", "LD_PRELOAD=/x.so"])
    assert "m: env: HSA_OVERRIDE_GFX_VERSION=11.0.0: engine.environment sets it, for all models" in found.left
    assert "m: env: LD_PRELOAD=/x.so: LD_PRELOAD is refused: it loads other code into the engine" in found.left


def uncommented(text: str) -> str:
    """With what is suggested, but without words for people."""
    lines = (line.removeprefix("#") for line in text.splitlines())
    return "\n".join(line for line in lines if not line.lstrip().startswith(("# ", "from ")))


def test_variables_of_some_models_are_those_of_an_engine_of_theirs(tmp_path: Path) -> None:
    models = {
        "m0": {"cmd": "llama-server -m /x.gguf", "env": ["RADV_PERFTEST=nogttspill"]},
        "m1": {"cmd": "/opt/x-rocm/llama-server -m /x.gguf", "env": ["HSA_OVERRIDE_GFX_VERSION=10.3.0"]},
        "m2": {"cmd": "/opt/x-rocm/llama-server -m /x.gguf"},
        "m3": {"cmd": "llama-server -m /x.gguf"},
    }
    whole = parse(uncommented(rendered(swap(tmp_path, {"models": models}), "x")), "uncommented")
    found = whole.engines_of_models()
    assert [found[name].path for name in models] == [None, *[Path("/opt/x-rocm/llama-server")] * 2, None]
    assert [found[name].environment for name in models] == [
        {"RADV_PERFTEST": "nogttspill"},
        {"HSA_OVERRIDE_GFX_VERSION": "10.3.0"},
        {},
        {},
    ]


def test_each_of_several_servers_is_named(tmp_path: Path) -> None:
    models = {f"m{n}": {"cmd": f"/opt/{kind}/llama-server -m /x.gguf"} for n, kind in enumerate(("cuda", "vulkan"))}
    found = swap(tmp_path, {"models": models})
    text = rendered(found, "x")
    for name in ("cuda", "vulkan"):
        assert f"#  {name}:\n#    path: /opt/{name}/llama-server\n" in text.partition("#engines:\n")[2]
    assert {name: p.engine for name, p in config(found).models.items()} == {"m0": None, "m1": None}, "only suggested"
    whole = parse(uncommented(text), "uncommented")
    assert {name: engine.path for name, engine in whole.engines_of_models().items()} == {
        "m0": Path("/opt/cuda/llama-server"),
        "m1": Path("/opt/vulkan/llama-server"),
    }
    assert sum("cuda, vulkan are only suggested" in line for line in found.left) == 1


def test_slots_that_shared_their_context_do_so_here(tmp_path: Path) -> None:
    found = cmd(tmp_path, "llama-server -m /x.gguf -c 8192 -np 4 -kvu")
    made = config(found).models["m"]
    assert (made.context_length, made.slots, made.kv_unified) == (8192, 4, True)
    assert found.left == []


def test_the_choice_of_a_card_is_said(tmp_path: Path) -> None:
    why = "lmxd chooses the card, among those of gpu.devices"
    found = cmd(tmp_path, f"docker run --gpus '\"device=1\"' -v /m:/m {LLAMA_CPP}:server -m /m/x.gguf")
    assert f'm: docker run --gpus "device=1": {why}' in found.left
    devices = {"driver": "nvidia", "device_ids": ["0", "1"], "capabilities": ["gpu"]}
    service = {
        "image": f"{LLAMA_CPP}:server",
        "command": "-m /m/x.gguf",
        "volumes": ["/m:/m"],
        "extends": {"file": "base.yaml", "service": "llm"},
        "deploy": {"resources": {"reservations": {"devices": [devices]}}},
    }
    path = tmp_path / "compose.yaml"
    path.write_text(yaml.safe_dump({"services": {"x": service}}))
    left = compose.read(path).left
    assert f"x: deploy.resources.reservations.devices[0].device_ids: 0, 1: {why}" in left
    assert "x: extends.file: base.yaml: what it adds is not read: write it out" in left


LLAMA_CPP = "ghcr.io/ggml-org/llama.cpp"


@pytest.mark.parametrize(
    ("run", "path"),
    [
        (f"docker run --rm -it -v /srv/m:/models {LLAMA_CPP}:server -m /models/a/x.gguf", "/srv/m/a/x.gguf"),
        (f"docker run -v /srv/m:/m:ro,z --gpus=all {LLAMA_CPP}:full --server -m /m/x.gguf", "/srv/m/x.gguf"),
        (
            "podman run --device nvidia.com/gpu=all -m 32g --mount type=bind,source=/srv,target=/m local/llama-cpp"
            " /app/llama-server --model /m/x.gguf",
            "/srv/x.gguf",
        ),
        ("sudo docker run --entrypoint /llama-server -v /a:/m -v /b:/m/b img -m /m/b/x.gguf", "/b/x.gguf"),
        (f"docker run -e LLAMA_ARG_MODEL=/m/x.gguf -e LLAMA_ARG_PORT=1 -v /srv:/m/ {LLAMA_CPP}:server", "/srv/x.gguf"),
        ("bash -lc 'cd /srv && exec llama-server -m /srv/x.gguf -c 8192 --jinja'", "/srv/x.gguf"),
        ("docker run -v /srv:/m own/build --server -m /m/x.gguf", "/srv/x.gguf"),
        ("env -u X CUDA_VISIBLE_DEVICES=1 nice -n 5 taskset -c 0-3 llama-server -m /srv/x.gguf", "/srv/x.gguf"),
    ],
)
def test_a_container_is_understood_and_so_are_wrappers(tmp_path: Path, run: str, path: str) -> None:
    found = cmd(tmp_path, run if "LLAMA_ARG_MODEL" in run or "bash" in run else f"{run} -c 8192 --jinja")
    profile = config(found).models["m"]
    assert profile.path == Path(path)
    assert run.startswith("docker run -e") or (profile.context_length, profile.engine_flags) == (8192, ("--jinja",))


def test_a_model_in_a_volume_that_is_no_directory_is_said(tmp_path: Path) -> None:
    found = cmd(tmp_path, "docker run -v models:/models ghcr.io/ggml-org/llama.cpp:server -m /models/x.gguf")
    assert "m: path: /models/x.gguf is inside of the container" in "\n".join(found.left)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE", "OLLAMA_MODELS", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/huggingface/hub"


def test_a_model_of_a_hub_is_looked_up_in_the_caches(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = model_caches.in_hub(hub, "bartowski/Some-3B-GGUF", "Some-3B-Q4_K_M.gguf")
    large = model_caches.in_hub(hub, "bartowski/Some-3B-GGUF", "Some-3B-Q8_0.gguf")
    flat = model_caches.in_llama_cache(tmp_path / "cache/llama.cpp", "ggml-org/tiny-GGUF", "tiny-Q8_0.gguf")
    plain = model_caches.in_hub(hub, "someone/plain", "model.gguf")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    fetched = model_caches.in_ollama(tmp_path / "ollama", "hf.co/someone/theirs-GGUF/Q4_K_M")
    words = {
        "-hf someone/plain": plain,
        "-hf someone/theirs-GGUF:Q4_K_M": fetched,
        "-hf bartowski/Some-3B-GGUF:Q8_0": large,
        "--hf-repo bartowski/Some-3B-GGUF": small,
        "-hf bartowski/some-3b-gguf:q4_k_m": small,
        "-hfr bartowski/Some-3B-GGUF --hf-file Some-3B-Q8_0.gguf": large,
        "-hf ggml-org/tiny-GGUF": flat,
    }
    found = swap(tmp_path, {"models": {f"m{n}": {"cmd": f"llama-server {w}"} for n, w in enumerate(words)}})
    assert [p.path for p in config(found).models.values()] == list(words.values())
    ini = tmp_path / "models.ini"
    ini.write_text("[bartowski/Some-3B-GGUF:Q8_0]\nc = 4096\n[other]\nhf = ggml-org/tiny-GGUF:Q8_0\n")
    made = config(llama_server.read(ini)).models
    assert (made["bartowski/Some-3B-GGUF:Q8_0"].path, made["other"].path) == (large, flat)


def test_a_model_of_a_hub_that_is_not_here_is_to_be_fetched(tmp_path: Path, hub: Path) -> None:
    assert not hub.exists()
    found = cmd(tmp_path, "llama-server -hf bartowski/Some-3B-GGUF:Q8_0 -c 8192")
    assert not config(found).models
    assert "#    context_length: 8192" in rendered(found, "x")
    assert "fetch it with lmxd pull hf:bartowski/Some-3B-GGUF:Q8_0, and import again" in found.left[0]


def test_presets_are_read_as_llama_server_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "models.ini"
    path.write_text(
        "[*] ; all\nLLAMA_ARG_N_PARALLEL = 2\n"
        "[org/m:Q4] # one\nmodel = /x.gguf # the file\nalias = a, b\nc = 8192;tokens\nLLAMA_ARG_THINK = none\n"
        "jinja = off\ntags = x,y\n"
    )
    profile = config(llama_server.read(path)).models["org/m:Q4"]
    assert (profile.path, profile.aliases, profile.slots) == (Path("/x.gguf"), ("a", "b"), 2)
    assert profile.context_length == 4096
    assert profile.engine_flags == ("--reasoning-format", "none", "--no-jinja", "--tags", "x,y")


def test_latest_is_a_name_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    weights = store.blob(model(tmp_path, "weights").read_bytes())
    system = store.blob(b"You are\nMario.")
    store.manifest("registry.ollama.ai/library/llama3/latest", model=weights, system=system)
    store.manifest("hf.co/org/name-GGUF/latest", model=weights)
    found = ollama.read(store.root)
    made = config(found)
    assert made.named("llama3:latest") == "llama3"
    assert made.named("hf.co/org/name-GGUF:latest") == "hf.co/org/name-GGUF"
    assert "llama3: its system prompt: clients must send it (it was You are Mario.)" in found.left


def test_a_modelfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "models")
    weights = store.blob(model(tmp_path, "weights").read_bytes())
    store.manifest("registry.ollama.ai/library/llama3/8b", model=weights, params=store.blob(b'{"num_ctx": 2048}'))
    monkeypatch.setenv("OLLAMA_MODELS", str(store.root))
    path = tmp_path / "mario.Modelfile"
    path.write_text('FROM llama3:8b\nPARAMETER temperature 0.1\nSYSTEM """You\nare"""\n')
    found = modelfile.read(path)
    profile = config(found).models["mario"]
    assert profile.path is not None
    assert weights.removeprefix("sha256:") in profile.path.name
    assert (profile.context_length, profile.engine_flags) == (2048, ("--temp", "0.1"))
    assert "mario: its system prompt: clients must send it (it was You are)" in found.left
    path.write_text("FROM nothing:here\n")
    assert "fetch it with ollama pull nothing:here" in modelfile.read(path).left[0]
    path.write_text("PARAMETER x 1\n")
    with pytest.raises(LmxdError, match="has no FROM"):
        modelfile.read(path)


def test_a_declared_engine_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonc"
    service = '{"Name": "v", "Command": "/bin/other", "Args": "serve --at {socket}", // x\n "ResourceRequirements": '
    path.write_text(f'{{"Services": [{service} {{"VRAM-GPU-1": 17916, "RAM": 2,}},}},]}}')
    found = large_model_proxy.read(path)
    text = rendered(found, "x")
    assert "#    command: [/bin/other, serve, --at, '{socket}']\n#    estimated_memory_gb: 16.686\n" in text
    assert not config(found).models, "a file does not choose what is run"


def test_scripts_and_units_are_read_and_never_run(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text(
        f"touch {tmp_path}/ran\nM=/srv # here\nif true; then\n"
        " llama-server -m $M/a.gguf --alias a,b -c 64 2>err &\nfi\n"
    )
    found = shell_script.read(script)
    profile = config(found).models["a"]
    assert (profile.path, profile.context_length, profile.aliases) == (Path("/srv/a.gguf"), 64, ("b",))
    assert not (tmp_path / "ran").exists()
    script.write_text("docker run -v $(pwd)/models:/models ghcr.io/ggml-org/llama.cpp:server -m /models/a.gguf\n")
    assert config(shell_script.read(script)).models["a"].path == tmp_path / "models/a.gguf"
    unit = tmp_path / "llm.service"
    unit.write_text("[Service]\nExecStart=/x\nExecStart=\nExecStart=-/usr/bin/llama-server -m %h/a.gguf -c 32\n")
    assert config(systemd_unit.read(unit)).models["a"].path == Path.home() / "a.gguf"


@pytest.mark.parametrize(
    ("read", "text", "why"),
    [
        (compose.read, "services: {web: {image: nginx}}", "no service runs llama-server"),
        (compose.read, "a: 1", "has no services"),
        (systemd_unit.read, "[Service]\nType=oneshot\n", "has no ExecStart"),
        (systemd_unit.read, "hello", "is no setting of a unit"),
        (shell_script.read, "echo hello\n", "starts no llama-server"),
        (large_model_proxy.read, '{"Services": 3}', "has no Services"),
        (large_model_proxy.read, "{", "Expecting"),
        (llama_server.read, "hello", "neither \\[a section\\] nor key = value"),
    ],
)
def test_what_is_no_such_file_is_refused_with_a_remedy(tmp_path: Path, read: Any, text: str, why: str) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(LmxdError, match=why) as refused:
        read(path)
    assert refused.value.remedy
    with pytest.raises(LmxdError, match="No such file"):
        read(tmp_path / "none")
