"""llama-server as an ``Engine``: command line, readiness, activity, diagnosis."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from lmxd.accounts import SystemUser
from lmxd.devices import pci
from lmxd.engines.carrier import SavedSlot, SlotUse
from lmxd.engines.engine import Activity, Command, Diagnosis, Endpoint, Plan, slot_file
from lmxd.engines.environment import environment
from lmxd.engines.http import get
from lmxd.engines.llama_cpp import log as logs
from lmxd.engines.llama_cpp import slots
from lmxd.engines.llama_cpp.backends import listed
from lmxd.engines.llama_cpp.binary import Binary, find, probe, stamp
from lmxd.engines.llama_cpp.command import command
from lmxd.engines.llama_cpp.selection import LISTED, listing, once, selection
from lmxd.engines.llama_cpp.slot_file import fitted
from lmxd.engines.metrics import COUNTER, REQUESTS, EngineFigures
from lmxd.engines.visibility import Gpu
from lmxd.errors import LmxdError
from lmxd.estimate.backends import Backend, for_vendor

log = logging.getLogger(__name__)

_REQUESTS: Final = ("llamacpp:requests_processing", "llamacpp:requests_deferred")
_PROMPTED: Final = "llamacpp:prompt_tokens_total"
_DECODED: Final = "llamacpp:n_decode_total"
_WORK: Final = (_PROMPTED, "llamacpp:prompt_tokens_cached_total", "llamacpp:tokens_predicted_total", _DECODED)
_PROMPTING: Final = "llamacpp:prompt_seconds_total"
_FIGURES: Final = dict.fromkeys(_REQUESTS, REQUESTS) | dict.fromkeys((*_WORK, _PROMPTING), COUNTER)
_ON_GPU: Final = re.compile(r"^(CUDA|ROCm|Vulkan|SYCL|MUSA|CANN)\d+$")


class LlamaServer:
    """llama-server as an engine. It speaks to instances over HTTP, with their keys."""

    called: Final = "llama-server"
    needs_gpu: Final = False

    def __init__(
        self,
        configured: Path | None,
        env: Mapping[str, str] | None = None,
        account: SystemUser | None = None,
        key: str = "engine.path",
    ) -> None:
        """``env``: variables that its instances get. ``account``: the user that they run as; None for ours.

        ``key``: the key of the configuration that names it.
        """
        self.key = key
        self._configured = configured
        self._env = env
        self._account = account
        self._listed: frozenset[Backend] | None = None
        self._metrics = EngineFigures(_FIGURES, log)

    def binary(self) -> Binary:
        """LmxdError ``engine_missing`` if there is none that runs."""
        return probe(find(self._configured, self.key), self.key)

    def stamp(self) -> object:
        """A value that is another one when another llama-server is there than before; None while there is none."""
        try:
            return stamp(find(self._configured))
        except LmxdError:
            return None

    def require(self) -> None:
        self.binary()

    def command(self, plan: Plan) -> Command:
        return command(self._whole(), plan, self._env, listing(self._account))

    def _whole(self) -> Binary:
        """The binary, with the backends that it listed if its files do not tell them."""
        binary = self.binary()
        return binary if binary.backends is not None else replace(binary, backends=self._listed)

    def unreached(self, gpus: Iterable[Gpu], *, asleep: bool = False) -> Iterator[str]:
        """The reasons why it cannot be told to use GPUs for which it has a backend. It may take a while.

        ``asleep``: a card sleeps, and is not woken to find out.
        """
        binary, env, lister = self._whole(), environment(self._env), once(listing(self._account))
        for gpu in gpus:
            backend = for_vendor(binary.backends, gpu.vendor)
            if binary.backends is None or backend is None or (asleep and backend in LISTED):
                continue
            try:
                selection(backend, (gpu,), env, binary.vulkan, lister)
            except LmxdError as error:
                yield str(error)

    def backends(self, cards: frozenset[str], *, asleep: bool = False) -> frozenset[Backend] | None:
        """The backends of this build, on a machine with these cards; None if it is not known.

        It looks anew, which may take a while. ``asleep``: a card sleeps, and is not woken to find out. LmxdError
        ``engine_missing`` if there is none that runs.
        """
        binary = probe(find(self._configured, self.key), self.key, anew=True)
        if binary.backends is not None:
            return binary.backends
        if asleep:
            return self._listed
        self._listed = listed(binary.path, environment(self._env), cards, self._account)
        return self._listed

    async def ready(self, endpoint: Endpoint) -> bool:
        status, _ = await get(endpoint, "/health")
        return status == 200

    async def activity(self, endpoint: Endpoint) -> Activity | None:
        found = await self._metrics.ask(endpoint)
        if found is None or _REQUESTS[0] not in found:
            return None
        return Activity(
            busy=sum(found.get(name, 0.0) for name in _REQUESTS) > 0,
            work=sum(found.get(name, 0.0) for name in _WORK),
            prompted=found.get(_PROMPTED, 0.0),
            processing=int(found[_REQUESTS[0]]),
            decoded=found.get(_DECODED, 0.0),
        )

    async def seconds_a_token(self, endpoint: Endpoint) -> float | None:
        found = await self._metrics.ask(endpoint) or {}
        prompted, seconds = found.get(_PROMPTED), found.get(_PROMPTING)
        return seconds / prompted if prompted and seconds else None

    async def save(self, endpoint: Endpoint, slots: int) -> bool:
        done = [await self.save_slot(endpoint, slot, slot_file(slot)) for slot in range(slots)]
        return None not in done

    async def restore(self, endpoint: Endpoint, slots: int) -> bool:
        done = [await self.restore_slot(endpoint, slot, slot_file(slot)) for slot in range(slots)]
        return None not in done

    async def used(self, endpoint: Endpoint) -> tuple[SlotUse | None, ...] | None:
        return await slots.used(endpoint)

    async def save_slot(self, endpoint: Endpoint, slot: int, file: str) -> SavedSlot | None:
        return await slots.save(endpoint, slot, file)

    async def restore_slot(self, endpoint: Endpoint, slot: int, file: str) -> int | None:
        return await slots.restore(endpoint, slot, file)

    async def erase_slot(self, endpoint: Endpoint, slot: int) -> bool:
        return await slots.erase(endpoint, slot)

    def fit(self, file: Path, streams: int) -> bool:
        return fitted(file, streams)

    def misplaced(self, plan: Plan, log: Sequence[str]) -> str | None:
        """A build without the GPU's backend loads into RAM, and says that all layers are offloaded."""
        sizes, layers = logs.buffers(log, plan.model), logs.offloaded(log, plan.model)
        if plan.gpus and plan.launch.gpu_layers is None and layers and layers[0] < layers[1]:
            return f"all layers were to run on a GPU, but {layers[1] - layers[0]} of {layers[1]} run in RAM"
        if not plan.gpus or plan.launch.gpu_layers == 0 or not sizes:
            return None
        if not any(_ON_GPU.match(place) for place in sizes):
            return f"it was to run on a GPU, but its buffers are in {', '.join(sorted(sizes))}"
        return _elsewhere(plan, log)

    def buffers(self, plan: Plan, log: Sequence[str]) -> float:
        sizes = logs.buffers(log, plan.model)
        return sum(size for place, size in sizes.items() if bool(_ON_GPU.match(place)) == bool(plan.gpus))

    def diagnose(self, plan: Plan, status: int | None, log: Sequence[str]) -> Diagnosis:
        return logs.diagnose(status, log, plan.model)


def _elsewhere(plan: Plan, log: Sequence[str]) -> str | None:
    """The contradiction between the cards of a plan and those that its log names, where both say an address."""
    wanted, found = {pci.address(gpu.pci) for gpu in plan.gpus}, {pci.address(at) for at in logs.addresses(log)}
    if "" in wanted or found <= wanted:
        return None
    return f"it was to run on {', '.join(plan.gpu_ids)} at {', '.join(sorted(wanted))}, but it uses {', '.join(found)}"
