"""The log of all processes of lmxd: one record is one line, whatever its words and their source."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Hashable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Final

from lmxd import tracebacks
from lmxd.text import escaped, shortened
from lmxd.throttle import WINDOW, Throttle, ThrottledLines

_LONGEST: Final = 4096
"""Characters of one value. What follows it, such as a verdict, is never cut off."""
_INDENT: Final = "    "
log = logging.getLogger("lmxd")


class LineFormatter(logging.Formatter):
    """Formats a record as one line, in which every value is escaped and cut.

    A traceback follows, each of its lines indented behind the same beginning: nothing in a log stands there by itself.
    """

    def format(self, record: logging.LogRecord) -> str:
        lines = [_message(record)]
        if record.exc_info and record.exc_info[1] is not None:
            lines += [_INDENT + line for line in tracebacks.lines(record.exc_info[1])]
        if record.stack_info:
            lines += [_INDENT + escaped(line) for line in record.stack_info.split("\n")]
        record.asctime = self.formatTime(record, self.datefmt) if self.usesTime() else ""
        return "\n".join(self._line(record, line) for line in lines)

    def _line(self, record: logging.LogRecord, message: str) -> str:
        record.message = message
        return self.formatMessage(record)


class _Value:
    """A value of a record, as it may stand in a line."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return _harmless(str(self._value))

    def __repr__(self) -> str:
        return _harmless(repr(self._value))


def _value(value: object) -> object:
    if type(value) is str:
        return _harmless(value)
    return value if isinstance(value, int | float) else _Value(value)


def _harmless(words: str) -> str:
    return escaped(shortened(words, _LONGEST))


@lru_cache(maxsize=256)
def _template(words: str) -> str:
    """The fixed words of a call."""
    return _harmless(words)


def _message(record: logging.LogRecord) -> str:
    """The words of a record. A mistake in how it is written still leaves a line."""
    try:
        words = _template(record.msg) if isinstance(record.msg, str) else _harmless(str(record.msg))
        if isinstance(record.args, Mapping):
            words %= {key: _value(value) for key, value in record.args.items()}
        elif record.args:
            words %= tuple(map(_value, record.args))
    except Exception as error:  # of the values, or of the places for them
        about = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        words = _harmless(f"{type(error).__name__} as this was written: {about}")
    return words if words.isprintable() else escaped(words)


class OfLibraries(logging.Filter):
    """Bounds the warnings and errors that libraries log about connections: others cause them.

    A request that is no HTTP is one line without a traceback.

    A line counts the rest, when the window is over or ``end`` is called.
    """

    LOGGERS: Final = ("aiohttp.server", "aiohttp.web", "aiohttp.internal", "asyncio")

    def __init__(self, window: float = WINDOW) -> None:
        super().__init__()
        self._lines = ThrottledLines(Throttle(window=window), _count)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        key = f"records of {record.name} are not listed"
        error = record.exc_info[1] if record.exc_info else None
        if type(error).__module__ in ("aiohttp.http_exceptions", "aiohttp.web_protocol"):
            key = "requests were no HTTP"
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
            record.msg, record.args = "a request is no HTTP: %s", (" ".join(getattr(error, "message", "").split()),)
            record.exc_info = record.exc_text = None
        return self._lines.passes(key)

    def end(self) -> None:
        """Count what was left out until now."""
        self._lines.end()


def _count(key: Hashable, left_out: int) -> None:
    log.info("%d more %s", left_out, key)


def log_to_stderr(*, verbose: bool) -> None:
    """Log for journald: no time of our own, and the level as its <N> prefix when it is the journal that listens."""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # nor are they in a line
    logging._srcfile = None  # nor is the place in the code, which takes longest to find
    if "JOURNAL_STREAM" in os.environ:
        for number, name in ((7, "DEBUG"), (6, "INFO"), (4, "WARNING"), (3, "ERROR"), (2, "CRITICAL")):
            logging.addLevelName(getattr(logging, name), f"<{number}>")
        line = "%(levelname)s%(name)s: %(message)s"
    else:
        line = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(line))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
    of_libraries = OfLibraries()
    for name in OfLibraries.LOGGERS:
        logging.getLogger(name).addFilter(of_libraries)
    atexit.register(of_libraries.end)
    sys.excepthook = _uncaught
    threading.excepthook = lambda about: _uncaught(about.exc_type, about.exc_value, about.exc_traceback)
    sys.unraisablehook = _unraisable


def _uncaught(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    if error is not None and not isinstance(error, KeyboardInterrupt):
        log.critical("this was not foreseen: report it", exc_info=(kind, error, where))


def _unraisable(about: Any) -> None:
    log.error("an error could not be raised in %r", about.object, exc_info=about.exc_value)
