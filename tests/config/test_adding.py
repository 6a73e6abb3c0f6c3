"""What is added to a configuration: it means what it did, with the profile, and keeps every line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmxd.config import yaml_text
from lmxd.config.adding import with_profiles, with_setting
from lmxd.config.names import is_name
from lmxd.errors import LmxdError

NAMES = st.from_regex(r"[a-z][a-z0-9.:-]{0,9}(/[a-z0-9.:-]{0,9}[a-z0-9])?", fullmatch=True).filter(is_name)
INDENTS = st.integers(1, 6).map(lambda count: " " * count)
COMMENTS = st.sampled_from(["", "   # mine", " #"])
SETTINGS = st.fixed_dictionaries({"path": NAMES.map("/m/{}".format)}, optional={"slots": st.integers(1, 4)})


@st.composite
def configurations(draw: st.DrawFn) -> str:
    """Configurations as people write them."""
    lines = [
        "# a comment",
        *draw(st.lists(st.sampled_from(["", "idle_timeout: 5", "# more"]), max_size=2, unique=True)),
    ]
    names = draw(st.lists(NAMES.map("old-{}".format), max_size=3, unique=True))
    indent = draw(INDENTS)
    if names:
        lines.append(f"models:{draw(COMMENTS)}")
        for name in names:
            lines += [draw(st.sampled_from(["", f"{indent}# of it"])), f"{indent}{name}: {{path: /m/x}}"]
    elif draw(st.booleans()):
        lines.append(
            draw(st.sampled_from(["models: {}", "models: null", "models: ~  # none", "models:", "models: { }"]))
        )
    lines += draw(
        st.lists(st.sampled_from(["gpu: {}", "# the end", "engine:\n  load_timeout: 7"]), max_size=2, unique=True)
    )
    return "\n".join(lines) + draw(st.sampled_from(["", "\n"]))


@given(
    configurations(),
    st.dictionaries(NAMES.map("new-{}".format), SETTINGS, min_size=1, max_size=3),
    st.text(max_size=30),
)
def test_profiles_are_added_and_all_else_stays(text: str, profiles: dict[str, dict[str, object]], note: str) -> None:
    made = with_profiles(text, profiles, dict.fromkeys(profiles, note))
    before = yaml_text.load(text) or {}
    assert yaml_text.load(made) == {**before, "models": {**(before.get("models") or {}), **profiles}}
    kept = iter(made.splitlines())
    for line in text.splitlines():
        if not line.startswith("models:"):
            assert line in kept, "each line stays, in its order"


@given(configurations())
def test_a_setting_is_added_at_the_end(text: str) -> None:
    made = with_setting(text, "model_dirs", ["/a", "/b"])
    assert yaml_text.load(made) == {**(yaml_text.load(text) or {}), "model_dirs": ["/a", "/b"]}
    assert made.startswith(text.rstrip("\n"))


@pytest.mark.parametrize(
    "text",
    [
        "models: {a: {path: /x}}\n",
        "models: &all\n  a: {path: /x}\nx-more: *all\n",
        "{models: {}}\n",
        "idle_timeout: [\n",
        "- a\n",
    ],
)
def test_a_text_that_cannot_be_added_to_is_told_with_what_to_add(text: str) -> None:
    with pytest.raises(LmxdError, match=r"add it by hand: b: path: /y") as caught:
        with_profiles(text, {"b": {"path": "/y"}})
    assert caught.value.code == "config"


SAID = {"new": {"path": "/m/n"}}
ADDED = "  new:\n    path: /m/n\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("\ufeffmodels:\n  a: {path: /m/x}\n", f"\ufeffmodels:\n{ADDED}  a: {{path: /m/x}}\n"),
        ('"models":\n  a: {path: /m/x}\n', f'"models":\n{ADDED}  a: {{path: /m/x}}\n'),
        ("models :\n  a: {path: /m/x}\n", f"models :\n{ADDED}  a: {{path: /m/x}}\n"),
        ("models: &all\n  a: {path: /m/x}\n", f"models: &all\n{ADDED}  a: {{path: /m/x}}\n"),
        (
            'x-said: "\nmodels:\n"\nmodels:\n  a: {path: /m/x}',
            f'x-said: "\nmodels:\n"\nmodels:\n{ADDED}  a: {{path: /m/x}}',
        ),
        ("x-said: >\n  models:\nmodels: {}\n", f"x-said: >\n  models:\nmodels:\n{ADDED}"),
        ("x-said: {\nmodels:\n 1}\n", f"x-said: {{\nmodels:\n 1}}\n\nmodels:\n{ADDED}"),
        ("# a\u2028# models:\nmodels:\n", f"# a\u2028# models:\nmodels:\n{ADDED}"),
        ("gpu: {}", f"gpu: {{}}\n\nmodels:\n{ADDED}"),
    ],
)
def test_the_section_is_found_however_it_is_written_and_nothing_else_is_touched(before: str, after: str) -> None:
    assert with_profiles(before, SAID) == after


@given(configurations())
def test_lines_end_as_they_did(text: str) -> None:
    """An editor of another system ends lines with two characters: a change of each would be one of the whole file."""
    theirs = text.replace("\n", "\r\n")
    for made in (with_profiles(theirs, SAID), with_setting(theirs, "model_dirs", ["/a"])):
        assert "\n" not in made.replace("\r\n", "") or "\n" not in text
        kept = iter(made.splitlines(keepends=True))
        for line in theirs.splitlines(keepends=True):
            if not line.startswith("models:") and line.endswith("\n"):
                assert line in kept


PIECES = st.sampled_from(
    "models: |  a: {path: /m/x}|models: {}|x-a: >|  models:|x-b: '|'|---|\t|\ufeff|\x85|\u2028|x-m: &m|  <<: *m|"
    '? models|{|}|%YAML 1.1|\x00|models: &k|"|\ud800'.split("|")
)


@given(st.one_of(st.lists(PIECES).map("\n".join), st.lists(PIECES).map("\r\n".join), st.text()), st.text(max_size=20))
def test_whatever_the_text_it_is_added_to_or_an_error_says_what_to_add(text: str, note: str) -> None:
    for setting in (False, True):
        try:
            made = with_setting(text, "model_dirs", ["/a"]) if setting else with_profiles(text, SAID, {"new": note})
        except LmxdError as error:
            assert "add it by hand" in str(error)
        else:
            kept = {key: value for key, value in (yaml_text.load(text) or {}).items() if key != "models"}
            assert kept.items() <= yaml_text.load(made).items()
