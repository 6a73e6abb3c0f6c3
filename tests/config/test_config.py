"""The configuration: what loads, and that everything wrong is named with its key, value and remedy."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from lmxd.catalog.catalog import Catalog
from lmxd.config.file import load, parse
from lmxd.config.schema import Config
from lmxd.errors import ConfigError

AS_PRINTED = """
gpu:
  device: 0
  max_memory_gb: 20
admission_control:
  enabled: true
  queue_depth: 5
models:
  llama-3.1-8b:
    context_length: 4096
    estimated_memory_gb: 2.2
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "test")
    return caught.value.problems


def test_the_form_that_users_have_seen_in_print_loads_as_it_stands() -> None:
    config = parse(AS_PRINTED, "test")
    (device,) = config.gpu.wanted() or ()
    assert (device.device, device.max_memory_gb, device.margin_gb) == (0, 20, None)
    assert (config.admission_control.enabled, config.admission_control.queue_depth) == (True, 5)
    profile = config.models["llama-3.1-8b"]
    assert (profile.context_length, profile.estimated_memory_gb) == (4096, 2.2)
    assert config.idle_timeout_of(profile) == 300


@pytest.mark.parametrize("text", ["", "models:\n", "models:\n  a:\n", "gpu:\nengine:\nmetrics:\nadmission_control:\n"])
def test_everything_has_a_default(text: str) -> None:
    config = parse(text, "test")
    assert config.gpu.wanted() is None
    assert config.admission_control.queue_depth == 512


def test_the_shipped_file_shows_the_defaults() -> None:
    shipped = Path(__file__).parent.parent.parent / "etc/lmxd/config.yaml"
    assert load(shipped) == Config()
    uncommented = "\n".join(
        line.removeprefix("#")
        if line.startswith(("#  ", "#engine", "#metrics", "#gateway", "#users", "#keys", "#groups"))
        else line
        for line in shipped.read_text().replace("gpu: {}", "gpu:").replace("models: {}", "models:").splitlines()
        if "devices: [0, 1]" not in line
    )
    assert parse(uncommented, "uncommented").models["llama-3.1-8b"].engine_flags == ("--jinja",)


def test_several_devices_by_index_uuid_and_pci_id() -> None:
    text = "gpu: {max_memory_gb: 20, devices: [0, GPU-1a, '0000:01:00.0', {device: host, margin_gb: 4}]}"
    wanted = parse(text, "test").gpu.wanted()
    assert wanted is not None
    assert [d.device for d in wanted] == [0, "GPU-1a", "0000:01:00.0", "host"]
    assert [d.max_memory_gb for d in wanted] == [20] * 4
    assert wanted[3].margin_gb == 4


def test_on_and_off_may_be_bare() -> None:
    config = parse("models: {a: {flash_attention: off, engine_flags: [--reasoning, off, --temp, 0.5]}}", "test")
    assert config.models["a"].flash_attention == "off"
    assert config.models["a"].engine_flags == ("--reasoning", "off", "--temp", "0.5")


WRONG = [
    ("gpu: {devise: 0}", "gpu.devise: unknown key; did you mean device?"),
    ("admision_control: {}", "admision_control: unknown key; did you mean admission_control?"),
    ("models: {a: {contxt_length: 5}}", "models.a.contxt_length: unknown key; did you mean context_length?"),
    ("gpu: {devices: [{device: 0, max_mem: 1}]}", "gpu.devices.0.max_mem: unknown key; did you mean max_memory_gb?"),
    ("gpu: {device: 1.5}", "gpu.device is 1.5: name a GPU by index"),
    ("gpu: {device: -1}", "gpu.device is -1: name a GPU by index"),
    ("gpu: {device: true}", "gpu.device is True: name a GPU by index"),
    ("gpu: {device: 0, devices: [1]}", "give either device or devices"),
    ("gpu: {devices: []}", "devices is empty"),
    ("gpu: {max_memory_gb: -3}", "gpu.max_memory_gb is -3: input should be greater than 0"),
    ("gpu: {max_memory_gb: .inf}", "gpu.max_memory_gb is inf"),
    ("admission_control: {queue_depth: many}", "admission_control.queue_depth is 'many'"),
    ("admission_control: {queue_depth: -1}", "admission_control.queue_depth is -1"),
    ("idle_timeout: 0", "idle_timeout is 0: input should be greater than 0"),
    ("models: {a: 7}", "models.a is 7"),
    ("models: [a]", "models is ['a']"),
    ("models: {'../x': {}}", "'../x' is no model name"),
    ("models: {3: {}}", "3 is no model name"),
    ("models: {a: {gpu_layers: al}}", "models.a.gpu_layers is 'al': give a number of layers"),
    ("models: {a: {cache_type_k: q9}}", "models.a.cache_type_k is 'q9': possible are f32, f16"),
    ("models: {a: {flash_attention: off, cache_type_v: q8_0}}", "cache_type_v: q8_0 needs flash attention"),
    ("models: {a: {engine_flags: [--fit, off]}}", "--fit is refused: it changes the size that was admitted"),
    ("models: {a: {engine_flags: [-c, 5]}}", "-c is refused: use the key context_length instead"),
    ("models: {a: {engine_flags: [--sleep-idle-seconds, 5]}}", "--sleep-idle-seconds is refused: it unloads"),
    ("models: {a: {engine_flags: [--models-dir, x]}}", "--models-dir is refused"),
    ("models: {a: {engine_flags: [--lora, x]}}", "--lora is refused: use the key lora instead"),
    ("models: {a: {engine_flags: [--host, x]}}", "--host is refused: lmxd sets it"),
    ("models: {a: {engine_flags: [--tools, all]}}", "--tools is refused: it opens the machine"),
    ("models: {a: {engine_flags: [--ngl=5]}}", "'--ngl' is not a flag that a profile may add"),
    ("models: {a: {engine_flags: [--jinjaa]}}", "did you mean --jinja?"),
    ("models: {a: {engine_flags: [--temp]}}", "--temp needs a value"),
    ("models: {a: {engine_flags: [--temp=1]}}", "write the flag and its value as two items"),
    ("metrics: {listen: '0.0.0.0:80'}", "metrics.listen is '0.0.0.0:80': only 127.0.0.1:PORT"),
    ("metrics: {listen: '127.0.0.1:99999'}", "metrics.listen is '127.0.0.1:99999'"),
    ("engine: {endpoint: http}", "engine.endpoint is 'http'"),
    (
        "engine: {environment: {GGML_VK_VISIBLE_DEVICES: 0}}",
        "environment: GGML_VK_VISIBLE_DEVICES is refused: lmxd sets",
    ),
    ("engine: {environment: {LD_PRELOAD: /x}}", "environment: LD_PRELOAD is refused: it loads other code"),
    ("engine: {environment: {RADV_PERFTEST: 'a\\0b'}}".replace("'", '"'), "RADV_PERFTEST has a character that no"),
    ("engine: {environment: {RADV_PERFTEST: '\\ud800'}}".replace("'", '"'), "RADV_PERFTEST has a character that no"),
    ("engine: {environment: {HSA_OVERRIDE_GFX_VERSION_x: 1}}", "is not a variable that engines may be given"),
    ('models: {a: {command: [/x, "{socket}\\0"]}}', "has a character that no program can be given"),
    ('models: {a: {command: [/x, "{socket}"], env: {"A=B": x}}}', "'A=B' is no name of a variable"),
    ("[1, 2]", "holds a list, not keys and values"),
    ("a: [", "line 1: "),
    ("models: {a: {}, a: {}}", "line 1: the key 'a' is given twice"),
    ("a: !!python/object:os.system {}", "line 1: could not determine a constructor"),
]


@pytest.mark.parametrize(("text", "problem"), WRONG, ids=[text for text, _ in WRONG])
def test_what_is_wrong_is_named(text: str, problem: str) -> None:
    found = problems(text)
    assert any(problem in p for p in found), found


def test_what_cards_need_is_passed_on_for_one_of_several_too() -> None:
    found = parse("engine: {environment: {HSA_OVERRIDE_GFX_VERSION_1: 11.0.0, ZES_ENABLE_SYSMAN: on}}", "x").engine
    assert found.environment == {"HSA_OVERRIDE_GFX_VERSION_1": "11.0.0", "ZES_ENABLE_SYSMAN": "1"}


def test_all_problems_are_named_at_once() -> None:
    assert len(problems("gpu: {devise: 0}\nidle_timeout: 0\nmodels: {a: {contxt: 1}, b: {slots: 0}}")) == 4


def test_flags_that_break_admission_are_all_named() -> None:
    found = problems("models: {a: {engine_flags: [--fit, off, -ngl, 3, --jinja, -ts, '1,1']}}")
    assert len(found) == 3
    for flag, problem in zip(("--fit", "-ngl", "-ts"), found, strict=True):
        assert problem.startswith(f"models.a.engine_flags: {flag} is refused: ")


def test_the_value_of_a_flag_that_is_refused_is_not_shown() -> None:
    (found,) = problems("models: {a: {engine_flags: [--api-key, hush]}}")
    assert found == "models.a.engine_flags: --api-key is refused: lmxd sets it; each lease has a key of its own"


def test_each_of_many_flags_has_its_whole_answer() -> None:
    flags = ("--host", "--hf-repo", "--split-mode", "--mmproj-url", "--sleep-idle-seconds", "--slot-save-path") * 6
    found = problems(f"models: {{a: {{engine_flags: [{', '.join(flags)}]}}}}")
    assert len(found) == len(flags)
    assert "the key split says whether there may be several" in found[2]
    assert "characters more" not in "".join(found)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "latin.yaml")


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    assert problems("[" * 5000)


def test_the_engines_of_twice_as_many_models_take_twice_the_work() -> None:
    def steps(count: int) -> int:
        models = {f"m{n}": {"program": f"/opt/{n}/llama-server"} for n in range(count)}
        config, taken = parse(yaml.safe_dump({"models": models}), "test"), 0

        def step(*_: object) -> None:
            nonlocal taken
            taken += 1

        sys.setprofile(step)
        try:
            Catalog(config)
        finally:
            sys.setprofile(None)
        return taken

    assert steps(80) < 2.5 * steps(40)


def variant_of(config: Config, name: str) -> str:
    return config.models[name].variant(config.engines_of_models()[name])


def test_a_variant_names_the_engines_settings_only() -> None:
    def variant(text: str) -> str:
        return variant_of(parse(yaml.safe_dump({"models": {"a": yaml.safe_load(text) or {}}}), "test"), "a")

    same = ["{}", "{context_length: 8192}", "{priority: 3}", "{pin: true}", "{idle_timeout: 9}", "{slots: 4}"]
    assert len({variant(text) for text in same}) == 1
    assert variant("{cache_type_k: q8_0}") != variant("{}")
    assert variant("{path: other.gguf}") != variant("{}")


def test_variants_are_those_that_0_4_0_named() -> None:
    """Else all that it has started would be strangers to the lmxd that comes after it, and be loaded once more."""
    command = {"command": ["/bin/x", "--port", "{port}"], "open": True, "estimated_memory_gb": 3}
    config = Config.model_validate({"models": {"a": {"path": "/m/a.gguf"}, "b": command}})
    assert variant_of(config, "a") == "8d387e883957"
    assert variant_of(config, "b") == "7ffbe6448b56"
    config = Config.model_validate({"models": {"b": command | {"upstream_name": "x"}}})
    assert variant_of(config, "b") != "7ffbe6448b56"


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ({"a": {"aliases": ["b"]}, "b": {}}, "models.a.aliases: 'b' is the name of another"),
        ({"a": {"aliases": ["x"]}, "b": {"aliases": ["x"]}}, "models.b.aliases: 'x' is the name of another"),
        ({"a": {"aliases": ["no name"]}}, "models.a.aliases: 'no name' is no model name"),
    ],
)
def test_a_name_means_one_model(models: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(yaml.safe_dump({"models": models}), "test")


def test_every_name_that_is_wrong_is_said_by_itself() -> None:
    models = {"a": {"aliases": ["no name", "b"]}, "b": {"engine": "none"}, "c": {"engine": "neither"}}
    with pytest.raises(ConfigError) as caught:
        parse(yaml.safe_dump({"models": models}), "test")
    keys = [problem.split()[0] for problem in caught.value.problems]
    assert keys == ["models.a.aliases:", "models.a.aliases:", "models.b.engine"]


def test_an_alias_makes_no_other_launch() -> None:
    found = parse("models: {a: {aliases: [x]}, b: {}}", "test")
    assert variant_of(found, "a") == variant_of(found, "b")
    assert (found.named("x"), found.named("a"), found.named("none")) == ("a", "a", "none")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("engines: {cuda: }\nmodels: {a: {engine: cud}, b: {engine: x}}",
         "models.a.engine is 'cud', models.b.engine is 'x': there is no such engine; there are llama.cpp, vllm, sglang,"
         " tgi, cuda"),
        ("engines: {cuda: {kind: exllama}}", "engines.cuda.kind is 'exllama': there is no such kind of engine; known"),
        ("engines: {llama.cpp: {kind: command}}", "'llama.cpp' is a kind of engine, but its kind is to be 'command'"),
        ("engines: {command: {}}", "'command' is the kind of engine that a profile says itself"),
        ("engines: {7: {}}", "7 is no name of an engine"),
        ("engines: {cuda: {pth: /x}}", "engines.cuda.pth: unknown key; did you mean path?"),
        ("engines: {cuda: {log_max_mb: 3}}", "log_max_mb: this holds for all engines together"),
        ("engines: {cuda: {env: {LD_PRELOAD: x}}}", "engines.cuda.environment: LD_PRELOAD is refused"),
        ("engines: {cuda: {env: {}, environment: {}}}", "env is short for environment: give one of them"),
        ("engine: cuda", "engine is 'cuda': its keys stand here"),
        ("models: {a: {engine: command}}", "engine: command is for a profile that says its command"),
        ("models: {a: {engine: llama.cpp, command: [/x, '{socket}'], estimated_memory_gb: 1}}",
         "engine: llama.cpp would not run it, for there is a command"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_engine_is_said_with_its_name(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        parse(text, "test")


def test_an_engine_that_is_called_as_a_kind_is_of_that_kind() -> None:
    """As docs/vllm.md has it: a path for all models that vLLM serves."""
    config = parse("engines: {vllm: {path: /opt/vllm}, tgi: }\nmodels: {m: {engine: vllm, path: /hf}}", "test")
    assert {name: engine.kind.value for name, engine in config.engines.items()} == {"vllm": "vllm", "tgi": "tgi"}
    engine = config.engines_of_models()["m"]
    assert (engine.kind.value, str(engine.path), engine.key) == ("vllm", "/opt/vllm", "engines.vllm.path")


def test_engines_are_as_engine_says_but_for_what_they_say() -> None:
    text = """
engine: {path: /usual, endpoint: tcp, env: {RADV_DEBUG: 1}, load_timeout: 9}
engines:
  own: {path: /own, kind: llama.cpp, environment: {}, load_timeout: 1m}
  same:
models:
  a: {engine: own}
  b: {engine: same}
  c: {engine: llama.cpp}
  d: {}
  e: {engine: command, command: [/x, '{socket}'], estimated_memory_gb: 1}
"""
    config = parse(text, "test")
    found = config.engines_of_models()
    assert {
        name: (x.name, str(x.path), x.endpoint, dict(x.environment), x.load_timeout) for name, x in found.items()
    } == {
        "a": ("own", "/own", "tcp", {}, 60),
        "b": ("same", "/usual", "tcp", {"RADV_DEBUG": "1"}, 9),
        "c": ("llama.cpp", "/usual", "tcp", {"RADV_DEBUG": "1"}, 9),
        "d": ("llama.cpp", "/usual", "tcp", {"RADV_DEBUG": "1"}, 9),
        "e": ("command", "None", "unix", {"RADV_DEBUG": "1"}, 9),
    }
    assert [x.key for x in found.values()] == ["engines.own.path", *["engine.path"] * 3, "engines.command.path"]


def test_a_launch_is_interchangeable_with_those_of_the_same_engine_alone() -> None:
    def variant(text: str, name: str = "a") -> str:
        return variant_of(parse(text, "test"), name)

    plain = variant("models: {a: }")
    assert plain == variant("models: {a: {engine: llama.cpp}}") == variant("engines: {x: }\nmodels: {a: }")
    others = [
        "engines: {x: }\nmodels: {a: {engine: x}}",
        "engines: {y: }\nmodels: {a: {engine: y}}",
        "engines: {x: {path: /x}}\nmodels: {a: {engine: x}}",
        "engines: {x: {env: {RADV_DEBUG: 1}}}\nmodels: {a: {engine: x}}",
        "engine: {path: /x}\nmodels: {a: }",
    ]
    assert len({plain, *map(variant, others)}) == 1 + len(others)
    assert variant("engines: {x: {load_timeout: 3, endpoint: tcp}}\nmodels: {a: {engine: x}}") == variant(others[0])
