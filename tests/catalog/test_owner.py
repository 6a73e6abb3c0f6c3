"""Who serves one user alone opens that user's files wherever they are, and nobody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from house import model
from model_caches import in_hub

from lmxd.catalog.catalog import Catalog
from lmxd.config.file import parse
from lmxd.errors import LmxdError


def linked(directory: Path, owner: int | None) -> Catalog:
    """A catalog of a model that a link in the only directory for models leads out of."""
    (directory / "models").mkdir(exist_ok=True)
    model(directory, "outside")
    (directory / "models/a.gguf").symlink_to("../outside.gguf")
    return Catalog(parse(f"model_dir: {directory}/models\nmodels: {{a: {{}}}}", "test"), owner)


def test_the_user_s_own_files_may_be_anywhere(tmp_path: Path) -> None:
    made = linked(tmp_path, os.geteuid())
    assert made.file("a") == tmp_path / "models/a.gguf"
    assert made.renewed(made.config).file("a") == tmp_path / "models/a.gguf"


@pytest.mark.parametrize("owner", [None, os.geteuid() + 1])
def test_files_of_others_may_not(tmp_path: Path, owner: int | None) -> None:
    with pytest.raises(LmxdError, match="in no directory for models"):
        linked(tmp_path, owner).file("a")


def test_a_path_into_a_hub_s_cache_names_the_repository_and_no_more(tmp_path: Path) -> None:
    path = in_hub(tmp_path, "o/r", "r-Q4_0.gguf")
    out = path.with_name("out.gguf")
    out.symlink_to(model(tmp_path, "outside"))
    made = Catalog(parse(f"models: {{in: {{path: {path}}}, out: {{path: {out}}}}}", "test"))
    assert made.file("in") == path
    with pytest.raises(LmxdError, match="in no directory for models"):
        made.file("out")
