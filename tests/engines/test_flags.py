"""The answer to each flag of each build's ``--help``, in each of its spellings."""

from __future__ import annotations

import lzma
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from house import fake_engine

from lmxd.catalog.size import Size, launch_at
from lmxd.config.llama_cpp_keys import DraftConfig
from lmxd.config.profile import Profile
from lmxd.engines.llama_cpp import flags
from lmxd.engines.llama_cpp.binary import Binary, find, flags_of, probe
from lmxd.engines.llama_cpp.flag_values import KINDS
from lmxd.engines.llama_cpp.load_mode import MODES, spelled
from lmxd.migrate import environment
from lmxd.migrate.report import Report
from lmxd.migrate.words import settings

HELPS = Path(__file__).parent / "helps"
BUILDS = ("10068", "10434", "11434")
OF_ITS_OWN = ("-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "--spec-type")
"""Flags of which an import says more than that they are refused."""
_KEY = re.compile(r"use the key (\S+) instead")


@dataclass(frozen=True)
class Printed:
    """A flag as a help text has it: all of its names, how many values follow, and the choices among them."""

    names: tuple[str, ...]
    arity: int
    choices: tuple[str, ...]
    variable: str


def text_of(build: str) -> str:
    return lzma.decompress((HELPS / f"{build}.txt.xz").read_bytes()).decode()


def printed(text: str) -> list[Printed]:
    found = []
    for entry in re.split(r"\n(?=--?[A-Za-z])", text)[1:]:
        head = re.split(r"\s{2,}(?=[A-Za-z(])|\n", re.sub(r"^((?:-\w+),)\s+", r"\1 ", entry))[0]
        head = re.sub(r",\s+", ", ", head).strip()
        names = re.findall(r"(?<![\w<{\[.|,/-])--?[A-Za-z][\w.-]*", head)
        rest = head[head.rindex(names[-1]) + len(names[-1]) :].strip()
        choices = re.fullmatch(r"[\[{<]([\w|,-]+)[\]}>]", rest)
        listed = tuple(re.split(r"[|,]", choices[1])) if choices and not re.search(r"dev\d|name|repo", rest) else ()
        variable = re.search(r"\(env: (\w+)\)", entry)
        found.append(
            Printed(tuple(names), 2 if rest == "START END" else bool(rest), listed, variable[1] if variable else "")
        )
    return found


ALL = list(dict.fromkeys(flag for build in BUILDS for flag in printed(text_of(build))))


def each(flags_printed: list[Printed]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("flag", flags_printed, ids=[" ".join(flag.names) for flag in flags_printed])


def answer(*words: Any) -> str:
    """What a profile with these words as engine_flags is told; empty if they are taken."""
    try:
        Profile.model_validate({"engine_flags": list(words)})
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("build", BUILDS)
def test_no_flag_of_a_known_build_is_strange(build: str) -> None:
    names = flags_of(text_of(build))
    assert names == {name for flag in printed(text_of(build)) for name in flag.names}
    assert len(names) > 350
    assert names <= flags.FLAGS.keys()


@each(ALL)
def test_each_flag_has_an_answer_of_its_own(flag: Printed) -> None:
    for name in flag.names:
        known = flags.FLAGS[name]
        if known.allowed:
            continue
        for words in ((name,), (name, "1"), (f"{name}=1",)):
            said = answer(*words)
            assert f"{name} is refused: " in said
            assert "did you mean" not in said
            assert "is no flag, and no value" not in said or not flag.arity
        if key := _KEY.search(answer(name)):
            assert all(part in fields for part, fields in _path(key[1]))


def _path(key: str) -> list[tuple[str, Any]]:
    first, _, second = key.partition(".")
    return [(first, Profile.model_fields), *([(second, DraftConfig.model_fields)] if second else [])]


@each(ALL)
def test_each_flag_takes_as_many_values_as_the_engine_reads(flag: Printed) -> None:
    assert {flags.FLAGS[name].arity for name in flag.names} == {flag.arity}


@each([flag for flag in ALL if flag.choices])
def test_each_choice_of_the_engine_is_taken_and_no_other(flag: Printed) -> None:
    for name in flag.names:
        if flags.FLAGS[name].allowed and "..." not in flag.choices:
            assert set(flags.FLAGS[name].choices) == set(flag.choices)
            assert all(answer(name, choice) == "" for choice in flag.choices)
            assert f"{name} is 'perhaps': possible are " in answer(name, "perhaps")


@each(ALL)
def test_each_flag_is_imported_or_said_to_be_left_out(flag: Printed) -> None:
    values = dict.fromkeys(KINDS, "1") | {"json": "{}", "range": "0-1", "bias": "5-1", "text": "x"}
    for name in flag.names:
        known = flags.FLAGS[name]
        value = known.choices[0] if known.choices else values[known.kind]
        report = Report()
        found = settings([name, *[value] * flag.arity], report.about("m"))
        found.pop("context_length", None)
        assert found or report.left or report.unneeded, name
        if known.refusal is not None and report.left:
            assert known.refusal.why in report.left[0] or name in OF_ITS_OWN, report.left


@each([flag for flag in ALL if flag.variable.startswith("LLAMA_ARG_")])
def test_each_variable_is_one_of_the_names_of_its_flag(flag: Printed) -> None:
    assert environment.flag_of(flag.variable) in flag.names


@each(ALL)
def test_each_flag_is_known_without_its_dashes_as_presets_have_it(flag: Printed) -> None:
    for name in flag.names:
        assert environment.flag_named(name.lstrip("-")) in flag.names


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--temp"], "--temp needs a value"),
        (["--temp", "--jinja"], "--temp needs a value"),
        (["--temp", "warm"], "--temp is 'warm', which is no number"),
        (["--temp", "1e99"], "--temp is '1e99', which is no number"),
        (["--top-k", 0.5], "--top-k is '0.5', which is no whole number"),
        (["--top-k", 2**31], "which is no whole number of 32 bits"),
        (["--mirostat", True], "--mirostat is 'on': possible are 0, 1, 2"),
        (["--prio", 4], "--prio is '4': possible are -1, 0, 1, 2, 3"),
        (["--repeat-penalty", 0], "--repeat-penalty is '0', which is no number above 0"),
        (["--repeat-last-n", -1], "--repeat-last-n is '-1', which is no whole number from 0 up"),
        (["--dry-penalty-last-n", -1], "which is no whole number from 0 up"),
        (["--reasoning-budget", -2], "which is no whole number from -1 up"),
        (["--spec-ngram-mod-n-min", 1025], "which is no whole number from 0 to 1024"),
        (["--spec-ngram-mod-n-match", 0], "which is no whole number from 1 to 1024"),
        (["--spec-ngram-map-k4v-size-n", 1025], "which is no whole number from 1 to 1024"),
        (["--spec-ngram-simple-min-hits", 0], "which is no whole number from 1 up"),
        (["--threads-batch", 99999], "which is no number of threads from -1 to 512"),
        (["--threads-http", 99999], "which is no number of threads from -1 to 512"),
        (["-Cr", "0-512"], "-Cr is '0-512', which is no range of CPUs, such as 0-3"),
        (["-C", "xyz"], "-C is 'xyz', which is no mask of CPUs, such as ff"),
        (["-Cr", "3"], "-Cr is '3', which is no range of CPUs, such as 0-3"),
        (["-l", "hello"], "-l is 'hello', which is no bias, such as 15043-1"),
        (["--jinja", True], "'on' is no flag, and no value of --jinja"),
        (["--jinja=true"], "--jinja is a switch: write it without a value"),
        (["--top_k", 5], "--top-k: write it so, with - in place of _"),
        (["--ctx_size", 5], "--ctx-size is refused: use the key context_length instead"),
        (["-j", "{"], "-j is '{', which is no JSON object"),
        (["loose"], "'loose' is no flag, and no value of one"),
        (["--turbo-vram", 5], "'--turbo-vram' is not a flag that a profile may add: nobody knows what it does"),
        (["--chat-templates", "x"], "did you mean --chat-template?"),
        (["--ngl", 5], "did you mean -ngl, which is the key gpu_layers?"),
    ],
)
def test_what_is_wrong_with_a_flag_is_said(words: list[Any], sentence: str) -> None:
    assert sentence in answer(*words)


@pytest.mark.parametrize(
    "words",
    [["--temp", 0.5], ["--temp", -1], ["--top-k", 40], ["--seed", 2**32 - 1], ["--rope-freq-base", "1e6"],
     ["-r", "-x"], ["-j", '{"type": "object"}'], ["--reasoning", False], ["--cpu-mask", "ff"], ["-l", "15043-1"],
     ["-Cr", "-3"], ["--prio", -1]],
)  # fmt: skip
def test_numbers_and_texts_are_taken_as_yaml_has_them(words: list[Any]) -> None:
    assert answer(*words) == ""


def build(name: str) -> Binary:
    return Binary(Path("/x"), f"{name} (x)", frozenset(flags_of(text_of(name))))


@pytest.mark.parametrize(
    ("mode", "older"),
    [
        ("auto", []),
        ("mmap", ["--mmap"]),
        ("none", ["--no-mmap"]),
        ("mlock", ["--no-mmap", "--mlock"]),
        ("mmap+mlock", ["--mmap", "--mlock"]),
        ("dio", ["--direct-io"]),
    ],
)
def test_how_the_file_is_read_is_said_in_the_words_of_the_build(mode: str, older: list[str]) -> None:
    said = ["--temp", "1", "--load-mode", mode]
    assert list(spelled(build("10068").knows, said)) == ["--temp", "1", *older]
    assert list(spelled(build("11434").knows, said)) == ["--temp", "1", *(["--load-mode", mode] if older else [])]
    assert mode in MODES


def test_flags_of_older_builds_for_reading_the_file_work_in_newer_ones() -> None:
    assert list(spelled(build("11434").knows, ["--mlock", "--no-mmap"])) == ["--load-mode", "mlock"]
    assert build("11434").lacking(["--mlock", "--no-mmap", "--reasoning-effort", "low"]) == []
    assert build("10068").lacking(["--mlock", "--reasoning-effort", "low"]) == ["--reasoning-effort"]


@pytest.mark.parametrize(
    ("line", "mode"),
    [("--mlock", "mmap+mlock"), ("--mlock --no-mmap", "mlock"), ("-lm none", "none"), ("-dio", "dio"), ("--mmap", None),
     ("--no-mmap --mmap", None)],
)  # fmt: skip
def test_an_import_has_one_key_for_how_the_file_is_read(line: str, mode: str | None) -> None:
    found = settings(line.split(), Report().about("m"))
    assert found.get("load_mode") == mode
    launch = launch_at(Size(), Profile.model_validate(found), lambda said: said or 4096)
    assert launch.mmap == (mode in (None, "mmap+mlock"))


def test_a_build_with_a_flag_that_nobody_knows_is_checked_by_its_own_dry_run() -> None:
    known = build("11434")
    newer = Binary(known.path, "0.6.0 (build 1)", known.flags | {"--moe-vram-cache", "-mvc"})
    assert known.family.known
    assert known.strange == []
    assert not newer.family.known
    assert newer.family.first == known.family.first
    assert newer.strange == ["--moe-vram-cache", "-mvc"]
    assert not Binary(known.path, "99999 (x)", known.flags).family.known


def test_builds_without_a_number_are_recognised_by_their_flags() -> None:
    found = [Binary(Path("/x"), "1 (571d0d5)", frozenset(flags_of(text_of(name)))).family for name in BUILDS]
    assert [(build.first, build.known) for build in found] == [(10068, True), (10068, True), (11400, True)]


def test_the_build_at_hand_has_no_strange_flag(tmp_path: Path) -> None:
    assert probe(find(None)).strange == []
    assert probe(fake_engine(tmp_path)).strange == []
