"""Names of models, as repositories have them: with slashes, and letters of any language."""

from __future__ import annotations

import unicodedata
from typing import Final

LATEST: Final = ":latest"
"""The tag of a name that has none, as ollama has it."""
LONGEST: Final = 128
"""Characters of a name."""
_MARKS: Final = frozenset("._:@+-/")
"""The characters of names that are neither letters nor digits."""
RULE: Final = f"letters, digits and . _ : @ + - with / between words, at most {LONGEST}"


def composed(name: str) -> str:
    """A name with each letter as one character, however it was typed (NFC)."""
    return unicodedata.normalize("NFC", name)


def is_name(name: str) -> bool:
    """Whether a composed name may be that of a model: a word, or several with slashes between them.

    A word begins with a letter or a digit, so that no name is ``..`` or an option of a command.
    """
    fits = len(name) <= LONGEST and name == composed(name) and all(_fits(c) for c in name)
    return fits and all(word and _begins(word[0]) for word in name.split("/"))


def fitting(words: str) -> str:
    """A name that is as near as may be to what something is called elsewhere; ``model`` if nothing of it fits."""
    kept = "".join(c if _fits(c) else "\0" for c in composed(words[: 8 * LONGEST]))
    joined = "-".join(filter(None, kept.split("\0")))
    parts = (part.lstrip("._:@+-") for part in joined.split("/"))
    name = "/".join(part for part in parts if part and _begins(part[0]))
    return name[:LONGEST].rstrip("/") or "model"


def _fits(c: str) -> bool:
    return c in _MARKS or unicodedata.category(c)[0] in "LMN"


def _begins(c: str) -> bool:
    return unicodedata.category(c)[0] in "LN"
