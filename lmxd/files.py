"""Small files of our own that are replaced as a whole, so that no reader ever sees half of one."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)


def replace_text(path: Path, text: str) -> bool:
    """Write ``text`` to ``path``, making its directory. False, and a warning in the log, if that cannot be done."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        fresh.write_text(text)
        fresh.replace(path)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        return False
    return True
