"""What profiles set and strip, and their variants: what loads, and what is refused with its key, value and remedy."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lmxd.config.file import parse
from lmxd.errors import ConfigError


def test_what_llama_swaps_users_write() -> None:
    config = parse(
        """
        models:
          qwen3:
            aliases: [gpt-4o, 'team/qwen:latest']
            set: {temperature: 0.6, stop: [a, null], chat_template_kwargs: {enable_thinking: off}}
            strip: 'top_p, seed,,top_p , chat_template_kwargs.x'
            variants:
              thinking: {set: {chat_template_kwargs.enable_thinking: true}, strip: [min_p], aliases: [thinker]}
              plain:
          b: {set: , strip: , variants: }
        """,
        "test",
    )
    profile = config.models["qwen3"]
    assert profile.set == {"temperature": 0.6, "stop": ["a", None], "chat_template_kwargs": {"enable_thinking": False}}
    assert profile.strip == ("top_p", "seed", "chat_template_kwargs.x")
    assert profile.variants["thinking"].set == {"chat_template_kwargs.enable_thinking": True}
    assert (config.models["b"].set, config.models["b"].strip, config.models["b"].variants) == ({}, (), {})
    variants = ("qwen3:thinking", "gpt-4o:thinking", "team/qwen:thinking", "thinker", "qwen3:plain", "team/qwen:plain")
    assert {config.named(name) for name in variants} == {"qwen3"}
    assert all(config.is_variant(name) for name in variants)
    for name in ("qwen3", "gpt-4o", "b", "none", "b:thinking", "team/qwen:latest:thinking"):
        assert not config.is_variant(name)


def test_filters_make_no_other_launch() -> None:
    models = "{a: {}, b: {set: {temperature: 1}}, c: {strip: seed}, d: {variants: {t: {set: {seed: 1}}}}}"
    config = parse(f"models: {models}", "test")
    found = config.engines_of_models()
    assert len({profile.variant(found[name]) for name, profile in config.models.items()}) == 1


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("set: {model: x}", "models.q.set: model cannot be set or stripped: the name that is asked for says"),
        ("set: {stream: true}", "models.q.set: stream cannot be set or stripped: a client reads its answer as"),
        ("strip: [stream_options.include_usage]", "models.q.strip is ['stream_options.include_usage']: stream_options"),
        ("strip: 'seed, id_slot'", "models.q.strip is 'seed, id_slot': id_slot cannot be set or stripped: lmxd says"),
        ("variants: {t: {set: {model: 1}}}", "models.q.variants.t.set: model cannot be set or stripped"),
        ("variants: {t: {strip: model}}", "models.q.variants.t.strip is 'model': model cannot be set or stripped"),
        ("set: {a: .nan}", "models.q.set: a: JSON has no such number"),
        ("set: {a: [{b: -.inf}]}", "models.q.set: a: JSON has no such number"),
        ("set: {a: {b: 2024-01-01}}", "models.q.set: a: JSON has no such value, unless it is quoted"),
        ("set: {a: [100000000000000000000000]}", "models.q.set: a: a whole number in it has more than 64 bits"),
        ('set: {a: "\\ud800"}', "models.q.set: a: half a character is in it"),
        ("set: {3: 1}", "models.q.set: 3 is no name of a parameter: quote it"),
        ("set: {on: 1}", "models.q.set: True is no name of a parameter: quote it"),
        ("set: {a..b: 1}", "models.q.set: 'a..b' is no name of a parameter"),
        ("strip: ['']", "models.q.strip is ['']: '' is no name of a parameter"),
        ("set: [a]", "models.q.set is ['a']: give keys and values, in { }"),
        ("strip: {a: 1}", "models.q.strip: give a list, in [ ]"),
        ("variants: {latest: }", "models.q.variants: 'latest' is no tag: NAME:latest is NAME itself, as ollama has it"),
        ("variants: {'a:b': }", "models.q.variants: 'a:b' is no tag: letters, digits and . _ @ + -"),
        ("variants: {a/b: }", "models.q.variants: 'a/b' is no tag"),
        ("variants: {3: }", "models.q.variants: 3 is no tag: quote it"),
        ("variants: {t: {stirp: a}}", "models.q.variants.t.stirp: unknown key; did you mean strip?"),
        ("variants: {t: {aliases: [no name]}}", "models.q.variants.t: 'no name' is no model name"),
        ("variants: {%s: }" % ("t" * 127), "is no model name: letters, digits"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(profile: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        parse(f"models: {{q: {{{profile}}}}}", "test")


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ("q: {variants: {t: }}, 'q:t': ", "models.q.variants.t: 'q:t' is the name of another"),
        ("b: {aliases: ['q:t']}, q: {variants: {t: }}", "models.q.variants.t: 'q:t' is the name of another"),
        ("q: {variants: {t: }}, b: {aliases: ['q:t']}", "models.q.variants.t: 'q:t' is the name of another"),
        ("q: {aliases: [x], variants: {t: }}, 'x:t': ", "models.q.variants.t: 'x:t' is the name of another"),
        ("q: {variants: {t: {aliases: [b]}}}, b: ", "models.q.variants.t: 'b' is the name of another"),
        ("q: {variants: {t: {aliases: ['q:u']}, u: }}", "models.q.variants.u: 'q:u' is the name of another"),
        ("q: {variants: {t: }}, 'q:latest': {variants: {t: }}", "models.q:latest.variants.t: 'q:t' is the name of"),
    ],
)
def test_a_name_of_a_variant_means_one_thing(models: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(f"models: {{{models}}}", "test")


def test_an_unknown_key_is_told_those_of_its_own_section() -> None:
    with pytest.raises(ConfigError, match=r"models\.gpu\.variants\.t\.x: unknown key; known here: set, strip, aliases"):
        parse("models: {gpu: {variants: {t: {x: 1}}}}", "test")
    with pytest.raises(ConfigError, match=r"models\.gpu\.pth: unknown key; did you mean path"):
        parse("models: {gpu: {pth: 1}}", "test")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(set=st.dictionaries(st.text(max_size=5), VALUES, max_size=3), strip=st.lists(st.text(max_size=5)) | st.text())
def test_anything_at_all_is_taken_or_refused(set: dict[str, object], strip: object) -> None:
    text = yaml.safe_dump({"models": {"q": {"set": set, "strip": strip, "variants": {"t": {"set": set}}}}})
    try:
        found = parse(text, "test").models["q"]
    except ConfigError:
        return
    assert found.set == found.variants["t"].set == set
    assert not {"model", "stream"} & {*found.set, *found.strip}
