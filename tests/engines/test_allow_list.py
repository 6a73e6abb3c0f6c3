"""Flags that a profile may add to an engine in Python, and the answers to the others."""

from __future__ import annotations

import pytest

from lmxd.engines.allow_list import AllowList, is_on, value_of

LIST = AllowList(
    engine="an engine",
    switches=frozenset({"--enforce-eager"}),
    values={
        "text": frozenset({"--parser"}),
        "count": frozenset({"--block-size"}),
        "number": frozenset({"--rate"}),
        "path": frozenset({"--template"}),
        "json": frozenset({"--kwargs"}),
    },
    choices={"--dtype": ("auto", "half")},
    keys={"--max-model-len": "context_length", "-tp": "gpus"},
    uncounted={"--max-loras": "count", "--enable-lora": "switch"},
    refused={"lmxd sets it": frozenset({"--port", "-p"})},
)


@pytest.mark.parametrize(
    "words",
    [
        "--enforce-eager",
        "--enforce_eager",
        "--no-enforce-eager",
        "--block-size 16",
        "--block_size=16",
        "--rate -0.5",
        "--dtype half --parser hermes",
        '--kwargs {"a":1}',
        "--template /t.jinja",
    ],
)
def test_flags_that_are_allowed(words: str) -> None:
    assert LIST.problems(words.split()) == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--port 80", "--port is refused: lmxd sets it"),
        ("-p 80", "-p is refused: lmxd sets it"),
        ("--max_model_len=5", "--max-model-len is refused: use the key context_length instead"),
        ("-tp 2", "-tp is refused: use the key gpus instead"),
        ("--enable-lora", "--enable-lora takes bytes that are not counted: say estimated_memory_gb as well"),
        (
            "--enforce-egaer",
            "'--enforce-egaer' is not a flag of an engine that lmxd knows (did you mean --enforce-eager?)",
        ),
        ("--nonsense", "'--nonsense' is not a flag of an engine that lmxd knows"),
        ("--enforce-eager=1", "--enforce-eager takes no value"),
        ("--block-size", "--block-size needs a value"),
        ("--block-size --enforce-eager", "--block-size needs a value"),
        ("--block-size many", "--block-size is 'many': give a whole number from 0 up"),
        ("--block-size \u0661", "--block-size is '\u0661': give a whole number from 0 up"),
        ("--rate 1e9", "--rate is '1e9': give a number"),
        ("--template t.jinja", "--template is 't.jinja': give a whole path"),
        ("--kwargs [1]", "--kwargs is '[1]': give an object in JSON"),
        ("--parser=", "--parser is '': give a value"),
        ("--dtype bf16", "--dtype is 'bf16': possible are auto, half"),
        ("stray", "'stray' follows no flag that takes it"),
    ],
)
def test_flags_that_are_not(words: str, problem: str) -> None:
    assert LIST.problems(words.split()) == [problem]


def test_each_wrong_flag_has_its_answer_and_the_right_ones_none() -> None:
    words = "--port 80 --enforce-eager --nonsense 5 --block-size 16 --kwargs {".split()
    assert [problem.split()[0] for problem in LIST.problems(words)] == ["--port", "'--nonsense'", "--kwargs"]


def test_flags_that_nobody_counted_are_allowed_where_the_bytes_are_declared() -> None:
    assert LIST.problems(["--enable-lora", "--max-loras", "4"], declared=True) == []
    assert LIST.problems(["--max-loras", "x"], declared=True) == ["--max-loras is 'x': give a whole number from 0 up"]
    assert LIST.problems(["--port", "1"], declared=True) == ["--port is refused: lmxd sets it"]


def test_json_that_is_too_deep_is_none() -> None:
    assert "give an object" in LIST.problems(["--kwargs", "[" * 10_000])[0]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--dtype", "half"], "half"),
        (["--dtype=half"], "half"),
        (["--dtype", "auto", "--dtype=half"], "half"),
        (["--d_type", "x"], None),
        (["--max_x", "4"], None),
        ([], None),
        (["--dtype"], ""),
    ],
)
def test_the_value_of_a_flag_is_that_of_the_last(words: list[str], value: str | None) -> None:
    assert value_of(words, "--dtype") == value


def test_a_value_is_found_in_each_spelling() -> None:
    assert value_of(["--block_size", "8"], "--block-size") == "8"
    assert value_of(["-q", "awq"], "--quantization", "-q") == "awq"


@pytest.mark.parametrize(
    ("words", "on"),
    [
        ([], False),
        (["--enforce-eager"], True),
        (["--enforce_eager", "--no-enforce-eager"], False),
        (["--other"], False),
    ],
)
def test_the_last_of_a_switch_and_its_negative_counts(words: list[str], on: bool) -> None:
    assert is_on(words, "--enforce-eager") is on
    assert is_on([], "--enforce-eager", usual=True)
