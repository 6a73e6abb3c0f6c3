"""Text as wide as a terminal: folded between words, and cut at "…" where one word is wider than all there is."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

CUT = "…"
"""The end of a word of which the rest is left out."""


def width(text: str) -> int:
    """Cells of a terminal that a text takes: two for each wide character, such as those of Chinese."""
    return cell_len(text)


def widest_word(text: str) -> int:
    """Cells of the widest word of a text."""
    return max(map(width, text.split(" ")), default=0)


def cut(text: str, most: int) -> str:
    """The text, or its beginning in ``most`` cells, with a mark that it goes on."""
    if width(text) <= most:
        return text
    return set_cell_size(text, most - 1).rstrip() + CUT if most > 0 else ""


def folded(text: str, most: int, indent: int = 0) -> list[str]:
    """Lines of at most ``most`` cells, folded between words; a wider word stays whole, in a line of its own.

    The lines after the first begin with ``indent`` spaces more than the text itself.
    """
    if width(text) <= most:
        return [text]
    start = " " * (len(text) - len(text.lstrip(" ")))
    lines, line = [], start
    for word in text.split(" ")[len(start) :]:
        longer = line + word if not line.strip() else f"{line} {word}"
        if line.strip() and width(longer) > most:
            lines.append(line.rstrip(" "))
            line = start + " " * indent + word
        else:
            line = longer
    return [*lines, line]
