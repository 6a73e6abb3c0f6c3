"""Keys of profiles that only llama-server has."""

from __future__ import annotations

import pytest

from lmxd.config.file import parse
from lmxd.config.llama_cpp_keys import DraftConfig, LoraConfig
from lmxd.config.profile import Profile
from lmxd.errors import ConfigError, LmxdError


def profile(text: str) -> Profile:
    return parse(f"models: {{a: {text}}}", "test").models["a"]


def test_a_bare_path_stands_for_the_usual_settings() -> None:
    found = profile("{draft: d.gguf, lora: a.gguf}")
    assert found.draft == DraftConfig.model_validate({"path": "d.gguf"})
    assert found.lora == (LoraConfig.model_validate({"path": "a.gguf"}),)
    assert [x.scale for x in profile("{lora: [a.gguf, {path: b.gguf, scale: 0.5}]}").lora] == [1, 0.5]


@pytest.mark.parametrize(
    "pattern",
    [
        "exps",
        r"blk\.(0|1|2)\.ffn_.*_exps",
        r"blk\.[0-9]*[02468]\.ffn_.*_exps\.weight",
        r"([4-9]|[1-9][0-9]+).ffn_.*_exps\.",
        r"^blk\.(?:[0-9]|1[0-9])\.ffn_(up|down)(_shexp)?\.weight$",
        r"\(a\)+[)+*]",
    ],
)
def test_the_patterns_that_people_write_are_possible(pattern: str) -> None:
    assert profile(f"{{override_tensor: '{pattern}=CPU'}}").override_tensor == (f"{pattern}=CPU",)


def test_switches_are_as_yaml_has_them() -> None:
    assert profile("{reasoning: off}").reasoning == "off"
    assert profile("{reasoning: auto, jinja: off}").jinja is False


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{draft: d.gguf, mtp: 2}", "draft and mtp exclude each other"),
        ("{chat_template: x, chat_template_file: y}", "chat_template and chat_template_file exclude each other"),
        ("{grammar: x, grammar_file: y}", "grammar and grammar_file exclude each other"),
        ("{embedding: true, rerank: true}", "embedding and rerank exclude each other"),
        ("{rerank: true, pooling: mean}", "rerank needs rank, not mean"),
        ("{embedding: true, draft: d.gguf}", "draft and mtp are for models that write text"),
        ("{engine_flags: [--embeddings], draft: d.gguf}", "draft and mtp are for models that write text"),
        ("{engine_flags: [--reranking], ngram: mod}", "draft and mtp are for models that write text"),
        ("{samplers: {repeat_last_n: -1}}", "samplers.repeat_last_n"),
        ("{threads: 513}", "threads"),
        ("{mmproj_offload: false}", "mmproj_offload is for a profile with mmproj"),
        ("{override_tensor: exps=CUDA0}", "names a GPU, which lmxd chooses"),
        ("{override_tensor: exps}", "is not PATTERN=PLACE"),
        ("{override_tensor: '(=CPU'}", "override_tensor"),
        ("{override_tensor: '(.*)*(.*)*!=CPU'}", "a group that is repeated can take for ever"),
        (r"{override_tensor: '(\w+[.])+!=CPU'}", "a group that is repeated can take for ever"),
        ("{override_tensor: '(?:a|b){2}=CPU'}", "a group that is repeated can take for ever"),
        ("{override_tensor: '.*.*.*.*.*.*.*!=CPU'}", "at most 6 repetitions"),
        ("{override_tensor: '(?i)EXPS=CPU'}", "llama-server knows (?:…), (?=…) and (?!…) alone"),
        ("{override_tensor: '(?<=ffn)_up=CPU'}", "llama-server knows (?:…), (?=…) and (?!…) alone"),
        ("{override_tensor: 'ffn.*+=CPU'}", "llama-server knows no such repetition"),
        ("{override_tensor: '[[:digit:]]=CPU'}", "'[[' is read differently by llama-server"),
        (r"{override_tensor: 'weight\Z=CPU'}", r"\\Z' is read differently by llama-server"),
        ('{override_tensor: "a\\0=CPU"}', "is read differently by llama-server"),
        *(
            (f"{{{key}: {value}}}", "'a\\x00b' has a character that no program can be given")
            for key, value in (("chat_template", '"a\\0b"'), ("grammar", '"a\\0b"'), ("engine_flags", '[-r, "a\\0b"]'))
        ),
        ("{lora: 'a:b.gguf'}", "llama-server reads , and : as separators"),
        ("{draft: d.gguf, ngram: mod}", "draft and ngram exclude each other: take one of them out"),
        ("{ngram: fast}", "input should be 'simple', 'map-k', 'map-k4v' or 'mod'"),
        ("{load_mode: fast}", "input should be 'auto', 'mmap', 'mlock', 'mmap+mlock', 'none' or 'dio'"),
        ("{n_cpu_moe: some}", "give a number of layers from 0 to 4096, or all"),
        ("{draft: {path: d.gguf, cache_type_k: q9}}", "possible are f32"),
        ("{samplers: {order: ['top k']}}", "is no name of a sampler"),
        (
            "{samplers: {order: [top_k, foo]}}",
            "'foo' is no name of a sampler, and llama-server would leave it out: dry, ",
        ),
        ("{engine_flags: [-md, d.gguf]}", "-md is refused: use the key draft instead"),
        ("{engine_flags: [-ngld, '3']}", "-ngld is refused: use the key draft.gpu_layers instead"),
        ("{engine_flags: [-cmoe]}", "-cmoe is refused: use the key n_cpu_moe instead"),
        ("{command: [/x, '{socket}'], estimated_memory_gb: 1, mmproj: p.gguf}", "mmproj"),
    ],
)
def test_what_cannot_be_is_named(text: str, sentence: str) -> None:
    with pytest.raises(LmxdError) as caught:
        profile(text)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("scales", "why"),
    [
        ("[{id: 1, scale: 1}]", "there is no adapter 1: lora has 1, and the first is 0"),
        ("[{id: -1, scale: 1}]", "there is no adapter -1"),
        ("[{id: one, scale: 1}]", "there is no adapter 'one'"),
        ("[{id: 0, scale: much}]", "scale 'much' is no number"),
        ("[{id: 0}]", "give a list of adapters"),
        ("one.gguf", "give a list of adapters"),
    ],
)
def test_adapters_that_requests_are_to_have_are_those_that_there_are(scales: str, why: str) -> None:
    for more in (f"set: {{lora: {scales}}}", f"variants: {{one: {{set: {{lora: {scales}}}}}}}"):
        with pytest.raises(LmxdError, match=r"set\.lora: ") as caught:
            parse(f"models: {{m: {{lora: one.gguf, {more}}}}}", "test")
        assert why in str(caught.value)
    parse("models: {m: {lora: one.gguf, set: {lora: [{id: 0, scale: 0.5}]}}}", "test")
    parse("models: {m: {lora: one.gguf, set: {lora: []}}}", "test")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("mlock", "use the key load_mode: mlock"),
        ("no_mmap", "use the key load_mode: none"),
        ("num_ctx", "use the key context_length"),
        ("n_gpu_layers", "use the key gpu_layers instead"),
        ("ngl", "use the key gpu_layers instead"),
        ("model", "use the key path instead"),
        ("cpu_moe", "use the key n_cpu_moe instead (n_cpu_moe: all)"),
        ("temp", "use the key samplers.temperature"),
        ("top_k", "use the key samplers.top_k"),
        ("ttl", "use the key idle_timeout"),
        ("check_tensors", "engine_flags takes it: [--check-tensors]"),
        ("xtc_threshold", "engine_flags takes it: [--xtc-threshold, VALUE]"),
        ("mmproj_url", "fetch the file, and use the key mmproj"),
        ("lorra", "did you mean lora?"),
    ],
)
def test_a_key_that_another_program_calls_otherwise_is_told_by_its_name_here(key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"models: {{m: {{{key}: 1}}}}", "test")
    (problem,) = caught.value.problems
    assert problem.startswith(f"models.m.{key}: unknown key; ")
    assert problem.endswith(words)


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        ("{mmproj: true}", "models.m.mmproj is True: give the path of a file"),
        ("{chat_template_file: 3}", "models.m.chat_template_file is 3: give the path of a file"),
        ("{engine_flags: --jinja}", "models.m.engine_flags is '--jinja': give a list, in [ ]"),
        ("{chat_template_kwargs: a}", "models.m.chat_template_kwargs is 'a': give keys and values, in { }"),
        ("{rope: yarn}", "models.m.rope is 'yarn': give keys and values of its own: scaling, scale, "),
        ("{samplers: greedy}", "models.m.samplers is 'greedy': give keys and values of its own: temperature, top_k, "),
        ("{draft: true}", "models.m.draft is True: give keys and values of its own: path, tokens, "),
    ],
)
def test_a_value_of_another_kind_is_refused_in_words_for_who_writes_it(profile: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"models: {{m: {profile}}}", "test")
    assert caught.value.problems[0].startswith(problem), caught.value.problems
