"""Every flag that a profile may add is one that the real llama-server starts with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loading import LOADED, lines_of_load

from lmxd.engines.llama_cpp.binary import find, probe
from lmxd.engines.llama_cpp.flags import ALLOWED, problems

AT_ONCE = 48
SAMPLES = {
    "whole": "1", "limit": "1", "natural": "1", "hits": "1", "least tokens": "1", "tokens": "1", "threads": "1",
    "number": "0.5", "positive": "1.5", "text": "x", "mask": "3", "range": "0-1", "bias": "15043-1", "json": "{}",
}  # fmt: skip
OWN = {"--chat-template": "chatml", "--prio": "0", "--samplers": "top_k;temperature", "--reasoning-effort": "low"}


CHUNKS = [tuple(ALLOWED)[at : at + AT_ONCE] for at in range(0, len(ALLOWED), AT_ONCE)]


def spelled_out(names: tuple[str, ...]) -> Iterator[str]:
    """The flags of them that the build at hand has, with values."""
    build = probe(find(None))
    for name in filter(build.knows, names):
        flag = ALLOWED[name]
        yield name
        if flag.arity:
            yield OWN.get(name) or next(iter(flag.choices), SAMPLES[flag.kind])


@pytest.mark.parametrize("names", CHUNKS, ids=lambda names: names[0])
def test_a_server_starts_with_what_a_profile_may_add(smollm2: Path, names: tuple[str, ...]) -> None:
    words = list(spelled_out(names))
    assert problems(words) == []
    argv = [str(find(None)), "-m", str(smollm2), "-c", "512", "-dev", "none", "--port", "0", "--no-warmup", *words]
    said = lines_of_load(argv)
    assert LOADED in said[-1], "".join(said[-5:])
