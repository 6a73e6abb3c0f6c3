"""Values as people write them: merged mappings, times with units, paths with variables."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lmxd.config.file import parse
from lmxd.config.yaml_text import BadYaml, load
from lmxd.errors import ConfigError

SHARED = """
x-base: &base {context_length: 8192, slots: 2, aliases: [one]}
x-large: &large {context_length: 32768, gpu_layers: 12}
models:
  plain: {<<: *base}
  own: {<<: *base, slots: 4, aliases: []}
  both:
    <<: [*large, *base]
    aliases: []
  chained: &chained {<<: *large, slots: 3}
  last: {<<: *chained, gpu_layers: all}
"""


def test_merged_mappings_and_sections_for_shared_parts() -> None:
    config = parse(SHARED, "test")
    assert not config.warnings
    figures = {name: (p.context_length, p.slots, p.gpu_layers) for name, p in config.models.items()}
    assert figures == {
        "plain": (8192, 2, None),
        "own": (8192, 4, None),
        "both": (32768, 2, 12),
        "chained": (32768, 3, 12),
        "last": (32768, 3, None),
    }
    assert (config.models["plain"].aliases, config.models["own"].aliases) == (("one",), ())


@pytest.mark.parametrize("text", ["a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: [*b, {<<: *b}, {x: 3, <<: *b, z: 4}, *b]\n"])
def test_merged_mappings_mean_what_they_mean_to_others(text: str) -> None:
    assert load(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &a {x: 1}\nb: {<<: *a, x: 2, x: 3}", "the key 'x' is given twice"),
        ("a: &a {x: 1, x: 2}\nb: {<<: *a}", "line 1: the key 'x' is given twice"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "the key '<<' is given twice"),
        ("b: {<<: 3}", "expected a mapping"),
        ("b: {<<: [3]}", "expected a mapping"),
        ("b: {<<: *none}", "found undefined alias"),
        ("b: &b {<<: *b}", "an alias refers to what it is in"),
    ],
)
def test_what_cannot_be_merged_is_named(text: str, why: str) -> None:
    with pytest.raises(BadYaml, match=why):
        load(text)


def test_merged_mappings_of_merged_mappings_are_bounded() -> None:
    """Without bounds, a thousand lines come to half a million keys."""
    lines = ["m0: &m0 {k: 1}"] + [f"m{n}: &m{n} {{<<: *m{n - 1}, k{n}: 1}}" for n in range(1, 1000)]
    with pytest.raises(BadYaml, match="aliases filled in"):
        load("\n".join(lines))


def test_a_shared_section_is_for_any_content_but_only_at_the_top() -> None:
    assert parse("x-any: [1, {b: 2}]\nx-: 3", "test").models == {}
    with pytest.raises(ConfigError, match="unknown key"):
        parse("models: {a: {x-b: 1}}", "test")
    with pytest.raises(ConfigError, match="xany: unknown key"):
        parse("xany: 1", "test")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("90", 90), ("'90'", 90), ("10m", 600), ("1h30m", 5400), ("1h 30m", 5400), ("1.5s", 1.5), ("2d", 172800)],
)
def test_times_have_units(said: str, seconds: float) -> None:
    text = f"idle_timeout: {said}\nengine: {{load_timeout: {said}}}\ngateway: {{wait: {said}}}\n"
    config = parse(text + f"models: {{a: {{idle_timeout: {said}}}}}", "test")
    assert config.idle_timeout == config.engine.load_timeout == config.gateway.wait == seconds
    assert config.idle_timeout_of(config.models["a"]) == seconds


def test_an_instance_may_never_time_out() -> None:
    config = parse("idle_timeout: 10m\nmodels: {a: {idle_timeout: never}, b: {}}", "test")
    assert config.idle_timeout_of(config.models["a"]) >= 10**9
    assert config.idle_timeout_of(config.models["b"]) == 600
    assert parse("idle_timeout: never", "test").idle_timeout >= 10**9


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("idle_timeout: soon", "idle_timeout is 'soon': give seconds, or a time with units"),
        ("idle_timeout: -5m", "idle_timeout is '-5m'"),
        ("idle_timeout: 0s", "greater than 0"),
        ("idle_timeout: nan", "idle_timeout is 'nan'"),
        ("idle_timeout: inf", "idle_timeout is 'inf'"),
        ("idle_timeout: 5 parsecs", "idle_timeout is '5 parsecs'"),
        ("engine: {stop_timeout: never}", "engine.stop_timeout is 'never'"),
        ("models: {a: {path: '${env.LMXD_NOT_SET}/x'}}", "models.a.path is '${env.LMXD_NOT_SET}/x'"),
        (
            "engine: {path: '${env.LMXD_NOT_SET}/x'}",
            "the environment has no LMXD_NOT_SET: set it where lmxd is started",
        ),
        ("model_dirs: ['${env.not a name}']", "names no variable"),
        ("model_dir: '${env.LMXD_EMPTY}'", "the environment has no LMXD_EMPTY"),
    ],
)
def test_a_value_that_means_nothing_is_named(text: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMXD_EMPTY", "")
    with pytest.raises(ConfigError) as caught:
        parse(text, "test")
    assert problem in str(caught.value)


def test_paths_have_variables_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "/data/models")
    monkeypatch.setenv("NESTED", "${env.MODELS}")
    config = parse(
        """
        model_dir: ${env.MODELS}
        model_dirs: ["${env.MODELS}/${env.MODELS}"]
        engine: {path: "${env.MODELS}/llama-server"}
        gateway: {keys_file: "${env.NESTED}/keys"}
        models:
          a: {path: "${env.MODELS}/a.gguf"}
          b: {command: ["${env.MODELS}/serve", --at, "{socket}"], env: {KEY: "${env.MODELS}"}, estimated_memory_gb: 1}
        """,
        "test",
    )
    assert (config.model_dir, config.model_dirs) == (Path("/data/models"), (Path("/data/models//data/models"),))
    assert config.engine.path == Path("/data/models/llama-server")
    assert config.gateway.keys_file == Path("${env.MODELS}/keys"), "a value is not looked through again"
    assert config.models["a"].path == Path("/data/models/a.gguf")
    assert config.models["b"].command == ("/data/models/serve", "--at", "{socket}")
    assert config.models["b"].env == {"KEY": "/data/models"}
