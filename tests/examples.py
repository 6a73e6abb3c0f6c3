"""How many examples hypothesis tries, and which."""

from __future__ import annotations

import os

import hypothesis

FUZZING = "LMXD_EXAMPLES" in os.environ
"""As ``make fuzz`` does: others at every run. What it finds becomes an ``@example`` or a story."""


def examples(usual: int) -> int:
    """So many, or as many as are asked for."""
    return int(os.environ.get("LMXD_EXAMPLES", usual))


def profile() -> None:
    """The same examples at every run: a change is judged by what it changed."""
    hypothesis.settings.register_profile("lmxd", derandomize=not FUZZING, deadline=None, max_examples=examples(100))
    hypothesis.settings.load_profile("lmxd")
