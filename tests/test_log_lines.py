"""A record is a line: nothing that is logged forges another one, in whatever call, argument or exception it comes."""

from __future__ import annotations

import ast
import io
import logging
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sources import parsed
from waiting import until

from lmxd import text, tracebacks
from lmxd.log_lines import LineFormatter, OfLibraries
from lmxd.throttle import MOST

PACKAGE = Path(__file__).parent.parent / "lmxd"
HOSTILE = "a\nERROR lmxd: forged\r\x1b[2J\x07\x85\u2028\u2029\x9b1A\x7f\u202e\u2066\u200b\u00ad\ud800\udcff\\n\0\ufeff"
ANYTHING = st.text() | st.text(st.sampled_from(HOSTILE)) | st.just(HOSTILE)


class Odd:
    """Its words are of any kind, or it has none."""

    def __init__(self, words: str, *, raises: bool) -> None:
        self.words, self.raises = words, raises

    def __str__(self) -> str:
        if self.raises:
            raise ValueError(self.words)
        return self.words

    __repr__ = __str__


VALUES = (
    ANYTHING
    | st.integers()
    | st.floats()
    | st.none()
    | ANYTHING.map(lambda x: ValueError(x))
    | ANYTHING.map(lambda x: [x, {x: x.encode(errors="surrogatepass")}])
    | ANYTHING.map(lambda x: Odd(x, raises=False))
    | ANYTHING.map(lambda x: Odd(x, raises=True))
    | st.just(10**5000)
)


def written(*args: Any, **more: Any) -> str:
    """One call of a logger, as it comes out at the end."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    log = logging.Logger("lmxd.test")
    log.addHandler(handler)
    log.error(*args, **more)
    out.flush()
    return out.getvalue()


@cache
def log_calls() -> list[tuple[str, str]]:
    """(place, template) of each call of a logger in the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(parsed(path)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if ast.unparse(node.func.value) not in ("log", "logger", "self._log") or node.func.attr == "isEnabledFor":
                continue
            words = node.args[node.func.attr == "log"]
            where = f"{path.relative_to(PACKAGE)}:{node.lineno}"
            assert isinstance(words, ast.Constant), f"{where}: the words are fixed, and values are arguments"
            found.append((where, str(words.value)))
    return found


MOST_VALUES = 8


@given(st.lists(VALUES, min_size=MOST_VALUES, max_size=MOST_VALUES))
@example([HOSTILE] * MOST_VALUES)
def test_every_call_of_a_logger_writes_one_line_whatever_its_values(values: list[Any]) -> None:
    calls = log_calls()
    assert len(calls) > 40
    for where, template in calls:
        count = template.replace("%%", "").count("%")
        line = written(template, *values[:count])
        assert line.endswith("\n"), where
        assert line[:-1].isprintable(), where
        assert line.startswith("ERROR lmxd.test: "), where


@given(ANYTHING, st.lists(VALUES, max_size=3) | st.dictionaries(ANYTHING, VALUES, min_size=1, max_size=2))
@example("%c%c", [10, 27])
@example("%(a)s", {"a": HOSTILE})
@example("%s %s", [HOSTILE])
@example("%d", [HOSTILE])
@example("%-99999999999s", ["x"])
def test_whatever_libraries_log_is_one_line(template: str, values: Any) -> None:
    args = (values,) if isinstance(values, dict) else tuple(values)
    line = written(template, *args)
    assert line[:-1].isprintable()


@given(st.lists(ANYTHING, min_size=1, max_size=3), ANYTHING)
def test_the_lines_of_a_traceback_are_indented_and_no_exception_writes_one(words: list[str], note: str) -> None:
    try:
        try:
            raise ValueError(*words)
        except ValueError as error:
            error.add_note(note)
            raise ExceptionGroup(words[0], [error, OSError(2, words[0], words[0])]) from error
    except ExceptionGroup as error:
        lines = written("it %s", "failed", exc_info=error).split("\n")
    assert lines.pop() == ""
    assert lines[0] == "ERROR lmxd.test: it failed"
    assert all(line.startswith("ERROR lmxd.test:     ") and line.isprintable() for line in lines[1:])
    assert len(lines) < 30


def test_a_long_chain_of_exceptions_is_cut() -> None:
    error = ValueError("0")
    for n in range(2000):
        later = ValueError(str(n))
        later.__cause__ = error
        error = later
    assert len(tracebacks.lines(error)) < 50


@given(st.text(), st.text())
@example("\\n", "\n")
@example("\\x1b", "\x1b")
@example("\\U0001f600", "\U0001f600")
def test_no_two_texts_are_escaped_alike(one: str, other: str) -> None:
    assert text.escaped(one).isprintable()
    assert text.visible(one).isprintable()
    assert (text.escaped(one) == text.escaped(other)) == (one == other)


def test_a_long_value_is_cut_and_what_follows_it_is_not() -> None:
    line = written("%s refused: %s", "x" * 10**6, "why")
    assert line.endswith("characters more) refused: why\n")
    assert len(line) < 5000


def test_what_is_no_http_is_one_line_and_there_are_few(caplog: pytest.LogCaptureFixture) -> None:
    from aiohttp.http_exceptions import BadStatusLine, InvalidURLError

    caplog.set_level(logging.INFO)
    log = logging.getLogger("aiohttp.server.test")
    log.addFilter(OfLibraries())
    said = HOSTILE.encode(errors="ignore").decode()  # what pytest captures goes to another process as UTF-8
    for error in (BadStatusLine(said), InvalidURLError(said)) * MOST:
        log.error("Error handling request from %s", "x", exc_info=error)
    log.error("of another kind", exc_info=ValueError("x"))
    *malformed, other = caplog.records
    assert len(malformed) == MOST
    assert all(r.exc_info is None and r.levelno == logging.INFO for r in malformed)
    assert other.exc_info is not None


@pytest.mark.parametrize("name", OfLibraries.LOGGERS)
def test_errors_of_libraries_are_few_whatever_they_are(caplog: pytest.LogCaptureFixture, name: str) -> None:
    """A client that reset its connection had a traceback logged each time."""
    log, bound = logging.getLogger(f"{name}.few"), OfLibraries()  # a loop of another test may say something, too
    log.addFilter(bound)
    try:
        for _ in range(3 * MOST):
            log.error("Error handling request", exc_info=ConnectionResetError("gone"))
            log.warning("socket.send() raised exception")
    finally:
        log.removeFilter(bound)
    assert len([record for record in caplog.records if record.name == log.name]) == MOST


async def test_what_is_no_http_and_was_not_listed_is_counted_though_no_more_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from aiohttp.http_exceptions import BadStatusLine

    caplog.set_level(logging.INFO)
    log = logging.getLogger("aiohttp.server.counted")
    log.addFilter(OfLibraries(window=0.3))
    for _ in range(MOST + 7):
        log.error("x", exc_info=BadStatusLine("x"))
    await until(lambda: "7 more requests were no HTTP" in caplog.messages)


MALFORMED = """
import logging
from aiohttp.http_exceptions import BadStatusLine
from lmxd.log_lines import log_to_stderr
log_to_stderr(verbose=False)
for _ in range(37):
    logging.getLogger("aiohttp.server").error("x", exc_info=BadStatusLine("x"))
"""


def test_what_is_no_http_and_was_not_listed_is_counted_at_the_end() -> None:
    ran = subprocess.run([sys.executable, "-c", MALFORMED], capture_output=True, text=True, check=True)
    assert ran.stderr.endswith(f"INFO lmxd: {37 - MOST} more requests were no HTTP\n")


SET_UP = """
import logging, sys, threading, warnings
from lmxd.log_lines import log_to_stderr
log_to_stderr(verbose=False)
hostile = sys.argv[1] + chr(0x2028) + chr(0xd800)
logging.getLogger("aiohttp.server").error("x %s", hostile)
warnings.warn(hostile)
threading.Thread(target=lambda: int(hostile)).start()
class Late:
    def __del__(self): raise ValueError(hostile)
Late()
raise RuntimeError(hostile)
"""


@pytest.mark.parametrize("journal", [True, False])
def test_all_that_a_process_says_is_in_such_lines(journal: bool) -> None:
    """Libraries, warnings, threads, destructors and the last exception of all."""
    env = os.environ | ({"JOURNAL_STREAM": "8:1"} if journal else {})
    done = subprocess.run(
        [sys.executable, "-c", SET_UP, "a\nERROR forged\x1b[2J"], env=env, capture_output=True, timeout=60
    )
    assert done.returncode == 1
    lines = done.stderr.decode().split("\n")
    assert lines.pop() == ""
    begin = ("<3>", "<4>", "<2>") if journal else ("20",)
    assert all(line.isprintable() and line.startswith(begin) for line in lines), lines
    said = "\n".join(lines)
    assert said.count("ERROR forged\\x1b[2J") >= 4
    for what in ("aiohttp.server: x", "py.warnings: ", "ValueError: ", "RuntimeError: "):
        assert what in said


def test_nobody_sets_up_a_log_of_their_own() -> None:
    own = {"basicConfig", "StreamHandler", "FileHandler", "addHandler", "setFormatter", "Formatter", "excepthook"}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = {
            node.attr
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.Attribute) and (node.attr != "excepthook" or isinstance(node.ctx, ast.Store))
        }
        assert path.name == "log_lines.py" or not names & own, path
