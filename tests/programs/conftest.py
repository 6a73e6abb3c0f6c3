"""Other engines themselves, each in a venv of its own: ``make engines`` installs and runs them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from gateway_process import Gateway
from lmxd_process import Lmxd

VENVS = os.environ.get("LMXD_ENGINES")
"""The directory of the venvs."""
RECIPES = Path(__file__).parent.parent.parent / "docs" / "recipes.md"
MAKER = Path(__file__).parent / "tiny_models.py"

collect_ignore_glob = [] if VENVS else ["test_*.py"]


def recipe(name: str) -> dict[str, Any]:
    """The profile of that name in docs/recipes.md."""
    blocks = RECIPES.read_text().split("```yaml\n")[1:]
    profiles = [yaml.safe_load(block.partition("```")[0]).get("models", {}) for block in blocks]
    found: dict[str, Any] = next(models[name] for models in profiles if name in models)
    return found


def installed(value: Any, venv: Path, model: Path) -> Any:
    """A recipe's value with the program and the model that are here in the places of those that it has."""
    if isinstance(value, dict):
        return {key: installed(each, venv, model) for key, each in value.items()}
    if isinstance(value, list):
        return [installed(each, venv, model) for each in value]
    if isinstance(value, str) and value.startswith("/opt/"):
        return str(venv / "bin" / Path(value).name)
    return str(model) if isinstance(value, str) and value.startswith("/models/") else value


Opened = Callable[[dict[str, str]], AbstractContextManager[Gateway]]
"""{name of a recipe: kind of its model} -> a gateway before an lmxd with these."""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Path]:
    """Makes a model of a kind by the Python of a venv, once."""
    place = tmp_path_factory.mktemp("models")

    def made(kind: str, venv: Path) -> Path:
        if not (place / kind).exists():
            (place / kind).mkdir()
            subprocess.run([venv / "bin/python", MAKER, kind, place / kind], check=True, capture_output=True)
        return place / kind

    return made


@pytest.fixture
def opened(tmp_path: Path, models: Callable[[str, Path], Path]) -> Opened:
    """Recipes as docs/recipes.md has them, served by their programs."""

    @contextmanager
    def open_(wanted: dict[str, str]) -> Iterator[Gateway]:
        assert VENVS is not None
        profiles = {}
        for name, kind in wanted.items():
            profile = recipe(name)
            venv = Path(VENVS).absolute() / Path(profile["command"][0]).parts[2]
            profiles[name] = installed(profile, venv, models(kind, venv)) | {"estimated_memory_gb": 1}
        config = {"engine": {"load_timeout": 240}, "models": profiles}
        with Lmxd(tmp_path, config) as lmxd, Gateway(lmxd) as gateway:
            yield gateway

    return open_
