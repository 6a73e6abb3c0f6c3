"""The managers of bench/arena.py: each is started before the same models, and asked over OpenAI's API at ``url``."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from arena_models import MIB, Model, fit_any, fitting
from gateway_process import Gateway
from lmxd_process import Lmxd

from lmxd.engines.environment import environment
from lmxd.engines.llama_cpp.binary import find

GIB = 2**30
PATIENCE = 300
"""Seconds for which every manager may let a request wait."""
NO_ROOM = ("cudaMalloc failed: out of memory", "failed to allocate")


@dataclass(frozen=True, slots=True)
class Setting:
    """What all managers of a run share. ``limit``: bytes of the card or of RAM that are theirs, as they are told."""

    place: Path
    models: Sequence[Model]
    limit: int
    on_gpu: bool
    peers: Path
    depth: int | None
    """Requests that may wait, where a manager has such a limit; None for its own."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server(model: Model, port: int | str) -> list[str]:
    """The command line of a llama-server, the same for all managers that are told one."""
    words = [str(find(None)), "-m", str(model.path), "-a", model.name, *model.flags, "--fit", "off"]
    return [*words, "--host", "127.0.0.1", "--port", str(port)]


class Manager:
    """``with Manager(setting) as manager``: it runs, and ends with all that it started."""

    binary: ClassVar[str | None] = None
    key = "none"

    def __init__(self, setting: Setting, option: str = "") -> None:
        self.setting, self.option = setting, option
        self.place = setting.place
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log = (self.place / "manager.log").open("ab")

    def __enter__(self) -> Manager:
        self.start()
        return self

    def start(self) -> None:
        raise NotImplementedError

    def url(self, model: str) -> str:
        """Where a client asks for a model; only ``Naive`` has one for each."""
        return self.base

    def spawn(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        env = {**os.environ, **environment()}
        process = subprocess.Popen(
            words, stdout=self.log, stderr=self.log, env=env, cwd=self.place, start_new_session=True
        )
        self.processes.append(process)
        return process

    def wait_for_port(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise SystemExit(f"{type(self).__name__} did not start: {(self.place / 'manager.log').read_text()[-500:]}")

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + 8
        while any(p.poll() is None for p in self.processes) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._signal(signal.SIGKILL)
        for process in self.processes:
            process.wait()
        self.log.close()

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def ooms(self) -> int:
        """Engines that died of want of memory, by their logs."""
        texts = [path.read_text(errors="replace") for path in self.place.rglob("*.log")]
        return sum(text.count(NO_ROOM[0]) for text in texts)


class Naive(Manager):
    """Nobody: each model's server is started when it is first wanted, and again when it has died."""

    def start(self) -> None:
        self.servers: dict[str, tuple[subprocess.Popen[bytes], int]] = {}

    def url(self, model: str) -> str:
        if model not in self.servers or self.died(model):
            port = free_port()
            (known,) = (m for m in self.setting.models if m.name == model)
            self.servers[model] = (self.spawn(server(known, port)), port)
        return f"http://127.0.0.1:{self.servers[model][1]}"

    def died(self, model: str) -> bool:
        return self.servers[model][0].poll() is not None


class Router(Manager):
    """llama-server's own. ``router:N`` loads at most N models (its default is 4), ``router`` as many as always fit."""

    def start(self) -> None:
        text = "version = 1\n"
        for model in self.setting.models:
            text += f"\n[{model.name}]\nmodel = {model.path}\nctx-size = {model.context * model.slots}\n"
            text += f"parallel = {model.slots}\nn-gpu-layers = {model.flags[5]}\nfit = off\n"
        preset = self.place / "models.ini"
        preset.write_text(text)
        most = self.option or str(fit_any(self.setting.models, self.setting.limit))
        words = [str(find(None)), "--models-preset", str(preset), "--models-max", most]
        self.spawn([*words, "--host", "127.0.0.1", "--port", str(self.port)])
        self.wait_for_port()


class LlamaSwap(Manager):
    """With the sets of models that fit together written out, as its user would have to."""

    binary = "llama-swap"

    def start(self) -> None:
        limit = {} if self.setting.depth is None else {"concurrencyLimit": self.setting.depth}
        known = {m.name: {"cmd": " ".join(server(m, "${PORT}")), **limit} for m in self.setting.models}
        names = {f"m{n}": m.name for n, m in enumerate(self.setting.models)}
        short = {name: key for key, name in names.items()}
        sets = {
            f"s{n}": " & ".join(short[m.name] for m in some)
            for n, some in enumerate(fitting(self.setting.models, self.setting.limit))
        }
        router = {"use": "matrix", "settings": {"matrix": {"vars": names, "sets": sets}}}
        config = {"healthCheckTimeout": PATIENCE, "models": known, "routing": {"router": router}}
        path = self.place / "swap.yaml"
        path.write_text(json.dumps(config))
        binary = str(self.setting.peers / "llama-swap")
        self.spawn([binary, "--config", str(path), "--listen", f"127.0.0.1:{self.port}"])
        self.wait_for_port()


class LargeModelProxy(Manager):
    """Each model declares what lmxd estimates for it."""

    binary = "large-model-proxy"

    def start(self) -> None:
        config = {
            "OpenAiApi": {"ListenPort": str(self.port)},
            "MaxTimeToWaitForServiceToCloseConnectionBeforeGivingUpSeconds": PATIENCE,
            "ShutDownAfterInactivitySeconds": PATIENCE,
            "ResourcesAvailable": {"VRAM": self.setting.limit // MIB},
            "Services": [self._service(model) for model in self.setting.models],
        }
        path = self.place / "proxy.json"
        path.write_text(json.dumps(config))
        self.spawn([str(self.setting.peers / "large-model-proxy"), "-c", str(path)])
        self.wait_for_port()

    def _service(self, model: Model) -> dict[str, Any]:
        port, (binary, *words) = free_port(), server(model, "PORT")
        return {
            "Name": model.name,
            "ListenPort": str(free_port()),
            "ProxyTargetHost": "127.0.0.1",
            "ProxyTargetPort": str(port),
            "Command": binary,
            "Args": " ".join(str(port) if word == "PORT" else word for word in words),
            "HealthcheckCommand": f"curl --fail http://127.0.0.1:{port}/health",
            "HealthcheckIntervalMilliseconds": 100,
            "OpenAiApi": True,
            "RestartOnConnectionFailure": False,
            "ResourceRequirements": {"VRAM": -(-model.size // MIB)},
        }


class Ours(Manager):
    """lmxd and its gateway, with default settings but for the limit and, if it is given, the depth of the queue."""

    def start(self) -> None:
        setting = self.setting
        profiles = {
            m.name: {"path": str(m.path), "context_length": m.context, "slots": m.slots} for m in setting.models
        }
        gpu: dict[str, Any] = {"device": "host", "max_memory_gb": round(setting.limit / GIB, 3)}
        config: dict[str, Any] = {"gpu": {} if setting.on_gpu else gpu, "models": profiles}
        config["model_dirs"] = sorted({str(m.path.parent) for m in setting.models})
        if setting.depth is not None:
            config["admission_control"] = {"queue_depth": setting.depth}
        self.lmxd = Lmxd(self.place, config).start()
        self.gateway = Gateway(self.lmxd)
        self.gateway.__enter__()
        self.base, self.key = self.gateway.url, self.gateway.key

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "gateway"):
            self.gateway.__exit__()
        if hasattr(self, "lmxd"):
            self.lmxd.__exit__()
        super().__exit__()


MANAGERS: dict[str, type[Manager]] = {
    "lmxd": Ours,
    "large-model-proxy": LargeModelProxy,
    "llama-swap": LlamaSwap,
    "router": Router,
    "naive": Naive,
}


def chosen(names: Sequence[str], peers: Path) -> list[str]:
    """Those of ``names`` that can run here; says which cannot."""
    found = []
    for name in names:
        kind = MANAGERS[name.partition(":")[0]]
        if kind.binary is None or os.access(peers / kind.binary, os.X_OK):
            found.append(name)
        else:
            print(f"{name} is left out: no {peers / kind.binary}", file=sys.stderr)
    return found
