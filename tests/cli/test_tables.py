"""Tables of any content, as wide as any terminal: no line is too long, no word broken, no name lost."""

from __future__ import annotations

import pytest
from examples import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmxd.cli.tables import Table
from lmxd.folding import CUT, cut, folded, width

HUB = "unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF:UD-Q4_K_XL"
WIDE = "名前/大きい模型-30B:Q4_K_M"
words = st.one_of(
    st.sampled_from([HUB, WIDE, "a", "-", "l-5f1c2a90", "GPU-01a4c5e8-1111-2222-3333-444455556666"]),
    st.text("abcdefgh模型-:/.0123", min_size=1, max_size=128),
)
prose = st.lists(words, max_size=12).map(" ".join)
figures = st.integers(0, 2**60).map(str)
rows = st.lists(st.tuples(words, figures, words, words, figures, prose), min_size=1, max_size=6)
HEADINGS = ("INSTANCE", ">PROMISED GiB", "MODEL", "USER", ">CTX", "INSTANCE OR REASON")


def lines(table: Table, most: int) -> list[str]:
    return [line.plain for line in table.lines(most)]


def broken(shown: list[str], *said: str) -> list[str]:
    """The words on a screen that are neither whole words of what was said, nor the beginning of one, and so marked."""
    whole = {word for text in said for word in text.split()}
    return [
        word
        for line in shown
        for word in line.split()
        if word not in whole
        and not (word.endswith(CUT) and any(each.startswith(word.removesuffix(CUT)) for each in whole))
    ]


@pytest.mark.parametrize("most", [40, 60, 80, 200])
@given(rows)
@example([(HUB + "#1", "131072", HUB, "x" * 64, str(2**60), f"waits for {HUB}#2 and {'y' * 128}")])
@settings(max_examples=examples(30))
def test_a_table_fits_and_breaks_no_word(most: int, rows: list[tuple[str, ...]]) -> None:
    shown = lines(Table(HEADINGS, rows), most)
    assert max(map(width, shown)) <= most
    said = [cell for row in rows for cell in row]
    assert broken(shown, *said, *(heading.lstrip(">") for heading in HEADINGS)) == []


@given(rows)
@settings(max_examples=examples(30))
def test_every_row_says_what_it_is_called_by_and_its_figures(rows: list[tuple[str, ...]]) -> None:
    shown = lines(Table(HEADINGS, rows), 80)
    for row in rows:
        assert any(line.startswith(cut(row[0], 80)) or row[0] in line.split() for line in shown)
        assert row[1] in " ".join(shown).split()


@given(rows)
@settings(max_examples=examples(30))
def test_without_a_width_each_row_is_one_whole_line(rows: list[tuple[str, ...]]) -> None:
    _, *shown = lines(Table(HEADINGS, rows), 10**6)
    assert len(shown) == len(rows)
    for line, row in zip(shown, rows, strict=True):
        assert line.split("  ")[0] == row[0]
        assert all(cell.strip() in line for cell in row if cell.strip(" -"))


def test_a_long_name_is_above_its_row_and_the_columns_stand_where_they_did() -> None:
    shown = lines(Table(("MODEL", ">CTX", ">BYTES"), [(HUB, "4096", str(2**60)), ("a", "512", "1")]), 60)
    assert shown == [
        f"{'MODEL':33}  {'CTX':>4}  {'BYTES':>19}",
        HUB,
        f"{'':33}  4096  {2**60:>19}",
        f"{'a':33}  {512:>4}  {1:>19}",
    ]


def test_a_reason_that_has_no_room_beside_its_row_is_below() -> None:
    why = "it is kept free for others, on request, and comes back afterwards"
    shown = lines(Table(("OWNER", ">GiB", "WHY"), [(HUB, "1.00", why), (HUB, "2.00", "-")]), 80)
    assert shown == [f"{'OWNER':51}   GiB", "    WHY", f"{HUB}  1.00", f"    {why}", f"{HUB}  2.00"]


def test_of_all_ways_the_one_of_fewest_lines_is_taken() -> None:
    rows = [(HUB, "1.00", "it is kept free for others, on request"), *(("a", "2.00", "free for all") for _ in range(9))]
    assert len(lines(Table(("OWNER", ">GiB", "WHY"), rows), 80)) == 1 + 2 + 9


def test_columns_without_a_word_are_left_out() -> None:
    assert lines(Table(("A", "B", ">C"), [("x", "-", "1"), ("y", "", "2")]), 80) == ["A  C", "x  1", "y  2"]


def test_on_the_narrowest_terminal_a_row_is_a_list() -> None:
    row = ("llama#1", "17.30", "131072", "1048576", "99999")
    shown = lines(Table(("INSTANCE", ">PROMISED", ">CTX", ">MEASURED", ">LEASES"), [row, ("b#1", *row[1:])]), 24)
    of_each = ["  PROMISED  17.30", "  CTX       131072", "  MEASURED  1048576", "  LEASES    99999"]
    assert shown == ["llama#1", *of_each, "b#1", *of_each]


def test_wide_characters_count_twice() -> None:
    shown = lines(Table(("NAME", ">N"), [("模型", "1"), ("abcd", "2")]), 80)
    assert [width(line) for line in shown] == [7, 7, 7]
    assert cut("模型模型", 6) == "模型…"


@given(prose, st.integers(10, 100), st.integers(0, 4))
def test_a_sentence_is_folded_between_words(text: str, most: int, indent: int) -> None:
    shown = folded(text, most, indent)
    assert " ".join(shown).split() == text.split()
    assert all(width(line) <= most or len(line.split()) == 1 for line in shown)
