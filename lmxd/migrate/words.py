"""llama-server's command line as the settings of a profile."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from lmxd.engines.llama_cpp import flags
from lmxd.migrate import hub_cache
from lmxd.migrate.beside_model import BesideModel
from lmxd.migrate.leaves import is_secret
from lmxd.migrate.report import About
from lmxd.text import shortened

_OURS: Final = frozenset(
    """--host --port --api-key --api-key-file --metrics --slots --no-slots --no-webui --no-ui -a --alias --log-file
    --log-disable -fit --fit -sm --split-mode""".split()
)
"""Flags that lmxd sets itself, to the same end: nothing is lost."""
_DEFAULTS: Final = frozenset("--mmap -kvo --kv-offload --op-offload -cb --cont-batching --ui --webui".split())
"""Switches that are on by themselves."""
_HUB: Final = frozenset("-hf -hfr --hf-repo".split())
_HUB_FILE: Final = frozenset("-hff --hf-file".split())
_WHOLE: Final = re.compile("-?[0-9]{1,10}")
"""A whole number. Python takes more digits for ones, but not as many of them as there may be."""
_NUMBER: Final = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)")
_NUMBERS: Final = frozenset(("context_length", "slots", "batch_size", "ubatch_size", "threads"))
_BY_ITSELF: Final = "lmxd does so by itself"


def settings(words: Sequence[str], left: About) -> dict[str, Any]:
    """A profile. ``left`` is told each thing that could not be carried over.

    A model of a hub is looked up in the caches of this machine; ``path`` is missing if it is in none.
    """
    found: dict[str, Any] = {}
    extra: list[str] = []
    hub: dict[str, str] = {}
    rest, beside = deque(words), BesideModel(left)
    while rest:
        flag, joined, value = rest.popleft().partition("=")
        flag = f"--{flag[2:].replace('_', '-')}" if flag.startswith("--") else flag  # as llama-server reads them
        value = value if joined else _value(flag, rest)
        if beside.takes(flag, value):
            continue
        if key := flags.KEYS.get(flag):
            _set(found, key, flag, value, left)
        elif flag == "--sleep-idle-seconds" and _WHOLE.fullmatch(value):
            found["idle_timeout"] = int(value) if int(value) > 0 else "never"
        elif flag in flags.ALLOWED and flag not in _DEFAULTS:
            extra += [flag, value] if flags.ALLOWED[flag] else [flag]
        elif flag in _HUB | _HUB_FILE:
            hub["file" if flag in _HUB_FILE else "repository"] = value
        elif flag in _OURS:
            left.unneed(_said(flag, value), "lmxd sets it itself")
        elif flag in _DEFAULTS:
            left.unneed(_said(flag, value), _BY_ITSELF)
        else:
            left(partial(_refused, flag, value))
    if extra:
        found["engine_flags"] = extra
    if "path" in found and hub:
        left(f"--hf-repo: the model file is named, too (it was {' '.join(hub.values())})")
    else:
        found |= looked_up(hub, left)
    return _per_slot(found | beside.keys(), left)


def names_no_file(words: Sequence[str]) -> bool:
    """Whether a command line names its model by a hub alone."""
    heads = {word.partition("=")[0] for word in words}
    return bool(heads & _HUB) and not any(flags.KEYS.get(head) == "path" for head in heads)


def looked_up(hub: Mapping[str, str], left: About) -> dict[str, Any]:
    """The path of a model that is named by its ``repository``, and maybe ``file``; nothing if it is not here."""
    repository, file = hub.get("repository"), hub.get("file")
    if not repository:
        if file is not None:
            left(f"--hf-file: names no repository (it was {file})")
        return {}
    wanted = f"hf:{repository}" + (f" {file}" if file else "")
    if found := hub_cache.find(repository, file):
        left.unneed(f"{wanted} is in the cache", f"its file is used from there: {found['path']}")
        return found
    left(f"{wanted} is in no cache of this machine: fetch it with lmxd pull hf:{repository}, and import again")
    return {}


def _said(flag: str, value: str) -> str:
    return f"{flag} {'(not shown)' if is_secret(flag) else value}".rstrip()


def _refused(flag: str, value: str) -> str:
    shown = "not shown" if is_secret(flag) else f"it was {value}"
    return f"{flags.why_not(flag)}{f' ({shown})' if value else ''}"


def _value(flag: str, rest: deque[str]) -> str:
    """A value follows, unless the flag is a switch or another flag does. -1 is a value."""
    takes = False if flag in flags.SWITCH_KEYS else flags.ALLOWED.get(flag)
    if takes is False or not rest or (takes is None and rest[0].startswith("-") and not _is_number(rest[0])):
        return ""
    return rest.popleft()


def _is_number(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None


def _set(found: dict[str, Any], key: str, flag: str, value: str, left: About) -> None:
    if key in found:
        left(f"{flag}: is given twice, and the last one counts ({key} was {shortened(str(found.pop(key)), 80)} before)")
    if key == "gpu_layers":
        layers = int(value) if _WHOLE.fullmatch(value) else -1
        if 0 <= layers < 99:  # beyond that, all are meant
            found[key] = layers
        elif layers < 0 and value not in ("all", "auto", "-1"):
            left(f"gpu_layers is {shortened(value, 40)!r}, which is no number")
        else:
            left.unneed(f"{flag} {value}", "all layers go to the GPU here by themselves")
    elif key == "flash_attention":
        found[key] = {"": "on", "1": "on", "0": "off", "true": "on", "false": "off"}.get(value, value)
    elif key in _NUMBERS:
        _set_number(found, key, flag, value, left)
    elif value:
        found[key] = value
    else:
        left(f"{flag}: has no value")


def _set_number(found: dict[str, Any], key: str, flag: str, value: str, left: About) -> None:
    if not _WHOLE.fullmatch(value):
        left(f"{key} is {shortened(value, 40)!r}, which is no number")
    elif int(value) > 0 or (key == "context_length" and int(value) == 0):
        found[key] = int(value)
    else:
        left.unneed(f"{flag} {value}", _BY_ITSELF)


def _per_slot(found: dict[str, Any], left: About) -> dict[str, Any]:
    """llama-server divides its context among its slots, unless they share it; a profile says what each of them has."""
    slots = found.get("slots", 1)
    if found.get("kv_unified"):
        pass
    elif total := found.get("context_length"):
        found["context_length"] = max(1, total // slots)
        if total % slots:
            left(f"--ctx-size {total}: each of {slots} slots has {found['context_length']}")
    elif slots > 1:
        left(
            f"each of {slots} slots has the context that the model was trained for: llama-server divides it among them"
        )
    if slots == 1 and found.pop("slots", None):
        left.unneed("--parallel 1", _BY_ITSELF)
    return found
