"""The files that a profile names beside its model, as they are found in the directories for models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lmxd.config.profile import Profile
from lmxd.errors import LmxdError
from lmxd.estimate.companions import ALONE, Adapter, Companions, DraftModel
from lmxd.estimate.files import identity


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """The files beside a model: those that take bytes, and those that the engine reads text from."""

    companions: Companions = ALONE
    template: Path | None = None
    grammar: Path | None = None


def beside(profile: Profile, find: Callable[[Path], Path | LmxdError]) -> Beside | LmxdError:
    """The files of a profile, or the error why one cannot be used. ``find`` finds one by its path."""

    def at(key: str, path: Path | None) -> Path | None:
        return None if path is None else _there(key, find(path))

    try:
        return Beside(
            companions=Companions(
                projector=at("mmproj", profile.mmproj),
                projector_on_device=profile.mmproj_offload,
                adapters=tuple(
                    Adapter(path=at("lora", lora.path) or lora.path, scale=lora.scale) for lora in profile.lora
                ),
                draft=_draft(profile, at),
            ),
            template=at("chat_template_file", profile.chat_template_file),
            grammar=at("grammar_file", profile.grammar_file),
        )
    except LmxdError as error:
        return error


def _there(key: str, found: Path | LmxdError) -> Path:
    """A file that was found. LmxdError with its key if it cannot be used, such as ``model_file_missing``."""
    try:
        if isinstance(found, LmxdError):
            raise found
        identity(found, key)
    except LmxdError as error:
        raise LmxdError(error.code, f"{key}: {error.message}", error.remedy, error.data) from error
    return found


def _draft(profile: Profile, at: Callable[[str, Path], Path | None]) -> DraftModel | None:
    if (draft := profile.draft) is None:
        return None
    return DraftModel(
        path=at("draft", draft.path) or draft.path,
        gpu_layers=draft.gpu_layers,
        cache_type_k=draft.cache_type_k,
        cache_type_v=draft.cache_type_v,
    )
