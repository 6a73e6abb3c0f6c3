"""A configuration as YAML for people: it is read back, so that it means what was put in, and nothing else."""

from __future__ import annotations

from typing import Any, Final

from lmxd.config import yaml_text
from lmxd.errors import LmxdError
from lmxd.folding import folded, width
from lmxd.text import shortened, visible

_WIDTH: Final = 80
"""Columns, as most terminals have them."""
_LONGEST: Final = 1000
"""Characters of a comment."""
_NOTES: Final = 24
"""The column at which notes stand."""


class Document:
    """Lines of YAML, and the value that they have. Words become comments; only values become YAML."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._meant: dict[str, Any] = {}

    def space(self) -> None:
        """An empty line."""
        self._lines.append("")

    def comment(self, words: str, indent: str = "") -> None:
        """Words that mean nothing to lmxd, whatever they are."""
        wrapped = folded(visible(shortened(words, _LONGEST)), _WIDTH - 2 - len(indent)) if words else []
        self._lines += [f"{indent}# {line}" for line in wrapped]

    def put(self, values: dict[str, Any], note: str = "") -> None:
        """Settings, and a note beside the last of them. BadYaml if they cannot be written."""
        self._note(_lines(values), note)
        self._meant |= values

    def suggest(self, values: dict[str, Any], note: str = "") -> None:
        """The same as a comment: somebody may take the comment signs away."""
        self._note([f"#{line}" for line in _lines(values)], note)

    def _note(self, lines: list[str], note: str) -> None:
        """Lines with a note beside the last of them; above them where it is too long for that."""
        beside = f"{lines[-1]:<{_NOTES}}# {visible(note)}"
        if note and width(beside) > _WIDTH:
            self.comment(note)
        self._lines += [*lines[:-1], beside if note and width(beside) <= _WIDTH else lines[-1]]

    def models(self, entries: list[tuple[dict[str, Any], str, bool, dict[str, Any]]]) -> None:
        """The section of models: for each its name and settings, words about it, and whether it is only suggested.

        The last are settings of it that are only suggested.
        """
        meant = {name: settings for entry, _, open_, _ in entries if not open_ for name, settings in entry.items()}
        self._lines.append("models:" if meant else "models: {}")
        for entry, words, open_, suggested in entries:
            sign = "#" if open_ else ""
            self.comment(words, f"{sign}  ")
            self._lines += [f"{sign}  {line}" for line in _lines(entry)]
            self._lines += [f"#    {line}" for line in _lines(suggested)] if suggested else []
        self._meant["models"] = meant

    def text(self) -> str:
        """The whole. LmxdError ``config`` if it is not read back as what was put in."""
        text = "\n".join((*self._lines, ""))
        try:
            same = yaml_text.load(text) == self._meant and all(line.isprintable() for line in self._lines)
        except yaml_text.BadYaml as error:
            raise LmxdError("config", f"the configuration {error}", "import less at once") from error
        if not same:
            raise LmxdError("config", "the configuration would not mean what was found", "report this")
        return text


def _lines(values: dict[str, Any]) -> list[str]:
    return yaml_text.dump(values).removesuffix("\n").split("\n")
