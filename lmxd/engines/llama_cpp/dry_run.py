"""llama-server's own no-alloc pass (``--fit on``), run beside pretended GPUs: what it would allocate, by its own code.

It touches no GPU, has no network and cannot write, ends after a time, and is remembered by model file,
flags and binary. GGUF files are untrusted input to C++ here; that is why.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from lmxd.accounts import SystemUser
from lmxd.engines.environment import environment
from lmxd.engines.llama_cpp.binary import Binary
from lmxd.engines.llama_cpp.log import ERROR, STAMP, diagnose
from lmxd.engines.llama_cpp.model_text import said
from lmxd.engines.visibility import HIDDEN
from lmxd.errors import LmxdError
from lmxd.files import decoded, replace_text
from lmxd.gguf.split import part_names, part_number

TIMEOUT: Final = 20.0
_MOST: Final = 1024
_PRETEND: Final = "lmxd.engines.llama_cpp.pretend"
_PACKAGES: Final = Path(__file__).parents[3]
_MIB: Final = 2**20
_LONGEST_LINE: Final = 4096
"""Bytes of a line that are looked at."""
_MOST_OUTPUT: Final = 8 * _MIB
_MOST_LINES: Final = 100_000
"""Bytes and lines that a dry run may print. One of a small model prints 85 KB."""
_MOST_TELLING: Final = 2000
_LAST: Final = 200
"""Lines that are kept: those with figures or errors, and the last."""
_MOST_FILES: Final = 8
_LOOK: Final = 0.1
"""Sockets that it may make, of which llama-server makes one; and seconds between two looks at how many there are."""
_COMPUTE: Final = re.compile(STAMP + r"sched_reserve: +(\w+) compute buffer size = +(\d{1,9}(?:\.\d+)?) MiB$", re.ASCII)
_TABLE: Final = STAMP + r"common_memory_breakdown_print: \| +- "
_SUM: Final = r" *\d+ = +(\d{1,9}) \+ +(\d{1,9}) \+ +(\d{1,9})"
_DEVICE: Final = re.compile(_TABLE + r"CUDA(\d{1,3}) .*\(" + _SUM + r"\)", re.ASCII)
_HOST: Final = re.compile(_TABLE + r"(Host|CPU\w*) +\|" + _SUM, re.ASCII)
_END: Final = re.compile(STAMP + r"common_(?:params_)?fit\w*: projected to use ", re.ASCII)
_TELLING: Final = (_COMPUTE, _DEVICE, _HOST, ERROR)
_FIGURES: Final = ("compute buffer size", "_breakdown_print", "projected to use")
"""Phrases of these lines. A file that says one of them imitates them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsed:
    """Bytes in one place, as a dry run printed them. Weights and cache are printed in whole MiB: rounded up here."""

    weights: int
    context: int
    compute: int

    def __add__(self, other: Rehearsed) -> Rehearsed:
        return Rehearsed(
            weights=self.weights + other.weights,
            context=self.context + other.context,
            compute=self.compute + other.compute,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """The answer of a dry run: bytes on each device, and in RAM."""

    devices: tuple[Rehearsed, ...]
    host: Rehearsed


class DryRunner:
    """Makes dry runs of one binary, one at a time: clients cannot have many run at once.

    ``cache`` is a directory for answers that last; None: only here. ``account``: the user that they run as; None for
    ours.
    """

    def __init__(
        self, binary: Binary, cache: Path | None = None, timeout: float = TIMEOUT, account: SystemUser | None = None
    ) -> None:
        self._binary = binary
        self._cache = cache
        self._timeout = timeout
        self._account = account
        self._answers: dict[str, DryRun | LmxdError] = {}
        self._one_at_a_time = threading.Lock()

    def ask(self, model: Path, words: Sequence[str], cards: int) -> DryRun:
        """The bytes that ``llama-server -m MODEL WORDS`` would allocate on so many cards (0: in RAM).

        Raises LmxdError ``engine_missing`` if this binary cannot be asked, ``bad_model_file`` if
        it refuses the model or the flags. Both are remembered like answers.
        """
        key = self._key(model, words, cards)
        with self._one_at_a_time:
            if key not in self._answers:
                if len(self._answers) >= _MOST:
                    self._answers.clear()
                self._answers[key] = self._read(key) or self._run(key, model, words, cards)
            return _answer(self._answers[key])

    def known(self, model: Path, words: Sequence[str], cards: int) -> DryRun | None:
        """An earlier answer of ``ask``, at once; None if there is none."""
        found = self._answers.get(self._key(model, words, cards))
        return None if found is None else _answer(found)

    def _run(self, key: str, model: Path, words: Sequence[str], cards: int) -> DryRun | LmxdError:
        try:
            if said(model, _FIGURES):
                problem = f"{model}: its metadata imitate llama-server's own lines"
                raise LmxdError("bad_model_file", problem, "do not use this file: it was made to deceive")
            found = _parsed(_output(self._binary, model, words, cards, self._timeout, self._account), cards, model)
        except LmxdError as error:
            return error
        self._write(key, found)
        return found

    def _key(self, model: Path, words: Sequence[str], cards: int) -> str:
        files = []
        for path, code in ((self._binary.path, "engine_missing"), (model, "model_file_missing")):
            try:
                found = path.stat()
            except OSError as error:
                raise LmxdError(code, f"{path}: {error.strerror}", "put it there again") from error
            files.append(f"{path.resolve()} {found.st_size} {found.st_mtime_ns} {found.st_ino}")
        return hashlib.sha256(json.dumps([*files, list(words), cards]).encode()).hexdigest()

    def _read(self, key: str) -> DryRun | None:
        if self._cache is None:
            return None
        try:
            read = decoded((self._cache / f"{key}.json").read_text())
            devices = tuple(Rehearsed(**device) for device in read["devices"])
            return DryRun(devices=devices, host=Rehearsed(**read["host"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, key: str, found: DryRun) -> None:
        if self._cache is None:
            return
        with suppress(OSError):  # it is only a cache
            replace_text(self._cache / f"{key}.json", json.dumps(asdict(found)))
            for old in sorted(self._cache.iterdir(), key=lambda p: p.stat().st_mtime)[:-_MOST]:
                old.unlink()


def _answer(found: DryRun | LmxdError) -> DryRun:
    if isinstance(found, LmxdError):
        raise found
    return found


def _output(
    binary: Binary, model: Path, flags: Sequence[str], cards: int, timeout: float, account: SystemUser | None
) -> list[str]:
    """The text that it prints, up to the end of the pass; it is killed then."""
    libraries = _libraries(binary.path)
    with tempfile.TemporaryDirectory(prefix="lmxd-dry-run-") as home:
        real = model.resolve()
        if account is not None:
            os.chown(home, account.uid, account.gid)
        command = [sys.executable, "-m", _PRETEND, str(libraries), str(cards), json.dumps(_parts(real)), home]
        command += ["-m", str(real), *flags, "--fit", "on", "-lv", "5", "--host", f"{home}/s.sock"]
        command += ["--device", "none"] if not cards else []
        command += ["--lazy-mode", "off"] if binary.knows("--lazy-mode") else []  # as it is launched
        path = ":".join(filter(None, (str(libraries), os.environ.get("LD_LIBRARY_PATH"))))
        own = {"GGML_NO_BACKTRACE": "1", "LD_LIBRARY_PATH": path, "PYTHONPATH": str(_PACKAGES)}
        env = environment() | HIDDEN | own
        process = _spawned(command, env, account)
        try:
            return kept(_lines(process, timeout, Path(home)))
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: the group is its own
            process.wait()


def _spawned(command: Sequence[str], env: Mapping[str, str], account: SystemUser | None) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 (the binary that root configured)
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd="/",
            start_new_session=True, **({} if account is None else account.spawning()),
        )  # fmt: skip
    except OSError as error:
        name = "lmxd" if account is None else account.name
        remedy = f"let {name} read and run {sys.executable}"
        raise LmxdError("engine_missing", f"the dry run does not start: {error}", remedy) from error


def _parts(model: Path) -> list[str]:
    """The files of a model, which may be split."""
    part = part_number(str(model))
    try:
        return [str(model)] if part is None else part_names(str(model), part[1])
    except ValueError:
        return [str(model)]


def kept(lines: Iterable[str]) -> list[str]:
    """The lines that tell something, and the last: whoever prints a lot fills no memory. Raises LmxdError."""
    telling: list[str] = []
    last: deque[str] = deque(maxlen=_LAST)
    for number, line in enumerate(lines):
        if number >= _MOST_LINES or len(telling) >= _MOST_TELLING:
            raise _too_much("says too much")
        if any(pattern.match(line) for pattern in _TELLING):
            telling.append(line)
        else:
            last.append(line)
    return [*telling, *last]


def _too_much(what: str) -> LmxdError:
    return LmxdError("bad_model_file", f"llama-server's dry run {what}", "ask without it: --dry-run never")


def _lines(process: subprocess.Popen[bytes], timeout: float, scratch: Path) -> Iterator[str]:
    """The lines that it prints up to the end of the pass, each cut at a bound. Raises LmxdError."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    until, rest, read = time.monotonic() + timeout, b"", 0
    while (left := until - time.monotonic()) > 0:
        if len(list(islice(scratch.iterdir(), _MOST_FILES + 1))) > _MOST_FILES:
            raise _too_much("makes too many sockets")
        if not select.select([process.stdout], [], [], min(left, _LOOK))[0]:
            continue
        chunk = process.stdout.read(65536)
        if not chunk:
            yield rest.decode(errors="replace")
            return
        read += len(chunk)
        if read > _MOST_OUTPUT:
            raise _too_much("says too much")
        *lines, rest = (rest[:_LONGEST_LINE] + chunk).split(b"\n")
        for line in lines:
            text = line[:_LONGEST_LINE].decode(errors="replace")
            yield text
            if _END.match(text):
                return
    raise LmxdError("engine_missing", f"the dry run took more than {timeout:g} s", "ask without it: --dry-run never")


def _parsed(lines: Sequence[str], cards: int, model: Path) -> DryRun:
    computes: dict[str, float] = {}
    devices: dict[int, Rehearsed] = {}
    nothing = Rehearsed(weights=0, context=0, compute=0)
    host: Rehearsed | None = None
    for line in lines:
        if match := _COMPUTE.match(line):
            computes[match[1]] = float(match[2])
        if match := _DEVICE.match(line):
            number = int(match[1])
            found = _rehearsed(match[2], match[3], match[4], computes.get(f"CUDA{number}"))
            devices[number] = devices.get(number, nothing) + found
        if match := _HOST.match(line):
            exact = computes.get("CUDA_Host" if cards else "CPU") if match[1] == "Host" else None
            host = (host or nothing) + _rehearsed(match[2], match[3], match[4], exact)
    if host is None or len(devices) < min(cards, 1):
        why = diagnose(None, lines, model).message
        raise LmxdError("bad_model_file", f"llama-server's dry run failed: {why}", "look at what it says")
    return DryRun(devices=tuple(devices.get(n, nothing) for n in range(cards)), host=host)


def _rehearsed(weights: str, context: str, compute: str, exact: float | None) -> Rehearsed:
    """Whole MiB are cut off by the table; the compute buffer also has a line with two decimals."""
    whole = [int(figure) * _MIB + (_MIB if int(figure) else 0) for figure in (weights, context, compute)]
    exactly = whole[2] if exact is None else int((exact + 0.01) * _MIB)
    return Rehearsed(weights=whole[0], context=whole[1], compute=exactly)


def _libraries(path: Path) -> Path:
    """The directory of a binary's libraries: its own, or ../lib."""
    real = path.resolve()
    for place in (real.parent, real.parent.parent / "lib"):
        if (place / "libllama-server-impl.so").exists():
            return place
    raise LmxdError("engine_missing", f"{path} is built without shared libraries: no dry run", "build it with them")
