"""Programs by their names: those that are llama-server, and those that only start another one."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lmxd.migrate.shell_variables import assignment

_SERVER: Final = re.compile(r"(?i)(?:ik[-_])?llama[-_.](?:cpp[-_.])?server(?!.*\.(?:sh|py|service|log|conf|env)$).*")
_WRAPPERS: Final = {
    "env": ("-u -C -S --unset --chdir", 0),
    "exec": ("-a", 0),
    "nohup": ("", 0),
    "setsid": ("", 0),
    "time": ("", 0),
    "nice": ("-n --adjustment", 0),
    "ionice": ("-c -n --class --classdata", 0),
    "taskset": ("", 1),
    "numactl": ("-N -m -i -C -l --cpunodebind --membind --interleave --physcpubind --preferred", 0),
    "stdbuf": ("-i -o -e", 0),
    "sudo": ("-u -g -C -D -R -T --user --group", 0),
    "doas": ("-u -C", 0),
    "chrt": ("", 1),
    "timeout": ("-s -k --signal --kill-after", 1),
    "flock": ("-w -E --timeout", 1),
    "unbuffer": ("", 0),
    "systemd-run": ("-p -u -E --property --unit --setenv --slice --uid --gid --description --working-directory", 0),
    "screen": ("-S -c -dmS -DmS -Logfile", 0),
}
"""Programs that start the one that follows -> (their options that have a value, their words before it)."""
_WINDOWS: Final = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_WINDOWS_WORD: Final = re.compile(r'(?:\\"|"(?:\\"|[^"])*"?|[^\s"])+')
_LONGEST: Final = 1000
"""Characters of a name that count: no system takes more."""
_SHELLS: Final = frozenset(("sh", "bash", "zsh", "dash", "ash"))
_TERMINALS: Final = frozenset(("tmux", "screen"))
"""Programs that a shell's line may be given to as one word."""


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """A command line without the programs that only start it, which are ``wrappers``, and what they set."""

    argv: list[str]
    environment: dict[str, str]
    wrappers: list[str]


def of_windows(path: str) -> bool:
    """Whether a path is one of Windows: C:\\x, C:/x or \\\\server\\x."""
    return _WINDOWS.match(path) is not None


def windows_words(line: str) -> list[str]:
    """The words of a command line of Windows, where a backslash is a character as any other, but before a quote."""
    found = []
    for word in _WINDOWS_WORD.findall(line):
        plain = word.replace('\\"', "\0").replace('"', "").replace("\0", '"')
        found.append(plain)
    return found


def name_of(word: str) -> str:
    """The name of a program, on whichever system its path is."""
    return word[-_LONGEST:].replace("\\", "/").rpartition("/")[2]


def server_arguments(argv: Sequence[str]) -> list[str] | None:
    """The words for llama-server; None if a command line starts something else.

    Its own name, ``llama serve``, and ``server`` of older versions; a program that nobody knows, but for its model.
    """
    if not argv or _ASKS & set(argv[1:3]):
        return None
    name = name_of(argv[0]).removesuffix(".exe")
    if _SERVER.fullmatch(name):
        return list(argv[1:])
    if name == "llama" and argv[1:2] == ["serve"]:
        return list(argv[2:])
    if (name == "server" or "$" in name) and any(word.endswith(".gguf") or word in _MODELS for word in argv[1:]):
        return list(argv[1:])
    return None


_ASKS: Final = frozenset(("--version", "--help", "-h", "--list-devices", "--license"))
"""Words with which llama-server answers, and ends."""
_MODELS: Final = frozenset(("-hf", "-hfr", "--hf-repo", "--model", "--models-preset", "--models-dir"))


def line_for_shell(argv: Sequence[str]) -> str | None:
    """The line that a command gives to a shell; None if it gives none."""
    if (at := _place_of_line(argv)) is not None:
        return argv[at]
    return argv[-1] if argv and _gives_line(argv) else None


def words_for_line(argv: Sequence[str]) -> dict[str, str]:
    """The words that follow such a line, by the names that it has for them: $0, $1 …"""
    at = _place_of_line(argv)
    return {} if at is None else {str(number): word for number, word in enumerate(argv[at + 1 :])}


def _place_of_line(argv: Sequence[str]) -> int | None:
    if not argv or name_of(argv[0]) not in _SHELLS:
        return None
    at = next((n for n, word in enumerate(argv[1:20], 1) if re.fullmatch("-[a-z]*c", word)), len(argv))
    return at + 1 if at + 1 < len(argv) else None


def _gives_line(argv: Sequence[str]) -> bool:
    return name_of(argv[0]) in _TERMINALS and " " in argv[-1]


def unwrapped(argv: Sequence[str]) -> Unwrapped:
    """A command line without its wrappers."""
    rest, found = deque(argv), Unwrapped([], {}, [])
    while rest:
        if set_here := assignment(rest[0]):
            found.environment[set_here[0]] = set_here[2]
            rest.popleft()
        elif name_of(rest[0]) in _WRAPPERS and len(rest) > 1 and not _gives_line(rest):
            found.wrappers.append(_wrapper(rest))
        else:
            break
    found.argv.extend(rest)
    return found


def _wrapper(rest: deque[str]) -> str:
    taken = [rest.popleft()]
    with_value, before = _WRAPPERS[name_of(taken[0])]
    while rest and rest[0].startswith("-") and len(rest) > 1:
        taken.append(rest.popleft())
        if taken[-1] == "--":
            break
        if taken[-1] in with_value.split() and len(rest) > 1:
            taken.append(rest.popleft())
    while before and len(rest) > 1:
        taken.append(rest.popleft())
        before -= 1
    return " ".join(taken)
