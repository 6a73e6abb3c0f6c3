"""The words of a real llama-server while it loads a model."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from lmxd.engines.environment import environment

LOADED: Final = "model loaded"
"""The words of the last line that counts."""
_LONGEST: Final = 100.0
"""Seconds that a load may take."""


def lines_of_load(argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
    """The lines that a llama-server prints until it has loaded its model or ended; then it is killed.

    ``env``: the one that engines have, by default.
    """
    own = environment() if env is None else dict(env)
    process = subprocess.Popen(
        argv, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    timer = threading.Timer(_LONGEST, process.kill)
    timer.start()
    found: list[str] = []
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            found.append(line)
            if LOADED in line:
                break
        process.kill()
    timer.cancel()
    return found
