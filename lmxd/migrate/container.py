"""``docker run`` and ``podman run``: the image and its command, and where the files lie that it sees."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from lmxd.migrate import programs
from lmxd.migrate.leaves import is_secret
from lmxd.migrate.other_servers import in_container
from lmxd.migrate.report import About, Report

_RUNTIMES: Final = frozenset(("docker", "podman", "nerdctl"))
_SWITCHES: Final = frozenset(
    """--rm --init --privileged -d --detach -i --interactive -t --tty -it -ti -dit -itd -P --publish-all --read-only
    --no-healthcheck --oom-kill-disable --sig-proxy -q --quiet --tls-verify --replace""".split()
)
"""Options without a value: all others have one."""
_ITS_IMAGES: Final = re.compile(r"(?i)llama[._-]?cpp(?![._-]?python)|llama[._-]?server|ramalama")
_OTHER_WORK: Final = frozenset(
    "--run -r --run-legacy --convert -c --quantize -q --bench -b --perplexity -p --all-in-one -a".split()
)
"""First words for the image of all of llama.cpp that mean another program than llama-server."""
_OTHER_ENGINES: Final = re.compile(r"(?i)vllm|sglang|ollama|koboldcpp|localai|text-generation")
CARDS: Final = "lmxd chooses the card, among those of gpu.devices"
"""The reason why no card is named."""
OF_CONTAINER: Final = "is of the container, and lmxd starts llama-server itself"
"""The reason why an option of a container has no counterpart."""


@dataclass(slots=True)
class Container:
    """A container that is to run: its image, its command, its environment, and the host's paths by its own."""

    image: str = ""
    name: str = ""
    words: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)

    def serves(self) -> bool:
        """Whether its command is a server's that is known."""
        return self.runs_llama_server() or in_container(self.image, self.words) is not None

    def runs_llama_server(self) -> bool:
        """Whether its command is llama-server's."""
        first = PurePosixPath(self.words[0]).name if self.words else ""
        if programs.server_arguments(self.words) is not None:
            return True
        if ":full" in self.image and first in _OTHER_WORK:
            return False
        file = any(word.endswith(".gguf") for word in self.words)
        return _ITS_IMAGES.search(self.image) is not None or (file and not _OTHER_ENGINES.search(self.image))

    def arguments(self, left: About) -> list[str]:
        """The words for llama-server: without its name, which images have or not."""
        words = programs.server_arguments(self.words)
        if words is not None:
            left.unneed(self.words[0], OF_CONTAINER)
        words = list(self.words) if words is None else words
        while words and words[0] in ("--server", "-s", "server"):
            left.unneed(words.pop(0), OF_CONTAINER)
        return words

    def mount(self, said: str) -> None:
        """Note HOST:INSIDE[:OPTIONS], or ``type=bind,source=…,target=…``."""
        if "target=" in said or "dst=" in said or "destination=" in said:
            parts = dict(part.partition("=")[::2] for part in said.split(","))
            host = parts.get("source") or parts.get("src", "")
            inside = parts.get("target") or parts.get("dst") or parts.get("destination", "")
        else:
            drive = said[:2] if programs.of_windows(said) else ""
            host, _, inside = said.removeprefix(drive).partition(":")
            host, inside = drive + host, inside.partition(":")[0]
        if host and inside:
            self.volumes[inside.rstrip("/") or "/"] = host

    def on_host(self, path: str, base: Path) -> str | None:
        """A path of the container as the host's; None if it is in none of its directories. A named volume is none."""
        for inside in sorted(self.volumes, key=len, reverse=True):
            host = self.volumes[inside]
            if (path == inside or path.startswith(f"{inside.rstrip('/')}/")) and _is_path(host):
                if programs.of_windows(host):
                    return f"{host.rstrip('/')}/{path[len(inside) :].lstrip('/')}"
                whole = Path(host).expanduser() / path[len(inside) :].lstrip("/")
                return str(whole if whole.is_absolute() or host.startswith("$") else base / whole)
        return None


def _is_path(host: str) -> bool:
    return host.startswith(("/", ".", "~", "$")) or programs.of_windows(host)


def runs_container(argv: Sequence[str]) -> bool:
    """Whether a command line is of docker, podman or the like."""
    return bool(argv) and PurePosixPath(argv[0]).name in _RUNTIMES and "run" in argv[1:6]


def serves(argv: Sequence[str]) -> bool:
    """Whether it is of a container that runs llama-server, or another server that is known."""
    return runs_container(argv) and parse(argv, Report().about("")).serves()


def parse(argv: Sequence[str], left: About) -> Container:
    """The container of such a command line; its options are said."""
    found = Container()
    rest = deque(argv[list(argv).index("run") + 1 :])
    entry: list[str] = []
    while rest and rest[0].startswith("-"):
        option, joined, value = rest.popleft().partition("=")
        if option in _SWITCHES:
            left.unneed(f"{argv[0]} run {option}{joined}{value}", OF_CONTAINER)
            continue
        value = value if joined or not rest else rest.popleft()
        if option in ("-v", "--volume", "--mount"):
            found.mount(value)
        elif option in ("-e", "--env"):
            name, _, content = value.partition("=")
            found.environment[name] = content
            continue
        elif option == "--entrypoint":
            entry = [value]
        elif option == "--name":
            found.name = value
        if option == "--gpus" and value != "all":
            left(f"{argv[0]} run --gpus {value}: {CARDS}")
            continue
        shown = "(not shown)" if is_secret(option) else value
        left.unneed(f"{argv[0]} run {option} {shown}", OF_CONTAINER)
    found.image = rest.popleft() if rest else ""
    found.words = entry + list(rest)
    left.unneed(f"image {found.image}", OF_CONTAINER)
    return found
