"""llama-server's environment as its flags: each has a variable."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

from lmxd.engines.llama_cpp import flags
from lmxd.files import read_text

_PREFIX: Final = "LLAMA_ARG_"
_OTHERWISE: Final = {
    "BATCH": "batch-size",
    "UBATCH": "ubatch-size",
    "N_PARALLEL": "parallel",
    "ROPE_SCALING_TYPE": "rope-scaling",
    "DIO": "direct-io",
    "STATIC_PATH": "path",
    "THINK": "reasoning-format",
    "THINK_BUDGET": "reasoning-budget",
    "THINK_BUDGET_MESSAGE": "reasoning-budget-message",
    "ENDPOINT_METRICS": "metrics",
    "ENDPOINT_PROPS": "props",
    "ENDPOINT_SLOTS": "slots",
    "CHECKPOINT_MIN_SPACING_NT": "checkpoint-min-step",
    "N_GPU_LAYERS_DRAFT": "spec-draft-ngl",
    "SPEC_DRAFT_HF_REPO": "spec-draft-hf",
    "SPEC_DRAFT_CACHE_TYPE_K": "spec-draft-type-k",
    "SPEC_DRAFT_CACHE_TYPE_V": "spec-draft-type-v",
}
"""Variables, without what all begin with, that are not called as their flags are."""
_FALSE: Final = frozenset(("false", "off", "0", "no", "disabled"))
_ASSIGNED: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_LARGEST: Final = 64 * 2**10
"""Bytes of a file of variables."""


def read_variables(path: Path) -> dict[str, str]:
    """The lines NAME=value of a file, as shells, compose and systemd have them. OSError or ValueError if it cannot be.

    Quotes around a value are none of it; what else a file has does not count.
    """
    found = {}
    for line in read_text(path, _LARGEST, regular=True).splitlines():
        if match := _ASSIGNED.fullmatch(line):
            try:
                words = shlex.split(match[2], comments=True)
            except ValueError:
                words = [match[2].strip()]
            found[match[1]] = " ".join(words)
    return found


def flag_of(name: str) -> str | None:
    """The flag of a variable such as LLAMA_ARG_CTX_SIZE; None if it is not llama-server's."""
    if name == "LLAMA_API_KEY":
        return "--api-key"
    if not name.startswith(_PREFIX):
        return None
    own = name.removeprefix(_PREFIX)
    return f"--{_OTHERWISE.get(own) or own.lower().replace('_', '-')}"


def words_of(flag: str, value: str) -> list[str]:
    """A flag with a value as words of a command line: switches have none, and those that are off may have an opposite.

    Empty if it is off, as it is by itself.
    """
    known = flags.FLAGS.get(flag)
    if known is None or known.arity:
        return [flag, value]
    if value.strip().lower() not in _FALSE:
        return [flag]
    name = flag.removeprefix("--")
    opposite = f"--{name.removeprefix('no-')}" if name.startswith("no-") else f"--no-{name}"
    return [opposite] if opposite in flags.FLAGS else []


def flag_named(name: str) -> str:
    """The flag of a name without dashes, as presets have them."""
    short, long = f"-{name}", f"--{name}"
    return short if (short in flags.FLAGS or len(name) <= 3) and long not in flags.FLAGS else long
