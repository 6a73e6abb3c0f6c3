"""Further keys of a profile that ``lmxd pull`` adds: held against the schema before anything is fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lmxd.config.copied import BesideKey
from lmxd.config.profile import Profile
from lmxd.config.schema import Config
from lmxd.errors import LmxdError
from lmxd.models.url_model import with_files
from lmxd.text import shortened


def further_keys(
    text: str, beside: Sequence[tuple[BesideKey, str]], config: Config, engine: Mapping[str, str]
) -> dict[str, Any]:
    """The keys that are said as JSON, without aliases by which something else is asked for in a configuration.

    ``beside``: the files that will come beside the model. ``engine``: keys that say what serves it.
    LmxdError ``invalid_params``, which names key and value.
    """
    try:
        said = json.loads(text)
    except ValueError as error:
        raise LmxdError("invalid_params", f"--settings {shortened(text, 200)}: {error}", "give JSON") from error
    if not isinstance(said, dict):
        raise LmxdError("invalid_params", f"--settings {shortened(text, 200)} are no keys", 'say {"slots": 2}')
    said |= engine
    try:
        Profile.model_validate(with_files(said, [(key, Path("/file.gguf")) for key, _ in beside]))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "it"
        what = f"--settings: {key} is {shortened(repr(first['input']), 200)}: {first['msg']}"
        raise LmxdError("invalid_params", what, "docs/configuration.md has the keys of a profile") from error
    return _own(said, config)


def _own(said: dict[str, Any], config: Config) -> dict[str, Any]:
    """Without the names of others."""
    taken = set(config.models)
    for model, profile in config.models.items():
        taken |= {*profile.aliases, *(f"{model}:{tag}" for tag in profile.variants)}
        taken |= {alias for each in profile.variants.values() for alias in each.aliases}
    aliases = [alias for alias in said.get("aliases", ()) if alias not in taken]
    rest = {key: value for key, value in said.items() if key != "aliases"}
    return rest | ({"aliases": aliases} if aliases else {})
