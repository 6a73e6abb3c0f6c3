"""The keys of an elastic context: which steps they come to, and what they exclude."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmxd.config.elastic_keys import ElasticConfig, steps
from lmxd.config.file import parse
from lmxd.config.profile import Profile
from lmxd.errors import ConfigError


def profile(keys: str, more: str = "") -> Profile:
    return parse(f"models: {{m: {{{keys}}}}}\n{more}", "test").models["m"]


def contexts(keys: str) -> tuple[int, ...]:
    found = profile(keys)
    assert found.context_length is not None
    return found.steps(found.context_length).contexts


def test_a_context_is_fixed_unless_it_is_said_to_be_elastic() -> None:
    assert not profile("context_length: 65536").is_elastic
    assert not profile("context_length: 65536, context: fixed").is_elastic
    assert profile("context_length: 65536, context: elastic").is_elastic
    assert profile("context_length: 65536, elastic: {}").is_elastic, "saying steps makes it elastic"


def test_steps_are_four_times_each_other_unless_they_are_said() -> None:
    assert contexts("context_length: 131072, context: elastic") == (4096, 16384, 65536, 131072)
    assert contexts("context_length: 8192, context: elastic") == (4096, 8192)
    assert contexts("context_length: 4096, elastic: {start: 1024}") == (1024, 4096)
    assert contexts("context_length: 65536, elastic: {start: 4096, steps: [16384, 65536]}") == (4096, 16384, 65536)
    assert contexts("context_length: 65536, elastic: {steps: [16384]}") == (4096, 16384, 65536), "up to the top"


def test_steps_are_what_llama_server_makes_of_them_and_the_top_is_as_it_is_said() -> None:
    assert contexts("context_length: 10000, elastic: {start: 1000, steps: [3000]}") == (1024, 3072, 10000)


@given(
    start=st.none() | st.integers(256, 2**20),
    said=st.lists(st.integers(256, 2**24), max_size=8).map(sorted),
    top=st.integers(256, 2**27),
    slots=st.integers(1, 256),
)
def test_any_need_has_the_least_step_and_no_step_has_more_cells_than_the_first(
    start: int | None, said: list[int], top: int, slots: int
) -> None:
    further = tuple(step for step in said if step > (start or 4096))  # as a profile must say them
    found = steps(ElasticConfig(start=start, steps=further), top, slots, unified=False)
    assert found.top == top
    assert list(found.contexts) == sorted(set(found.contexts))
    assert all(step % 256 == 0 for step in found.contexts[:-1])
    assert found.slots_at(found.start) == slots
    for step in found.contexts:
        assert found.least(step) == step
        assert found.least(step - 1) == (step - 1 if step - 1 in found.contexts else step)
        assert found.slots_at(step) == 1 or found.slots_at(step) * step <= slots * found.start
    assert found.least(top + 1) == top + 1, "as without steps"


@given(
    start=st.integers(256, 2**16),
    said=st.lists(st.integers(256, 2**20), max_size=8, unique=True).map(sorted),
    top=st.integers(256, 2**20),
    slots=st.integers(1, 256),
)
def test_one_cache_for_all_slots_begins_with_the_first_step_of_each_and_ends_with_the_whole_context(
    start: int, said: list[int], top: int, slots: int
) -> None:
    found = steps(ElasticConfig(start=start, steps=tuple(said)), top, slots, unified=True)
    assert found.top == top
    assert all(step % found.start == 0 for step in found.contexts[:-1])
    assert list(found.sizes) == sorted(set(found.sizes))
    assert found.sizes[0] == slots
    assert found.sizes[-1] >= found.shares(top)
    assert found.shares(top) in found.sizes or slots > found.shares(top), "one has the whole context, and no more"
    assert said or all(found.sizes[n + 1] <= 2 * size for n, size in enumerate(found.sizes[:-1]))
    for size in found.sizes:
        assert found.size(size) == size
        assert found.size(size - 1) == (size - 1 if size - 1 in found.sizes else size)
    assert found.size(10**9) == found.sizes[-1], "there is none larger"


def test_sizes_of_one_cache_are_twice_each_other_unless_they_are_said() -> None:
    def sizes(keys: str) -> tuple[int, ...]:
        return profile(f"kv_unified: true, {keys}").steps(32_768).sizes

    assert sizes("context_length: 32768, slots: 12, elastic: {start: 1024}") == (12, 24, 32, 64, 128, 256)
    assert sizes("context_length: 32768, slots: 4, elastic: {start: 2048}") == (4, 8, 16, 32, 64)
    assert sizes("context_length: 32768, slots: 200, elastic: {start: 1024}") == (200, 256)
    assert sizes("context_length: 32768, slots: 1, elastic: {start: 4096}") == (1, 2, 4, 8)
    assert sizes("context_length: 32768, slots: 4, elastic: {start: 1024, steps: [16384]}") == (4, 16, 32)
    assert sizes("context_length: 32768, slots: 4, elastic: {start: 1024, steps: [16384, 65536]}") == (4, 16, 32, 64)


def test_one_cache_for_all_slots_may_be_elastic() -> None:
    assert contexts("context_length: 16384, context: elastic, kv_unified: true") == (4096, 8192, 12288, 16384)
    assert contexts("context_length: 10000, kv_unified: true, elastic: {start: 4096}") == (4096, 8192, 10000)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("context: elastic", r"context_length: an elastic context grows up to it, and it is not given: say how many"),
        ("context: elastic, context_length: 4096", r"elastic.start is 4096 by default, and context_length 4096: noth"),
        ("elastic: {start: 8192}, context_length: 8192", r"elastic.start is 8192, and context_length 8192: nothing"),
        (
            "elastic: {start: 300}, context_length: 400",
            r"elastic.start is 300 \(which llama-server rounds up to 512\), and context_length 400: nothing",
        ),
        ("context: fixed, elastic: {}, context_length: 9999", r"context: it is fixed, but elastic says steps: take"),
        (
            "elastic: {steps: [16384, 8192]}, context_length: 65536",
            r"elastic.steps has 8192, which is not more than the one before \(16384\): give them ascending",
        ),
        (
            "elastic: {steps: [4096, 8192]}, context_length: 65536",
            r"elastic.steps has 4096, which is not more than start \(4096\): give them ascending",
        ),
        (
            "elastic: {steps: [16384, 131072]}, context_length: 65536",
            r"elastic.steps has 131072, but context_length is 65536, beyond which nothing grows: take it out, or raise",
        ),
        ("context: elastic, context_length: 0, elastic: {steps: [9000, 8000]}", r"elastic.steps has 8000"),
        ("elastic: {start: 255}, context_length: 65536", r"elastic.start"),
        ("elastic: {steps: [1]}, context_length: 65536", r"elastic.steps"),
        ("context: rubber, context_length: 65536", r"context"),
        ("context: elastic, context_length: 65536, suspend: true", r"suspend: an elastic context excludes it, for its"),
        (
            "elastic: {start: 256, steps: [131072]}, context_length: 8192, kv_unified: true",
            r"elastic.steps has 131072, but with kv_unified 256 times start \(65536\) is the most: lower it",
        ),
        (
            "elastic: {start: 256, steps: [4096]}, slots: 32, context_length: 8192, kv_unified: true",
            r"elastic.steps has 4096, but with kv_unified the first cache has slots times start \(8192\)",
        ),
        (
            "elastic: {start: 256}, context_length: 131072, kv_unified: true",
            r"elastic.start is 256, which context_length \(131072\) has 512 times, .* raise start to 512",
        ),
        (
            "context: elastic, context_length: 65536, kv_unified: true, mtp: 2",
            r"mtp: an elastic context with kv_unified excludes it, for what it takes of the one cache",
        ),
        ("context: elastic, context_length: 65536, embedding: true", r"embedding: an elastic context excludes it"),
        ("context: elastic, context_length: 65536, rerank: true", r"rerank: an elastic context excludes it"),
        (
            "context: elastic, context_length: 65536, flags: [--context-shift]",
            r"engine_flags: --context-shift is excluded, for an elastic context grows instead",
        ),
    ],
)
def test_what_cannot_be_says_key_value_and_remedy(keys: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"models.m.*{sentence}"):
        profile(keys)


@pytest.mark.parametrize(
    ("keys", "engines", "sentence"),
    [
        ("engine: vllm", "", "context: vLLM has no such key"),
        ("engine: big", "engines: {big: {kind: vllm}}", "context: vLLM has no such key"),
        ("command: [/bin/x, '{socket}'], estimated_memory_gb: 1", "", "context: for other engines"),
    ],
)
def test_it_is_for_llama_server_alone(keys: str, engines: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        profile(f"{keys}, context: elastic, context_length: 65536", engines)


def test_an_engine_of_another_name_is_looked_at_with_the_whole_file() -> None:
    more = "engines: {mine: {path: /opt/llama-server}}"
    with pytest.raises(ConfigError, match="suspend: an elastic context excludes it"):
        profile("engine: mine, context: elastic, context_length: 65536, suspend: true", more)
