"""The kinds of values that flags of llama-server take, as it reads them: another one ends it at its start."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Final

_WHOLE: Final = re.compile("[+-]?[0-9]{1,10}")
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,20})([eE][+-]?[0-9]{1,2})?")
_MASK: Final = re.compile("(0x)?[0-9a-fA-F]{1,128}")
_RANGE: Final = re.compile("([0-9]{1,3})-([0-9]{0,3})|-([0-9]{1,3})")
_BIAS: Final = re.compile(r"[0-9]{1,9}[+-](inf|[0-9]{1,9}\.?[0-9]{0,9})")
_INT: Final = 2**31
_NGRAM: Final = 1024
"""The most tokens of an n-gram."""
THREADS: Final = 512
"""The most threads that ggml is made for (GGML_MAX_N_THREADS); with some thousands llama-server ends itself."""
_FLOATS: Final = (1e-37, 3e38)
"""Bounds of the numbers that llama-server reads into 32 bits."""


def _whole(text: str, least: int = -_INT, most: int = _INT - 1) -> bool:
    return _WHOLE.fullmatch(text) is not None and least <= int(text) <= most


def _number(text: str, *, positive: bool = False) -> bool:
    least, most = _FLOATS
    if _NUMBER.fullmatch(text) is None or (positive and float(text) <= 0):
        return False
    return float(text) == 0 or least <= abs(float(text)) <= most


def _object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _range(text: str) -> bool:
    found = _RANGE.fullmatch(text)
    return found is not None and all(int(cpu) < THREADS for cpu in found.groups() if cpu)


def _matches(pattern: re.Pattern[str], text: str) -> bool:
    return pattern.fullmatch(text) is not None


KINDS: Final[dict[str, tuple[Callable[[str], bool], str]]] = {
    "text": (lambda _: True, ""),
    "whole": (_whole, "whole number of 32 bits"),
    "limit": (partial(_whole, least=-1), "whole number from -1 up"),
    "natural": (partial(_whole, least=0), "whole number from 0 up"),
    "hits": (partial(_whole, least=1), "whole number from 1 up"),
    "least tokens": (partial(_whole, least=0, most=_NGRAM), f"whole number from 0 to {_NGRAM}"),
    "tokens": (partial(_whole, least=1, most=_NGRAM), f"whole number from 1 to {_NGRAM}"),
    "threads": (partial(_whole, least=-1, most=THREADS), f"number of threads from -1 to {THREADS}"),
    "number": (_number, "number"),
    "positive": (partial(_number, positive=True), "number above 0"),
    "mask": (partial(_matches, _MASK), "mask of CPUs, such as ff"),
    "range": (_range, "range of CPUs, such as 0-3"),
    "bias": (partial(_matches, _BIAS), "bias, such as 15043-1"),
    "json": (_object, "JSON object"),
}
"""Kind of a value -> whether a text is one, and what it is called."""
