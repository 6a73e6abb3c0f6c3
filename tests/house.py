"""A whole lmxd in the test's own process, with fake engines: real sockets, real processes, scripted models."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_llama_server
import synthetic
import yaml
from devices.fake_nvml import Card, FakeNvml
from devices.machines import of_the_host
from waiting import GENEROUS, until

from lmxd.config.file import load
from lmxd.core.words import InstanceId
from lmxd.daemon.answering.users import Users
from lmxd.daemon.assembly import Daemon
from lmxd.daemon.launching.launched import Launched
from lmxd.daemon.places import listen, occupy, places
from lmxd.devices.roots import Roots
from lmxd.instances import proc
from lmxd.rpc.client import AsyncClient
from lmxd.store.database import Database
from lmxd.store.rows import Saved

FAKE = Path(fake_llama_server.__file__)
_SCRIPT = f"""#!/bin/sh
case $1 in
--help) printf '%s' '{fake_llama_server.HELP}'; exit ;;
--version) echo '{fake_llama_server.VERSION}'; exit ;;
--list-devices) exit 1 ;;
esac
exec {sys.executable} -S -E {FAKE} "$@"
"""
"""Each daemon asks what it is, four times: the shell says it in a tenth of the time that Python takes to start."""


def fake_engine(directory: Path) -> Path:
    """An executable that is the fake llama-server."""
    script = directory / "llama-server"
    if not script.exists():
        script.write_text(_SCRIPT)
        script.chmod(0o755)
    return script


def fake_vllm(directory: Path, version: str = "0.32.0+cpu") -> Path:
    """An environment whose vllm is the fake one, and its program."""
    program = directory / "vllm/bin/vllm"
    if not program.exists():
        program.parent.mkdir(parents=True)
        (directory / f"vllm/lib/python3.12/site-packages/vllm-{version}.dist-info").mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {FAKE.with_name("fake_vllm.py")} "$@"\n')
        program.chmod(0o755)
    return program


def model(directory: Path, name: str, **play: Any) -> Path:
    """A tiny model file, and how the fake is to behave with it."""
    path = directory / f"{name}.gguf"
    parts = synthetic.decoder(
        "llama", layers=2, embedding=64, heads=4, kv_heads=2, feed_forward=128, vocabulary=100, head=32, context=32768
    )
    synthetic.write(path, *parts)
    path.with_suffix(".json").write_text(json.dumps(play))
    return path


class House:
    """``sections``: configuration besides engine and model_dir."""

    def __init__(self, directory: Path, nvml: FakeNvml | None = None, **sections: Any) -> None:
        self.roots = Roots(sys=directory / "sys", proc=of_the_host(directory))
        """The kernel's files, for which another machine's can be given before it opens.

        No card is on the PCI bus, but those that a test puts there.
        """
        if not self.roots.sys.exists():
            self.roots.sys.mkdir()
            (self.roots.sys / "fs").symlink_to("/sys/fs")
        self.directory = directory
        self.config_path = directory / "config.yaml"
        self.nvml = nvml or FakeNvml()
        if not self.nvml.cards:
            self.nvml.init_fault = 12
        self.sections = sections
        self.where = places(directory / "s", user=True)
        for name in sections.get("models", {}):
            if not (directory / f"{name}.gguf").exists():
                model(directory, name)
        self.write()

    def write(self, **changes: Any) -> None:
        """(Re)write the configuration file."""
        self.sections |= changes
        engine = {"path": str(fake_engine(self.directory)), "stop_timeout": 2, "load_timeout": 20}
        whole = {"model_dir": str(self.directory)} | self.sections
        whole["engine"] = engine | whole.get("engine", {})
        self.config_path.write_text(yaml.safe_dump(whole))

    @contextlib.asynccontextmanager
    async def open(self, *, stays: bool = False) -> AsyncIterator[House]:
        """``stays``: what runs is left for the next daemon to find, as when lmxd is restarted."""
        with occupy(self.where):
            async with self._live(stays):
                yield self

    @contextlib.asynccontextmanager
    async def _live(self, stays: bool) -> AsyncIterator[None]:
        config, others = load(self.config_path), asyncio.all_tasks()
        self.daemon = Daemon(config, self.config_path, self.where, self.nvml, self.roots)
        await self.daemon.begin()
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(self.daemon.listener, sock=listen(self.where))
        measuring = loop.create_task(self.daemon.measuring.keep())
        try:
            yield
        finally:
            server.close()
            if stays:
                await self.daemon.leave()
            else:
                await self.daemon.drain()
            measuring.cancel()
            await self.daemon.listener.close()
            if stays:  # as if its process had ended
                for task in asyncio.all_tasks() - others:
                    task.cancel()

    def client(self, **more: Any) -> AsyncClient:
        return AsyncClient(self.where.socket, **more)

    async def until(self, holds: Callable[[], Any], seconds: float = GENEROUS) -> None:
        """Returns as soon as something holds; fails if it does not in time."""
        await until(holds, seconds)

    @property
    def state(self) -> Any:
        return self.daemon.admission.state

    def launched(self, instance: str) -> Launched | None:
        return self.daemon.launches.get(InstanceId(instance))

    def argv(self, launched: Any) -> list[str]:
        """What its process was really started with."""
        return Path(f"/proc/{launched.process.pid}/cmdline").read_text().split("\0")

    def env(self, launched: Any) -> dict[str, str]:
        return proc.environment(launched.process.pid)

    def saved(self) -> Saved:
        """What is on disk."""
        database = Database(self.where.state / "ledger.db", proc.boot())
        try:
            return database.load()
        finally:
            database.close()

    def phases(self) -> dict[str, str]:
        return {i.id: i.phase.value for i in self.state.instances.values()}


def card(gib: float = 24, uuid: str = "GPU-a") -> Card:
    return Card(uuid, int(gib * 2**30))


async def http(lease: Any, path: str, body: bytes | None = None) -> SimpleNamespace:
    """One request to a lease's endpoint, with its key."""
    import aiohttp

    connector = aiohttp.UnixConnector(lease.socket) if lease.socket else None
    headers = {"Authorization": f"Bearer {lease.api_key}"}
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request("GET" if body is None else "POST", lease.endpoint + path, data=body, headers=headers) as answer,
    ):
        return SimpleNamespace(status=answer.status, text=await answer.text())


class Registered(Users):
    """Users of which each uid is one, as if all were in passwd."""

    async def owner(self, uid: int) -> int:
        return uid
