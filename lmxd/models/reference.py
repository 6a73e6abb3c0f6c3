"""References to models elsewhere, as people write them: hf:ORG/REPO:QUANT, or a URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from lmxd.errors import LmxdError

_WORD: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPOSITORY: Final = re.compile(rf"(?:hf:|hf\.co/|huggingface\.co/)({_WORD}/{_WORD})(?::({_WORD}))?")
_FILE: Final = re.compile(rf"/({_WORD}/{_WORD})/(?:resolve|blob)/([^/]+)/(.+\.gguf)")
_PAGE: Final = re.compile(rf"/({_WORD}/{_WORD})/?")
_HOSTS: Final = frozenset(("huggingface.co", "hf.co"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A model of a repository of the hub: by quantization, by file, or as the repository has it. Else a URL."""

    repository: str = ""
    quant: str | None = None
    file: str | None = None
    revision: str | None = None
    url: str | None = None

    def __str__(self) -> str:
        return self.url or f"hf:{self.repository}" + (f":{self.quant}" if self.quant else "")


def is_reference(words: str) -> bool:
    """Whether something is meant as a reference, rather than a model's name or a path."""
    return words.startswith(("hf:", "https://", "http://"))


def reference(words: str) -> Reference:
    """The reference that words are. LmxdError ``invalid_params`` if they cannot be understood."""
    if words.startswith(("https://", "http://")):
        return _of_url(words)
    match = _REPOSITORY.fullmatch(words)
    if match is None:
        raise LmxdError("invalid_params", f"{words} names no repository", "say hf:ORG/REPO, hf:ORG/REPO:QUANT or a URL")
    return Reference(repository=match[1], quant=match[2])


def _of_url(words: str) -> Reference:
    parts = urlsplit(words)
    path = unquote(parts.path)
    if parts.hostname in _HOSTS:
        if match := _FILE.fullmatch(path):
            return Reference(repository=match[1], revision=match[2], file=match[3])
        if match := _PAGE.fullmatch(path):
            return Reference(repository=match[1])
    if not path.endswith(".gguf") or not parts.hostname:
        raise LmxdError("invalid_params", f"{words} names no GGUF file", "give the URL of a .gguf file")
    return Reference(url=words)
