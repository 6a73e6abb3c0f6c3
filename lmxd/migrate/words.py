"""llama-server's command line as the settings of a profile."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from lmxd.engines.llama_cpp import flags
from lmxd.migrate.entries import Left
from lmxd.text import shortened

_SILENT: Final = frozenset(
    """--host --port --api-key --api-key-file --metrics --slots --no-slots --no-webui --no-ui -a --alias --log-file
    --log-disable -fit --fit -sm --split-mode""".split()
)
"""Flags that lmxd sets itself, to the same end: nothing is lost."""
_WHOLE: Final = re.compile("-?[0-9]{1,10}")
"""A whole number. Python takes more digits for ones, but not as many of them as there may be."""
_NUMBER: Final = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)")
_NUMBERS: Final = frozenset(("context_length", "slots", "batch_size", "ubatch_size", "threads"))


def settings(words: Sequence[str], left: Left) -> dict[str, Any]:
    """A profile. ``left`` is told each thing that could not be carried over."""
    found: dict[str, Any] = {}
    extra: list[str] = []
    rest = deque(words)
    while rest:
        flag, joined, value = rest.popleft().partition("=")
        value = value if joined else _value(flag, rest)
        if key := flags.KEYS.get(flag):
            _set(found, key, value, left)
        elif flag in flags.ALLOWED:
            extra += [flag, value] if flags.ALLOWED[flag] else [flag]
        elif flag not in _SILENT:
            left(partial(_refused, flag, value))
    if extra:
        found["engine_flags"] = extra
    return _per_slot(found)


def _refused(flag: str, value: str) -> str:
    return f"{flags.why_not(flag)}{f' (it was {value})' if value else ''}"


def _value(flag: str, rest: deque[str]) -> str:
    """A value follows, unless the flag is a switch or another flag does. -1 is a value."""
    takes = flags.ALLOWED.get(flag)
    if takes is False or not rest or (takes is None and rest[0].startswith("-") and not _is_number(rest[0])):
        return ""
    return rest.popleft()


def _is_number(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None


def _set(found: dict[str, Any], key: str, value: str, left: Left) -> None:
    if key == "gpu_layers":
        layers = int(value) if _WHOLE.fullmatch(value) else -1
        if 0 <= layers < 99:  # beyond that, all are meant
            found[key] = layers
        elif layers < 0 and value not in ("all", "auto", "-1"):
            left(f"gpu_layers is {shortened(value, 40)!r}, which is no number")
    elif key == "flash_attention":
        found[key] = {"": "on", "1": "on", "0": "off", "true": "on", "false": "off"}.get(value, value)
    elif key in _NUMBERS:
        if _WHOLE.fullmatch(value):
            if int(value) > 0:  # 0 and -1 mean what lmxd does by itself
                found[key] = int(value)
        else:
            left(f"{key} is {shortened(value, 40)!r}, which is no number")
    else:
        found[key] = value


def _per_slot(found: dict[str, Any]) -> dict[str, Any]:
    """llama-server divides its context among its slots; a profile says what each of them has."""
    slots = found.get("slots", 1)
    if "context_length" in found:
        found["context_length"] = max(1, found["context_length"] // slots)
    if slots == 1:
        found.pop("slots", None)
    return found
