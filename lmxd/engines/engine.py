"""The contract of an engine: all that lmxd needs of it."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Protocol

from pydantic import AliasChoices, BeforeValidator, Field

from lmxd.engines.visibility import Gpu
from lmxd.estimate.backends import Backend
from lmxd.estimate.companions import ALONE, Companions
from lmxd.failures import FailureCode
from lmxd.gguf.launch import Launch


def slot_file(slot: int) -> str:
    """The name of the file with the prompt cache of a slot, in the plan's directory for them."""
    return f"slot-{slot}.bin"


class EngineKind(StrEnum):
    """The engine that runs an instance. ``command``: any other, by the command line of its profile."""

    LLAMA_CPP = "llama.cpp"
    VLLM = "vllm"
    SGLANG = "sglang"
    TGI = "tgi"
    COMMAND = "command"


PROGRAMS: Final = (EngineKind.LLAMA_CPP, EngineKind.VLLM, EngineKind.SGLANG, EngineKind.TGI)
"""The kinds that have a program of their own, so that there can be several engines of them, by name."""

UPSTREAM_NAMES: Final = {EngineKind.TGI: "tgi"}
"""The names that kinds of engine have for any model of theirs. TGI takes others for those of adapters."""


def own_engine(name: str, program: Path) -> str:
    """The name of an engine that is as another, but for its program. A space is in no name that is given."""
    return f"{name} {program}"


def shown_engine(name: str) -> str:
    """The name of an engine for people, who need not know where its program is."""
    return name.partition(" ")[0]


def _of_older(gpus: object) -> object:
    """The GPUs of a plan as an earlier lmxd wrote them: ids beside ``cards``, or alone, when all were NVIDIA's."""
    return [{"id": gpu} if isinstance(gpu, str) else gpu for gpu in gpus] if isinstance(gpus, list) else gpus


_LAUNCH: Final = "context slots batch ubatch cache_type_k cache_type_v flash gpu_layers split".split()
"""Fields of a launch that an earlier lmxd wrote beside those of its plan."""


def of_older(plan: object) -> object:
    """A plan as it is written now, of one that an earlier lmxd wrote."""
    if not isinstance(plan, dict) or "launch" in plan:
        return plan
    launch = {name: plan[name] for name in _LAUNCH if name in plan}
    return {name: value for name, value in plan.items() if name not in _LAUNCH} | {"launch": launch}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The exact size and place that was admitted, and that an engine must start with.

    ``engine`` is the name of the engine. Without ``gpus`` it is in RAM; the ``split`` of its launch are the layers on
    each of them. ``companions`` go with its model. ``home`` is a directory of the daemon's for key and socket files.
    ``command``, ``env`` and ``health`` are for an engine that is none of ours, and so is ``upstream_name``, the name of
    its model if not the profile's; ``size`` of ``capacity`` bytes of the (first) device is what it is told that it may
    take, whatever it was promised, of which ``used`` are in use without it. ``prompts``: a directory for its prompt
    cache, which is there when it starts and when it is to save. ``kv_bytes``: of the cache on each device, and
    ``kv_tokens`` in it, where the engine is told; 0 if its size follows from the launch. ``sleeps``: it may be told to
    sleep. ``carried``: what a slot of it has is carried to another instance by ``prompts``.
    """

    instance: str
    profile: str
    model: Path | None
    launch: Launch
    threads: int | None
    flags: tuple[str, ...]
    gpus: Annotated[tuple[Gpu, ...], BeforeValidator(_of_older), Field(validation_alias=AliasChoices("cards", "gpus"))]
    endpoint: str
    home: Path
    companions: Companions = ALONE
    variant: str = ""
    kind: EngineKind = EngineKind.LLAMA_CPP
    engine: str = ""
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    health: str = "/health"
    upstream_name: str | None = None
    size: int = 0
    capacity: int = 1
    used: int = 0
    prompts: Path | None = None
    kv_bytes: int = 0
    kv_tokens: int = 0
    sleeps: bool = False
    carried: bool = False

    def __post_init__(self) -> None:
        if not self.engine:  # an earlier lmxd knew one of each kind
            object.__setattr__(self, "engine", self.kind.value)

    @property
    def gpu_ids(self) -> tuple[str, ...]:
        """The ids of its GPUs, which last."""
        return tuple(gpu.id for gpu in self.gpus)

    @property
    def estimated(self) -> Path | None:
        """The file that the estimator's formula is about; None for an engine that only its user knows."""
        return self.model if self.kind is EngineKind.LLAMA_CPP else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """The address at which an instance will listen, and the file with its key.

    Neither ``socket`` nor ``port``: on a loopback port of its own choice, which is not known yet. ``health``: the path
    that answers 200 once it serves.
    """

    key_file: Path
    socket: Path | None = None
    port: int | None = None
    health: str = "/health"


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command line to execute, with its environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    key: str
    address: Address


def _is_socket(path: Path) -> bool:
    """Whether there is a socket, and not a link to one: an engine might have us speak to another's."""
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


NOWHERE: Final = "http://lmxd.invalid"
"""The URL of an endpoint on a Unix socket. No such host ever resolves (RFC 6761): a client that overlooks the socket
tells the key to nobody, while localhost would be whoever listens on port 80."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """The URL at which an instance answers. ``socket`` set: over a Unix socket, the URL's host means nothing."""

    url: str
    key: str
    socket: Path | None = None
    health: str = "/health"

    @classmethod
    def at(cls, address: Address, key: str) -> Endpoint | None:
        """The endpoint at this address; None as long as it is not known where it listens."""
        if address.socket is not None:
            there = _is_socket(address.socket)
            return cls(url=NOWHERE, key=key, socket=address.socket, health=address.health) if there else None
        if address.port is None:
            return None
        return cls(url=f"http://127.0.0.1:{address.port}", key=key, health=address.health)


@dataclass(frozen=True, kw_only=True, slots=True)
class Activity:
    """One answer of an engine about what it does.

    ``work`` is a counter that grows with all the engine does; only its changes mean anything. ``prompted``
    counts the tokens of prompts that it has processed, ``processing`` the requests that it is at, and ``decoded`` the
    tokens that each of them got, where it says so, and ``generated`` those that they got together. ``guessed``: it is
    taken to be busy, for clients are connected, but nothing shows that they are served.
    """

    busy: bool
    work: float
    prompted: float = 0.0
    processing: int = 0
    decoded: float = 0.0
    generated: float = 0.0
    guessed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """The reason why an instance ended: a stable code and one sentence."""

    code: FailureCode
    message: str


class Engine(Protocol):
    """One kind of server: how it is started, asked and understood."""

    def require(self) -> None:
        """LmxdError ``engine_missing`` if it cannot be started here, as far as that is known before."""
        ...

    def command(self, plan: Plan) -> Command:
        """The command line for a plan; writes its key file. LmxdError if the engine cannot be had."""
        ...

    async def ready(self, endpoint: Endpoint) -> bool:
        """Returns whether it serves requests by now."""
        ...

    async def save(self, endpoint: Endpoint, slots: int) -> bool:
        """Write the prompt cache of each slot to the plan's directory; whether all of them were."""
        ...

    async def restore(self, endpoint: Endpoint, slots: int) -> bool:
        """Read them back."""
        ...

    async def activity(self, endpoint: Endpoint) -> Activity | None:
        """Its activity at present; None if it does not say."""
        ...

    def misplaced(self, plan: Plan, log: Sequence[str]) -> str | None:
        """The contradiction between the plan and its own log after readiness, or None."""
        ...

    def buffers(self, plan: Plan, log: Sequence[str]) -> float:
        """MiB of the buffers that its log says it has where it was to run; 0 if it does not say."""
        ...

    def diagnose(self, plan: Plan, status: int | None, log: Sequence[str]) -> Diagnosis:
        """The reason why it ended with ``status`` (negative: by that signal; None: unknown)."""
        ...


class Program(Protocol):
    """The program of an engine as it is found on this machine."""

    @property
    def name(self) -> str:
        """The path and the version, for people."""
        ...

    @property
    def version(self) -> str:
        """The version, for what is learned about it."""
        ...


class InstalledServer(Engine, Protocol):
    """An engine with a program of its own, which may be installed, upgraded, or missing."""

    @property
    def called(self) -> str:
        """The name of the kind of program, for people."""
        ...

    @property
    def key(self) -> str:
        """The key of the configuration that names the program."""
        ...

    def binary(self) -> Program:
        """LmxdError ``engine_missing`` if there is none that runs."""
        ...

    def stamp(self) -> object:
        """A value that is another one when another program is there than before; None while there is none."""
        ...

    def backends(self, cards: frozenset[str], *, asleep: bool = False) -> frozenset[Backend] | None:
        """The backends of this build, on a machine with these cards; None if it is not known. It may take a while.

        ``asleep``: a card sleeps, and is not woken to find out. LmxdError ``engine_missing`` if there is no program.
        """
        ...

    def unreached(self, gpus: Iterable[Gpu], *, asleep: bool = False) -> Iterator[str]:
        """The reasons why it cannot be told to use GPUs for which it has a backend. It may take a while."""
        ...

    @property
    def needs_gpu(self) -> bool:
        """Whether this build cannot run in RAM alone."""
        ...
