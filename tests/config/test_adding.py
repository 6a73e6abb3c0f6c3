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
