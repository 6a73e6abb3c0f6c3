"""The files that other tools are configured with: read whole; documents are known by a key that they must have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lmxd.config import yaml_text
from lmxd.errors import LmxdError
from lmxd.files import read_text

_LARGEST: Final = 512 * 2**10
"""Bytes of a text that people write by hand."""


def text_of(path: Path, remedy: str) -> str:
    """The text of a file. LmxdError ``config`` if it cannot be read, or is none."""
    try:
        return read_text(path, _LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        raise LmxdError("config", f"{path}: {reason(error)}", remedy) from error


def reason(error: Exception) -> str:
    """The reason why a file could not be read, without its path."""
    return getattr(error, "strerror", None) or str(error)


def yaml_with(key: str, path: Path, remedy: str) -> dict[str, Any]:
    """A YAML document whose ``key`` has keys itself. LmxdError ``config`` if it cannot be read, or is none."""
    return document_with(key, dict, path, lambda: yaml_text.load(read_text(path, yaml_text.LARGEST)), remedy)


def document_with(key: str, kind: type, path: Path, read: Callable[[], object], remedy: str) -> dict[str, Any]:
    """The mapping that ``read`` makes of a file, with a value of some ``kind`` at ``key``; else LmxdError ``config``.

    ``read`` may raise OSError, ValueError, RecursionError or BadYaml.
    """
    try:
        whole = read()
    except (OSError, ValueError, RecursionError, yaml_text.BadYaml) as error:
        raise LmxdError("config", f"{path}: {reason(error)}", remedy) from error
    if not isinstance(whole, dict) or not isinstance(whole.get(key), kind):
        raise LmxdError("config", f"{path}: has no {key}", remedy)
    return whole
