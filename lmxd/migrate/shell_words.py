"""The words and the commands of a line of a shell, which is read and never run."""

from __future__ import annotations

import shlex
from itertools import takewhile


def commands(line: str) -> list[list[str]]:
    """The commands of a line, without what the shell does with their output."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    found: list[list[str]] = [[]]
    skip = False
    try:
        for word in lexer:
            if skip:
                skip = False
            elif set(word) <= set(";&|") and found[-1]:
                found.append([])
            elif set(word) <= set("<>&"):
                skip = True
                if found[-1] and found[-1][-1] in ("1", "2"):
                    found[-1].pop()
            elif word.startswith("#"):
                break
            else:
                found[-1].append(word)
    except ValueError:
        return [line.split()]
    return [words for words in found if words]


def words_of(text: str) -> list[str]:
    """The words before a comment."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    return list(takewhile(lambda word: not word.startswith("#"), words))
