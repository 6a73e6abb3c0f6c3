"""Tables for people, as wide as their terminal: the one component for all of them.

No figure is shortened and no word is broken. Where rows do not fit in a line each, words are folded in their columns,
what the last column says goes below the row, or names of the first go above it: whichever takes the fewest lines. Where
that does not do, long words end with "…", and on the narrowest of terminals each row is a list of its cells. Columns
without a word are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from lmxd.folding import cut, folded, widest_word, width
from lmxd.text import visible

GAP: Final = 2
"""Spaces between columns. No cell has two in a row within it, so that a line can be taken apart."""
_BELOW: Final = 4
"""Spaces before what is said below a row."""
_PROSE: Final = 28
"""Cells below which the last column goes below its row rather than being folded further."""
_LEAST: Final = 10
"""Cells that a word is cut to, at the least: as many as the id of a request or a lease takes, which is never cut."""
_SHORT: Final = 20
"""Cells of a name that stays beside the other columns, if there is room, where longer ones are above."""
_NOTHING: Final = frozenset({"", "-"})

Cell = str | Text
"""A text, or one with a style."""


def text(words: str, style: str | Style = "") -> Text:
    """Words for a table or a screen: every character is visible, and none is markup."""
    return Text(visible(words), style, overflow="ellipsis")


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``right``: it is of figures, which are neither folded nor cut."""

    heading: str
    cells: tuple[Text, ...]
    right: bool

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing of any row."""
        return _NOTHING.issuperset(cell.plain for cell in self.cells)

    @property
    def natural(self) -> int:
        """Cells that it takes in one line."""
        return max(width(self.heading), self._widest)

    @property
    def least(self) -> int:
        """Cells without which a word would be cut."""
        words = self._widest if self.right else max((widest_word(cell.plain) for cell in self.cells), default=0)
        return max(widest_word(self.heading), words)

    @property
    def cut_least(self) -> int:
        """Cells without which it says too little."""
        return self.least if self.right else max(widest_word(self.heading), min(self.least, _LEAST))

    @property
    def short(self) -> int:
        """Cells that its heading and its short cells take."""
        found = (width(cell.plain) for cell in self.cells)
        return max(width(self.heading), *(wide for wide in found if wide <= _SHORT), 0)

    @property
    def _widest(self) -> int:
        return max((width(cell.plain) for cell in self.cells), default=0)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The widths of the columns that are side by side, and whether the first and the last have lines of their own."""

    widths: tuple[int, ...]
    above: bool = False
    below: bool = False


class Table:
    """Rows below headings. A heading that begins with ``>`` is of figures, which are aligned to the right."""

    def __init__(self, headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        cells = [[_cell(cell) for cell in row] for row in rows]
        columns = [
            Column(visible(heading.removeprefix(">")), tuple(row[n] for row in cells), heading.startswith(">"))
            for n, heading in enumerate(headings)
        ]
        self._columns = [column for n, column in enumerate(columns) if not n or not column.is_empty]
        self._rows = range(len(cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.lines(options.max_width)

    def lines(self, most: int) -> Iterator[Text]:
        """The lines of the table, none of them wider than ``most`` cells: as few as may be."""
        found = _arrangements(self._columns, most, cuts=False) or _arrangements(self._columns, most, cuts=True)
        if not found:
            yield from self._listed(most)
            return
        yield from min(([*self._arranged(each, most)] for each in found), key=len)

    def _arranged(self, arrangement: Arrangement, most: int) -> Iterator[Text]:
        headings = [text(column.heading, "bold") for column in self._columns]
        yield from _row(headings, self._columns, arrangement, most, heading=True)
        for n in self._rows:
            yield from _row([c.cells[n] for c in self._columns], self._columns, arrangement, most)

    def _listed(self, most: int) -> Iterator[Text]:
        """Each row as a list of its cells, below the first, for a terminal that is too narrow for anything else."""
        first, *others = self._columns
        indent = min(max((width(c.heading) for c in others), default=0) + 2 * GAP, most // 2)
        for n in self._rows:
            yield from _cell_lines(first.cells[n], most)
            for column in others:
                heading = cut(" " * GAP + column.heading, indent - 1)
                for line in _cell_lines(column.cells[n], most - indent):
                    yield text(heading + " " * (indent - width(heading)), "bold") + line
                    heading = ""


def _cell(cell: Cell) -> Text:
    words, style = (cell.plain, cell.style) if isinstance(cell, Text) else (cell, "")
    start = words[: len(words) - len(words.lstrip(" "))]
    return text(start + " ".join(filter(None, words.split(" "))), style)


def _arrangements(columns: Sequence[Column], most: int, *, cuts: bool) -> list[Arrangement]:
    """The arrangements that fit, the simplest first. ``cuts``: long words are cut, and no prose stands in a column."""
    prose = len(columns) > 1 and not columns[-1].right
    names = len(columns) > 1 and not columns[0].right
    found = []
    for above, below in ((False, False), (False, True), (True, False), (True, True)):
        if (above and not names) or (below and not prose) or (cuts and prose and not below):
            continue
        side = columns[: len(columns) - below]
        widths = _widths(side, most, above=above, cuts=cuts, prose=prose and not below)
        if widths is not None:
            found.append(Arrangement(tuple(widths), above, below))
        if widths == [c.natural for c in columns]:
            break  # nothing can be simpler
    return found


def _widths(side: Sequence[Column], most: int, *, above: bool, cuts: bool, prose: bool) -> list[int] | None:
    """The widths of columns side by side in ``most`` cells; None if they do not fit.

    The first is never cut there, for it has what a row is called by. ``above``: wider names of it are above the others,
    so that its short ones, or its heading alone, have to fit.
    """
    room = most - GAP * (len(side) - 1)
    least = [c.cut_least if cuts and n else c.least for n, c in enumerate(side)]
    if prose and not cuts:
        least[-1] = max(least[-1], min(side[-1].natural, _PROSE))
    if above:
        least[0] = side[0].short if sum(least[1:]) + side[0].short <= room else width(side[0].heading)
    if sum(least) > room:
        return None
    widths = [c.natural for c in side]
    while (excess := sum(widths) - room) > 0:
        n = max((n for n in range(len(side)) if widths[n] > least[n]), key=lambda n: (above and n == 0, widths[n]))
        lower = max((w for m, w in enumerate(widths) if m != n), default=0)
        widths[n] = max(least[n], widths[n] - excess, min(lower, widths[n] - 1))
    return widths


def _row(
    cells: Sequence[Text], columns: Sequence[Column], arrangement: Arrangement, most: int, *, heading: bool = False
) -> Iterator[Text]:
    """The lines of one row. Headings stand on the line above the first row, cells on the first of theirs."""
    side = list(cells[: len(arrangement.widths)])
    if arrangement.above and width(side[0].plain) > arrangement.widths[0]:
        yield from _cell_lines(side[0], most)
        side[0] = text("")
    blocks = [
        [cell] if columns[n].right and not heading else _cell_lines(cell, arrangement.widths[n])
        for n, cell in enumerate(side)
    ]
    height = max(map(len, blocks))
    for at in range(height):
        line, column_at = text(""), 0
        for n, (block, wide) in enumerate(zip(blocks, arrangement.widths, strict=True)):
            index = at - (height - len(block)) if heading else at
            piece = block[index] if 0 <= index < len(block) else text("")
            before = wide - width(piece.plain) if columns[n].right else 0
            if piece.plain:
                line.append(" " * (column_at + before - width(line.plain)))
                line.append_text(piece)
            column_at += wide + GAP
        if line.plain or not arrangement.above:
            yield line
    if arrangement.below and cells[-1].plain not in _NOTHING:
        for piece in _cell_lines(cells[-1], most - _BELOW):
            yield text(" " * _BELOW) + piece


def _cell_lines(cell: Text, most: int) -> list[Text]:
    """A cell folded between words, and words that are wider cut."""
    return [text(cut(line, most), cell.style) for line in folded(cell.plain, most)]
