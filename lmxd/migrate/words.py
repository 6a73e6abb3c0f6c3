"""llama-server's command line as the settings of a profile."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from lmxd.engines.llama_cpp import flags
from lmxd.engines.llama_cpp.flag_table import SECRETS
from lmxd.engines.llama_cpp.load_mode import MODES, mode_of, says_mode
from lmxd.migrate import hub_cache
from lmxd.migrate.beside_model import BesideModel
from lmxd.migrate.leaves import is_secret
from lmxd.migrate.report import About
from lmxd.text import shortened

_DEFAULTS: Final = frozenset("-kvo --kv-offload --op-offload -cb --cont-batching --ui --webui".split())
"""Switches that are on by themselves."""
_HUB: Final = frozenset("-hf -hfr --hf-repo".split())
_SPLIT: Final = ("-sm", "--split-mode")
_FIT: Final = frozenset(("-fit", "--fit"))
_ON: Final = frozenset(("on", "1", "true", "enabled"))
_HUB_FILE: Final = frozenset("-hff --hf-file".split())
_WHOLE: Final = re.compile("-?[0-9]{1,10}")
"""A whole number. Python takes more digits for ones, but not as many of them as there may be."""
_NUMBERS: Final = frozenset(("context_length", "slots", "batch_size", "ubatch_size", "threads"))
_BY_ITSELF: Final = "lmxd does so by itself"


def settings(words: Sequence[str], left: About) -> dict[str, Any]:
    """A profile. ``left`` is told each thing that could not be carried over.

    A model of a hub is looked up in the caches of this machine; ``path`` is missing if it is in none.
    """
    found: dict[str, Any] = {}
    extra: list[str] = []
    hub: dict[str, str] = {}
    beside, loading = BesideModel(left), list[flags.Given]()
    for item in flags.given(words):
        flag, value = item.name, item.value
        if says_mode(item):
            loading.append(item)
        elif beside.takes(flag, value):
            continue
        elif key := flags.KEYS.get(flag):
            _set(found, key, flag, value, left)
        elif flag == "--sleep-idle-seconds" and _WHOLE.fullmatch(value):
            found["idle_timeout"] = int(value) if int(value) > 0 else "never"
        elif flag in flags.ALLOWED and flag not in _DEFAULTS:
            extra += _added(item, left)
        elif flag in _HUB | _HUB_FILE:
            hub["file" if flag in _HUB_FILE else "repository"] = value
        elif flag in _DEFAULTS:
            left.unneed(_said(flag, value), _BY_ITSELF)
        elif flag in _FIT and value in _ON:
            found["fit"] = "auto"
        elif flag in _SPLIT and value == "none":
            found["split"] = False
        elif _is_ours(flag) or (flag in _SPLIT and value == "layer"):
            left.unneed(_said(flag, value), "lmxd sets it itself")
        else:
            left(partial(_refused, flag, value))
    found |= _load_mode(loading, left)
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
    return f"{flag} {'(not shown)' if _is_secret(flag) else value}".rstrip()


def _is_secret(flag: str) -> bool:
    """Whether nobody is shown the value of a flag; of one that is not known, its name decides."""
    return flag in SECRETS if flag in flags.FLAGS else is_secret(flag)


def _refused(flag: str, value: str) -> str:
    shown = "not shown" if _is_secret(flag) else f"it was {value}"
    return f"{flags.why_not(flag)}{f' ({shown})' if value else ''}"


def _load_mode(items: Sequence[flags.Given], left: About) -> dict[str, str]:
    """The key that says how the file is read; nothing where it is as by itself."""
    mode = mode_of(items)
    if mode != "auto" and mode in MODES:
        return {"load_mode": mode}
    said = " ".join(_said(item.name, item.value) for item in items)
    if mode not in MODES:
        left(f"load_mode is {shortened(mode, 40)!r}: possible are {', '.join(MODES)} (it was {shortened(said, 80)})")
    elif items:
        left.unneed(shortened(said, 80), _BY_ITSELF)
    return {}


def _is_ours(flag: str) -> bool:
    """Whether lmxd sets a flag itself, to the same end: nothing is lost."""
    known = flags.FLAGS.get(flag)
    return known is not None and known.refusal is not None and known.refusal.ours


def _added(item: flags.Given, left: About) -> list[str]:
    """The words of a flag that a profile may add; none if its value is wrong."""
    if flags.ALLOWED[item.name].arity:
        item = replace(item, joined=False)  # --flag=value is carried over as two words
    if (problem := flags.problem_of(item)) is not None:
        left(problem)
        return []
    return [item.name, *item.values]


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
