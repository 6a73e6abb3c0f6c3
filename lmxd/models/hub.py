"""A hub of models (Hugging Face's, or HF_ENDPOINT), by the library huggingface_hub: an optional extra of lmxd."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Final, ParamSpec, TypeVar

from lmxd.errors import LmxdError
from lmxd.files import sha256_of
from lmxd.gguf.split import MAX_PARTS, part_names, part_number
from lmxd.models.arriving import reported
from lmxd.models.pairing import MOST_PROJECTORS, best_name
from lmxd.models.quants import is_projector, named, stem_of
from lmxd.models.ranges import copy_header
from lmxd.models.reference import Reference

_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
"""A revision as hubs name them: it becomes a directory's name."""
_USUAL: Final = ("Q4_K_M", "UD-Q4_K_M", "Q4_0", "Q8_0", "MXFP4")
"""Quantizations that are taken where none is named, the first that there is: as llama-server -hf does."""
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """A file of a repository: its name in it, its bytes, and its SHA-256 if the hub says one."""

    name: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A model of a repository at a revision: one quantization, in one or several files, and the projector beside it."""

    repository: str
    revision: str
    files: tuple[RemoteFile, ...]
    projector: RemoteFile | None = None

    @property
    def wanted(self) -> tuple[RemoteFile, ...]:
        """All files that are fetched."""
        return (*self.files, self.projector) if self.projector else self.files

    @property
    def name(self) -> str:
        return named(self.repository, self.files[0].name)

    @property
    def quant(self) -> str:
        return self.name.rpartition(":")[2]

    @property
    def size(self) -> int:
        """Bytes of all that is fetched."""
        return sum(file.size for file in self.wanted)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """The files of an offer on this machine: the model's, and that of its projector."""

    files: tuple[Path, ...]
    projector: Path | None


def _library() -> ModuleType:
    """LmxdError ``config`` if the library is not installed."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for name in ("httpx", "httpx2", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        import huggingface_hub
    except ImportError as error:
        remedy = f"{Path(sys.executable).with_name('pip')} install 'lmxd[hub]'"
        raise LmxdError("config", "huggingface_hub is not installed, which fetches models", remedy) from error
    found: ModuleType = huggingface_hub
    return found


def _understood(call: Callable[P, T]) -> Callable[P, T]:
    """Turns the library's errors, and those of the network below it, into LmxdErrors that say what to do."""

    @wraps(call)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except LmxdError:
            raise
        except Exception as error:  # the library raises those of the HTTP library that it uses by now
            raise _said(error) from error

    return wrapped


_SAID: Final = {
    "GatedRepoError": ("the repository is for those who took its terms", "take them on its page, and set HF_TOKEN"),
    "RepositoryNotFoundError": ("it has no such repository", "check its name; for a private one, set HF_TOKEN"),
    "RevisionNotFoundError": ("the repository has no such revision", "check its name, or leave it out"),
}
"""The library's errors whose words are about its own functions, in words about what was asked."""
_UNREACHED: Final = ("ConnectError", "ConnectTimeout", "ConnectionError", "LocalEntryNotFoundError", "ProxyError")


def _said(error: Exception) -> LmxdError:
    name, words = type(error).__name__, " ".join(str(error).split())[:300]
    if name in _UNREACHED:
        usual = (f"it is not reached: {words}", "check the network, and HF_ENDPOINT")
    else:
        usual = (f"{name}: {words}", "try again: what was fetched is kept")
    problem, remedy = _SAID.get(name, usual)
    return LmxdError("model_file_missing", f"the hub: {_endpoint()}: {problem}", remedy)


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


class Hub:
    """A hub of models. ``endpoint``: its URL; HF_ENDPOINT, or Hugging Face's, by default. HF_TOKEN is sent to it."""

    def __init__(self, endpoint: str | None = None) -> None:
        self.endpoint = endpoint.rstrip("/") if endpoint else _endpoint()
        self._hub = _library()

    @_understood
    def offers(self, wanted: Reference) -> list[Offer]:
        """The models of a repository, the largest first. LmxdError ``model_file_missing`` if there is none."""
        api = self._hub.HfApi(endpoint=self.endpoint)
        info = api.model_info(wanted.repository, revision=wanted.revision, files_metadata=True)
        if not _REVISION.fullmatch(str(info.sha)):
            raise LmxdError("model_file_missing", f"{wanted}: the hub names no revision", "check HF_ENDPOINT")
        files = [
            RemoteFile(name=each.rfilename, size=each.size or 0, sha256=each.lfs.sha256 if each.lfs else None)
            for each in info.siblings or []
            if each.rfilename.endswith(".gguf") and _is_inside(each.rfilename)
        ]
        projectors = {file.name: file for file in files if is_projector(file.name)}
        named = list(projectors) if len(projectors) <= MOST_PROJECTORS else []
        found = [
            Offer(
                repository=wanted.repository,
                revision=info.sha,
                files=group,
                projector=projectors.get(best_name(group[0].name, named) or ""),
            )
            for group in _grouped(file for file in files if file.name not in projectors)
        ]
        if not found:
            raise LmxdError("model_file_missing", f"{wanted}: there is no GGUF file in it", "look for one with -GGUF")
        return sorted(found, key=lambda offer: -offer.size)

    @_understood
    def header(self, offer: Offer, directory: Path) -> Fetched:
        """The files of an offer with their headers alone, below ``directory``, for estimates."""
        paths = [directory / offer.repository / offer.revision / file.name for file in offer.wanted]
        for file, path in zip(offer.wanted, paths, strict=True):
            if not (path.exists() and path.stat().st_size == file.size):
                where = (offer.repository, file.name)
                url = self._hub.hf_hub_url(*where, revision=offer.revision, endpoint=self.endpoint)
                copy_header(url, self._hub.utils.build_hf_headers(library_name="lmxd"), path)
        return _fetched(offer, paths)

    @_understood
    def fetch(self, offer: Offer, directory: Path, told: Callable[[int], None] | None = None) -> Fetched:
        """Fetch an offer into ORG/REPO below ``directory``. What was fetched before is kept, and gone on with.

        ``told`` hears of the bytes that have come; without it, the library shows them on a terminal. Each file is
        compared with the hub's checksum. LmxdError ``bad_model_file`` if it is another: it is removed.
        """
        home = directory / offer.repository
        if told is None:
            return self._fetched(offer, home)
        self._hub.utils.disable_progress_bars()
        with reported(home, [(file.name, file.sha256) for file in offer.wanted], told):
            return self._fetched(offer, home)

    def _fetched(self, offer: Offer, home: Path) -> Fetched:
        paths = []
        for file in offer.wanted:
            where = (offer.repository, file.name)
            fetched = self._hub.hf_hub_download(
                *where, revision=offer.revision, local_dir=home, endpoint=self.endpoint, library_name="lmxd"
            )
            path = Path(fetched)
            if file.sha256 is not None and sha256_of(path) != file.sha256:
                path.unlink()
                raise LmxdError(
                    "bad_model_file", f"{path} is not what the hub has: its SHA-256 differs", "fetch it again"
                )
            paths.append(path)
        return _fetched(offer, paths)


def _fetched(offer: Offer, paths: Sequence[Path]) -> Fetched:
    """The files of an offer at paths in their order."""
    return Fetched(files=tuple(paths[: len(offer.files)]), projector=paths[-1] if offer.projector else None)


def chosen(offers: list[Offer], wanted: Reference) -> Offer:
    """The offer that is meant. LmxdError ``invalid_params`` says which there are."""
    there = ", ".join(f"{offer.quant} ({offer.size / 2**30:.1f} GiB)" for offer in offers)
    if wanted.file is not None:
        found = [offer for offer in offers if any(file.name == wanted.file for file in offer.files)]
    elif wanted.quant is not None:
        asked = wanted.quant.lower()
        found = [offer for offer in offers if offer.quant.lower() == asked]
        found += [offer for offer in offers if stem_of(offer.files[0].name).lower() == asked]
    else:
        found = [offer for quant in _USUAL for offer in offers if offer.quant == quant]
        if not found and len(offers) > 1:
            raise LmxdError("invalid_params", f"{wanted} has several models", f"name one of {there}")
        found = found or offers
    if not found:
        raise LmxdError("invalid_params", f"{wanted}: there is no such model in it", f"there are {there}")
    return found[0]


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and name.isprintable()


def _grouped(files: Iterable[RemoteFile]) -> list[tuple[RemoteFile, ...]]:
    """Whole files, and all parts of split ones together. A split model without all of its parts is none."""
    by_name = {file.name: file for file in files}
    groups: list[tuple[RemoteFile, ...]] = []
    for name, file in by_name.items():
        part = part_number(name)
        if part is None:
            groups.append((file,))
        elif part[0] == 1 and 1 <= part[1] <= MAX_PARTS:
            names = part_names(name, part[1])
            if all(each in by_name for each in names):
                groups.append(tuple(by_name[each] for each in names))
    return groups
