"""Text for people: from outside, made harmless, and names that are too long for the eye."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

_UUID: Final = re.compile(r"((?:GPU|MIG)-(?:[^-]+(?=-)|(?!0000)[0-9a-f]{8}(?=[0-9a-f]{8}$))).+")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_FEW: Final = 3
"""Names that are said one by one."""
_Device = TypeVar("_Device", bound=str)


def visible(text: str) -> str:
    """The text with escapes for the characters that are not seen as themselves.

    Those are all that ``str.isprintable`` denies: control characters, every kind of line end, marks that reverse the
    direction of writing, unpaired surrogates (bytes that are not UTF-8), and spaces that are not the usual one.
    """
    return text if text.isprintable() else "".join(map(_seen, text))


def escaped(text: str) -> str:
    """The same, with the backslash escaped, too: no two texts become the same one."""
    return visible(text.replace("\\", "\\\\") if "\\" in text else text)


def short_id(device: str) -> str:
    """The first eight digits of a GPU's UUID, which are enough for the eye; other names of devices as they are."""
    return _UUID.sub(r"\1", device)


def device_name(device: str, ref: str = "") -> str:
    """A device in a sentence: by its number, ``GPU 0``, where it has one, else by the beginning of its id."""
    return f"GPU {ref}" if ref.isdecimal() else short_id(device)


def known_as(device: _Device, called: Mapping[_Device, str]) -> str:
    """A device in a sentence: by its name of ``called``, names by id, else by the beginning of its id."""
    return called.get(device) or short_id(device)


def user_name(uid: int, key: str) -> str:
    """A user in sentences: the key for which the gateway asks, or else the uid."""
    return f"key {key}" if key else f"uid {uid}"


def several(names: Sequence[str], what: str = "instances") -> str:
    """Names as in a sentence; of many, their number."""
    return ", ".join(names) if len(names) <= _FEW else f"{len(names)} {what}"


def sentence_among(names: Iterable[str]) -> str | None:
    """The first of some names that is a sentence: who waits for a quota has that among what it waits for."""
    return next((name for name in names if " " in name), None)


def shortened(text: str, most: int) -> str:
    """The text, or its first ``most`` characters and how many were left out."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} characters more)"


def _seen(letter: str) -> str:
    if letter.isprintable():
        return letter
    number = ord(letter)
    if number < 0x100:
        return _SHORT.get(letter) or f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
