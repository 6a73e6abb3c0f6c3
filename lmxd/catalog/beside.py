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

    def at(path: Path | None) -> Path | None:
        found = None if path is None else find(path)
        if isinstance(found, LmxdError):
            raise found
        return found

    try:
        return Beside(
            companions=Companions(
                projector=at(profile.mmproj),
                projector_on_device=profile.mmproj_offload,
                adapters=tuple(Adapter(path=at(lora.path) or lora.path, scale=lora.scale) for lora in profile.lora),
                draft=_draft(profile, at),
            ),
            template=_there(at(profile.chat_template_file)),
            grammar=_there(at(profile.grammar_file)),
        )
    except LmxdError as error:
        return error


def _there(path: Path | None) -> Path | None:
    """A file that only the engine reads. LmxdError ``model_file_missing`` if it would not find it."""
    if path is not None:
        identity(path)
    return path


def _draft(profile: Profile, at: Callable[[Path], Path | None]) -> DraftModel | None:
    if (draft := profile.draft) is None:
        return None
    return DraftModel(
        path=at(draft.path) or draft.path,
        gpu_layers=draft.gpu_layers,
        cache_type_k=draft.cache_type_k,
        cache_type_v=draft.cache_type_v,
    )
