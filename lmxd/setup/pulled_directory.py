"""A model's directory is fetched for vLLM, when it is known to fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lmxd.cli.remote import fits_here
from lmxd.cli.served import WantedServed, of_directory
from lmxd.config.copied import SIZES
from lmxd.config.schema import Config
from lmxd.engines.engine import EngineKind
from lmxd.engines.vllm.installation import find, installation
from lmxd.errors import LmxdError
from lmxd.models.url_directory import UrlDirectory
from lmxd.rpc.estimates import Estimated


def served_by(config: Config) -> dict[str, str]:
    """The keys of a profile that vLLM serves here: it is found by itself, by ``engines``, or by another profile.

    LmxdError ``engine_missing`` if it is not installed.
    """
    engines = config.all_engines()
    programs = {profile.engine_name: profile.program for profile in config.models.values() if profile.program}
    missing = None
    for name, engine in sorted(engines.items(), key=lambda named: (named[0] != EngineKind.VLLM, named[0] in programs)):
        if engine.kind is not EngineKind.VLLM:
            continue
        try:
            installation(find(engine.path, engine.key), engine.key)
        except LmxdError as error:
            missing = missing or error
        else:
            program = programs.get(name)
            return {"engine": name} if program is None else {"engine": engine.kind.value, "program": str(program)}
    assert missing is not None
    raise missing


def estimated(model: UrlDirectory, settings: dict[str, Any]) -> tuple[Estimated, bool, dict[str, Any]]:
    """(the estimate by documents and headers, whether it fits, the settings that it is of).

    Those of its size are left out where it fits in another one alone.
    """
    with TemporaryDirectory(prefix="lmxd-header-") as there:
        model.hollow(Path(there))
        usual = {key: value for key, value in settings.items() if key not in SIZES}
        try:
            found = _estimated(Path(there), model.name, settings)
            if usual == settings or _fits(found, settings):
                return found, _fits(found, settings), settings
        except LmxdError as error:
            if usual == settings or error.code != "invalid_params":  # such as more GPUs than there are
                raise
        found = _estimated(Path(there), model.name, usual)
        return found, _fits(found, usual), usual


def _estimated(path: Path, name: str, settings: Mapping[str, Any]) -> Estimated:
    asked = WantedServed(
        ctx=settings.get("context_length"),
        slots=settings.get("slots"),
        gpus=settings.get("gpus", 1),
        kv_tokens=settings.get("kv_tokens"),
        flags=tuple(settings.get("engine_flags", ())),
    )
    try:
        return of_directory(path, asked).model_copy(update={"model": name})
    except LmxdError as error:
        raise LmxdError(error.code, error.message.replace(str(path), name), error.remedy, error.data) from error


def _fits(found: Estimated, settings: Mapping[str, Any]) -> bool:
    """Whether it fits, of a cache that is said to have so many tokens by these."""
    tokens, said = found.fits.get("tokens"), settings.get("kv_tokens")
    return fits_here(found) if not said or not tokens else min(tokens.values()) >= max(said, found.ctx)
