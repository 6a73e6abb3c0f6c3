"""The flags of vLLM, SGLang and Text Generation Inference as the keys of a profile, and what none stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lmxd.engines.allow_list import AllowList
from lmxd.engines.engine import EngineKind
from lmxd.engines.sglang.flags import FLAGS as SGLANG
from lmxd.engines.tgi.flags import FLAGS as TGI
from lmxd.engines.vllm.flags import FLAGS as VLLM
from lmxd.migrate.leaves import is_secret
from lmxd.migrate.other_servers import OtherServer
from lmxd.migrate.report import About

_PATH, _NAMES, _HERE, _TOKENS = "path", "aliases", "", "tokens"
_OWN: Final = "lmxd says where it listens, and with which key"
_LISTENS: Final = dict.fromkeys(("--host", "--port", "--uds", "--api-key", "--hostname", "--prometheus-port"), _HERE)
_KEYS: Final[Mapping[EngineKind, Mapping[str, str]]] = {
    EngineKind.VLLM: {
        "--model": _PATH,
        "--served-model-name": _NAMES,
        "--max-model-len": "context_length",
        "--max-num-seqs": "slots",
        "--tensor-parallel-size": "gpus",
        "-tp": "gpus",
        "--enable-sleep-mode": "sleep",
        "--gpu-memory-utilization": _TOKENS,
        "--kv-cache-memory-bytes": _TOKENS,
    },
    EngineKind.SGLANG: {
        "--model-path": _PATH,
        "--model": _PATH,
        "--served-model-name": _NAMES,
        "--context-length": "context_length",
        "--max-running-requests": "slots",
        "--max-total-tokens": "kv_tokens",
        "--tp-size": "gpus",
        "--tp": "gpus",
        "--tensor-parallel-size": "gpus",
        "--mem-fraction-static": _TOKENS,
    },
    EngineKind.TGI: {
        "--model-id": _PATH,
        "--max-total-tokens": "context_length",
        "--max-concurrent-requests": "slots",
        "--num-shard": "gpus",
        "--cuda-memory-fraction": _TOKENS,
    },
}
_INSTEAD: Final = {
    EngineKind.VLLM: "its cache is as large as kv_tokens says, or context_length for each of slots",
    EngineKind.SGLANG: "estimated_memory_gb says what it takes, and kv_tokens how large its cache is",
    EngineKind.TGI: "estimated_memory_gb says what it takes, its cache included",
}
"""The keys that take the place of a part of the card, in words."""
_ALLOWED: Final[Mapping[EngineKind, AllowList]] = {
    EngineKind.VLLM: VLLM,
    EngineKind.SGLANG: SGLANG,
    EngineKind.TGI: TGI,
}
_UNITS: Final = {"": 1, "k": 1000, "K": 1024, "m": 10**6, "M": 2**20}
"""As vLLM writes numbers: 32k, 32K."""
_NUMBER: Final = re.compile(r"([0-9]{1,12})([kKmM]?)")
_SLOTS: Final = 8
"""Requests at once, of a server that said no number: these take as many as come."""
_MOST: Final = 256


@dataclass(slots=True)
class SaidSettings:
    """The keys of a profile that a command line says, and the names that it gives its model."""

    settings: dict[str, Any]
    names: list[str] = field(default_factory=list)


def said_by(server: OtherServer, left: About) -> SaidSettings:
    """The settings that its words say. ``left`` is told each of them that could not be carried over."""
    allowed, keys = _ALLOWED[server.kind], _KEYS[server.kind]
    found = SaidSettings({"engine": server.kind.value})
    flags: list[str] = []
    for flag, values in _flags(server.words, allowed, keys):
        key = keys.get(flag, _LISTENS.get(flag))
        shown = " ".join([flag, *(values if not is_secret(flag) else ["(not shown)"])])
        if not flag:
            found.settings[_PATH] = values[0]
        elif key == _HERE:
            left.unneed(shown, _OWN)
        elif key == _TOKENS:
            left(f"{shown}: {_INSTEAD[server.kind]}")
        elif key == _NAMES:
            left.unneed(shown, "its names are the model's name and aliases")
            found.names += values
        elif key is not None:
            _take(found.settings, key, values, shown, left)
        elif problems := allowed.problems([flag, *values]):
            left(f"{shown}: {problems[0]}")
        else:
            flags += [flag, *values]
    if flags:
        found.settings["engine_flags"] = flags
    if "slots" not in found.settings:
        found.settings["slots"] = _SLOTS
        left(f"slots: it took as many requests at once as came; here it is {_SLOTS} until you say another number")
    return found


def _take(settings: dict[str, Any], key: str, values: Sequence[str], shown: str, left: About) -> None:
    if key == _PATH and values:
        settings[key] = values[0]
    elif key == "sleep":
        settings[key] = True
    elif not values or (number := _NUMBER.fullmatch(values[0])) is None:
        left(f"{shown}: {key} is a number here")
    else:
        count = int(number[1]) * _UNITS[number[2]]
        settings[key] = min(count, _MOST) if key == "slots" else count
        if settings[key] < count:
            left(f"{shown}: {_MOST} slots are the most")


def _flags(words: Sequence[str], allowed: AllowList, keys: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Each flag, written with - between its words, and its values. A word that follows none has no flag."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            yield "", [word]
            continue
        flag, joined, value = word.partition("=")
        flag = flag.replace("_", "-") if flag.startswith("--") else flag
        values = [value] if joined else []
        alone = allowed.is_switch(flag) or keys.get(flag) == "sleep"
        several = keys.get(flag) == _NAMES
        while not joined and not alone and rest and not rest[0].startswith("-") and (several or not values):
            values.append(rest.pop(0))
        yield flag, values
