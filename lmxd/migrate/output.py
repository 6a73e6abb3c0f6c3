"""The YAML that an import or a scan writes, and the words about it on standard error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from lmxd.errors import LmxdError
from lmxd.migrate.entries import FoundModel, rendered
from lmxd.terminal import say, say_lines

PATH: Final = click.Path(path_type=Path)
OUTPUT: Final = click.option(
    "--output", "-o", type=PATH, help="Write there rather than to standard output; never over a file."
)


def write(text: str, output: Path | None) -> None:
    """Write to a new file, or to standard output. LmxdError ``config`` if the file is there, or cannot be written."""
    if output is None:
        say_lines(text)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise LmxdError("config", f"{output}: {error.strerror}", "choose another --output") from error


def say_all(headline: str, sentences: Sequence[str]) -> None:
    """Say sentences under a headline; nothing if there are none."""
    if sentences:
        say(headline, err=True)
    for sentence in sentences:
        say(f"  {sentence}", err=True)


def write_found(found: FoundModel, source: str, output: Path | None) -> None:
    """Write the profiles that were found, and say what became of all else. LmxdError as above."""
    write(rendered(found, source), output)
    ready = sum(not entry.open for entry in found.entries)
    say(f"{ready} model{'' if ready == 1 else 's'} from {source}", err=True)
    for headline, sentences in found.report.lines().items():
        say_all(headline, sentences)
