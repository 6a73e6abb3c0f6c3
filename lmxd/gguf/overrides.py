"""Rules that move tensors from where their layer is: ``--override-tensor`` and its kin.

Source: llama.cpp build 11434, common/arg.cpp and common/common.h.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_EXPERTS: Final = r"blk\.({})\.ffn_(up|down|gate|gate_up)_(ch|)exps"
_DENSE: Final = r"blk\.({})\.ffn_(up|down|gate)\."
_ANY: Final = r"\d+"
_DEVICE: Final = re.compile(r"[A-Za-z]+([0-9]{1,6})")
_RAM: Final = ("CPU", "CUDA_HOST")


@dataclass(frozen=True, slots=True)
class Override:
    """Tensors whose name contains ``pattern`` go to RAM, or to a device by number."""

    pattern: str
    device: int | None = None


def overrides(rules: str) -> Iterator[Override]:
    """The rules of one ``--override-tensor``. ValueError says what is wrong with one."""
    for rule in rules.split(","):
        pattern, _, place = rule.rpartition("=")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{rule!r}: {error}") from error
        device = _DEVICE.fullmatch(place)
        if not pattern or not (device or place.upper() in _RAM):
            raise ValueError(f"{rule!r} is not PATTERN=PLACE, as in exps=CPU")
        yield Override(pattern, int(device[1]) if device else None)


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
