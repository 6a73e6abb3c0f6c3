"""Drafting by n-grams: tokens are proposed that followed the same ones earlier in the text, without a second model.

Source: common/speculative.cpp of build 11434. The engine computes an output for each token that is proposed, as it does
with a draft model; of its tables only that of ``mod`` is large.
"""

from __future__ import annotations

from typing import Final, Literal

Ngram = Literal["simple", "map-k", "map-k4v", "mod"]

TOKENS: Final[dict[Ngram, int]] = {"simple": 48, "map-k": 48, "map-k4v": 48, "mod": 64}
"""Tokens that are proposed at once: llama-server's own numbers, which are said to it."""
TABLES: Final[dict[Ngram, int]] = {"mod": 4 * 4 * 2**20}
"""Bytes in RAM: 4 Mi entries of 32 bits, from the start."""


def words(kind: Ngram) -> tuple[str, ...]:
    """The flags for drafting in this way."""
    most = f"--spec-ngram-{kind}-{'n-max' if kind == 'mod' else 'size-m'}"
    return ("--spec-type", f"ngram-{kind}", most, str(TOKENS[kind]))
