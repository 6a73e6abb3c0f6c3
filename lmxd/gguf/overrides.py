"""Rules that move tensors from where their layer is: ``--override-tensor`` and its kin.

Source: llama.cpp build 11434, common/arg.cpp and common/common.h.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_EXPERTS: Final = r"blk\.({})\.ffn_(up|down|gate|gate_up)_(ch|)exps"
_DENSE: Final = r"blk\.({})\.ffn_(up|down|gate)\."
_ANY: Final = r"\d+"
_DEVICE: Final = re.compile(r"[A-Za-z]+([0-9]{1,6})")
_RAM: Final = ("CPU", "CUDA_HOST")
_ESCAPED: Final = re.compile(r"\\.|\[\^?[^\]]+\]")
"""An escaped character, or a set of characters: they repeat nothing."""
_MOST_REPEATS: Final = 6
_NOT_MEANT: Final = {
    re.compile(r"\)[*+{]"): "a group that is repeated can take for ever: repeat a single character",
    re.compile(r"\(\?(?![:=!])"): "llama-server knows (?:…), (?=…) and (?!…) alone",
    re.compile(r"[*+?}]\+|\{,"): "llama-server knows no such repetition",
}
"""Parts of a pattern that take time without end, or that llama-server (std::regex) does not read as Python does."""
_NOT_ALIKE: Final = re.compile(r"\\[AZz0-9]|\[\^?[\]\[]|[^\x20-\x7e]")
"""Characters of which neither knows what the other means."""


@dataclass(frozen=True, slots=True)
class Override:
    """Tensors whose name contains ``pattern`` go to RAM, or to a device by number."""

    pattern: str
    device: int | None = None


def overrides(rules: str) -> Iterator[Override]:
    """The rules of one ``--override-tensor``. ValueError says what is wrong with one."""
    for rule in rules.split(","):
        pattern, _, place = rule.rpartition("=")
        if (wrong := _wrong(pattern)) is not None:
            raise ValueError(f"{rule!r}: {wrong}")
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{rule!r}: {error}") from error
        device = _DEVICE.fullmatch(place)
        if not pattern or not (device or place.upper() in _RAM):
            raise ValueError(f"{rule!r} is not PATTERN=PLACE, as in exps=CPU")
        yield Override(pattern, int(device[1]) if device else None)


def _wrong(pattern: str) -> str | None:
    """The reason why a pattern that Python knows is not looked for, if it is not."""
    if (found := _NOT_ALIKE.search(pattern)) is not None:
        return f"{found[0]!r} is read differently by llama-server"
    plain = _ESCAPED.sub("x", pattern)
    if sum(map(plain.count, "*+{")) > _MOST_REPEATS:
        return f"at most {_MOST_REPEATS} repetitions (*, + or {{) are possible"
    return next((why for part, why in _NOT_MEANT.items() if part.search(plain)), None)


def experts_in_ram(layers: int | None = None) -> Override:
    """The experts of so many layers, from the first, stay in RAM; None: of all."""
    return Override(_EXPERTS.format(_layers(layers)))


def feed_forward_in_ram(layers: int) -> Override:
    """The same of matrices that are no experts."""
    return Override(_DENSE.format(_layers(layers)))


def _layers(count: int | None) -> str:
    return _ANY if count is None else "|".join(map(str, range(count)))


def words(rules: Iterable[Override]) -> list[str]:
    """The rules as a flag, all in one value: llama-server warns of a flag that is given twice."""
    said = [f"{rule.pattern}={'CPU' if rule.device is None else f'CUDA{rule.device}'}" for rule in rules]
    return ["-ot", ",".join(said)] if said else []


def stays_in_ram(rules: Iterable[Override]) -> Callable[[str], bool]:
    """A test of a tensor's name: whether a rule keeps it in RAM."""
    patterns = [re.compile(rule.pattern) for rule in rules if rule.device is None]
    return lambda name: any(pattern.search(name) for pattern in patterns)
