"""Any configuration at all is either one that can be used, or refused with a reason."""

from __future__ import annotations

import yaml
from examples import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.layout import Layout
from lmxd.config.engine import EngineConfig, NamedEngineConfig
from lmxd.config.file import parse
from lmxd.config.profile import Profile
from lmxd.config.quotas import GroupConfig, KeyConfig, UserConfig
from lmxd.config.schema import AdmissionConfig, Config, GpuConfig
from lmxd.daemon.rules import policy_of, unknown_users
from lmxd.errors import ConfigError, LmxdError

KEYS = sorted(
    {
        key
        for section in (Config, GpuConfig, AdmissionConfig, UserConfig, EngineConfig, Profile)
        for key in section.model_fields
    }
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["host", "GPU-a", "all", "auto", "q8_0", "never", "/bin/true", "--mlock", "{port}", "{x}", "../x"]
    )
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5) | st.integers(), inner, max_size=5)
    ),
    max_leaves=20,
)


def section(model: type[BaseModel]) -> st.SearchStrategy[dict[str, object]]:
    """Its own keys, under which anything stands."""
    return st.dictionaries(
        st.sampled_from(sorted(model.model_fields)), SCALARS | st.lists(SCALARS, max_size=2), max_size=2
    )


def named(model: type[BaseModel]) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from(["m", "n"]) | st.text(max_size=4), st.none() | section(model), max_size=2)


NEARLY_RIGHT = st.fixed_dictionaries(
    {},
    optional={
        "gpu": section(GpuConfig),
        "admission_control": section(AdmissionConfig),
        "engine": section(EngineConfig),
        "engines": named(NamedEngineConfig),
        "users": named(UserConfig),
        "groups": named(GroupConfig),
        "keys": named(KeyConfig),
        "models": named(Profile),
    },
)
"""Of random trees hardly one is a configuration."""


@given(st.dictionaries(st.sampled_from(sorted(Config.model_fields)), TREES, max_size=6) | NEARLY_RIGHT)
@example({"users": {"\0": None}})
@example({"groups": {"\0": None}})
@settings(max_examples=examples(150))
def test_any_tree(tree: dict[str, object]) -> None:
    text = yaml.safe_dump(tree, allow_unicode=True)
    try:
        config = parse(text, "fuzz")
    except ConfigError as error:
        assert error.problems
        assert all(problem.strip() for problem in error.problems)
        return
    policy_of(config)
    unknown_users(config)
    catalog = Catalog(config)
    for name in config.models:
        try:
            catalog.resolve(name).ask(Layout())
        except LmxdError as error:
            assert error.code != "internal"


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
@settings(max_examples=examples(150))
def test_any_text(text: str) -> None:
    try:
        parse(text, "fuzz")
    except ConfigError as error:
        assert error.problems
