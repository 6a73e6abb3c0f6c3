"""llama-server as an ``Engine``: command line, readiness, activity, diagnosis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import aiohttp

from lmxd.engines.engine import Activity, Command, Diagnosis, Endpoint, Plan
from lmxd.engines.llama_cpp import log as logs
from lmxd.engines.llama_cpp.binary import Binary, find, probe
from lmxd.engines.llama_cpp.command import command

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
_SAMPLE: Final = re.compile(r"^llamacpp:(\w+) ([-+.\deE]+)$", re.MULTILINE)
_WORK: Final = ("prompt_tokens_total", "prompt_tokens_cached_total", "tokens_predicted_total", "n_decode_total")
_ON_GPU: Final = re.compile(r"^(CUDA|ROCm|Vulkan|SYCL|MUSA|CANN)\d+$")


class LlamaServer:
    """Speaks to instances over HTTP, with their keys."""

    def __init__(self, configured: Path | None) -> None:
        self._configured = configured

    def binary(self) -> Binary:
        """LmxdError ``engine_missing`` if there is none that runs."""
        return probe(find(self._configured))

    def command(self, plan: Plan) -> Command:
        return command(self.binary(), plan)

    async def ready(self, endpoint: Endpoint) -> bool:
        status, _ = await _get(endpoint, "/health")
        return status == 200

    async def activity(self, endpoint: Endpoint) -> Activity | None:
        status, text = await _get(endpoint, "/metrics")
        if status != 200:
            return None
        samples = {name: float(value) for name, value in _SAMPLE.findall(text)}
        if "requests_processing" not in samples:
            return None
        busy = samples["requests_processing"] + samples.get("requests_deferred", 0.0) > 0
        work = sum(samples.get(name, 0.0) for name in _WORK)
        return Activity(busy=busy, work=work, prompted=samples.get("prompt_tokens_total", 0.0))

    def misplaced(self, plan: Plan, log: Sequence[str]) -> str | None:
        """A build without the GPU's backend loads into RAM, and says that all layers are offloaded."""
        sizes = logs.buffers(log)
        if not plan.gpus or plan.gpu_layers == 0 or not sizes:
            return None
        if not any(_ON_GPU.match(place) for place in sizes):
            return f"it was to run on a GPU, but its buffers are in {', '.join(sorted(sizes))}"
        return None

    def buffers(self, plan: Plan, log: Sequence[str]) -> float:
        return sum(size for place, size in logs.buffers(log).items() if bool(_ON_GPU.match(place)) == bool(plan.gpus))

    def diagnose(self, status: int | None, log: Sequence[str]) -> Diagnosis:
        return logs.diagnose(status, log)


async def _get(endpoint: Endpoint, path: str) -> tuple[int, str]:
    """(status, body); status 0 if there is no answer."""
    connector = aiohttp.UnixConnector(str(endpoint.socket)) if endpoint.socket else aiohttp.TCPConnector()
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
            session.get(endpoint.url + path, headers={"Authorization": f"Bearer {endpoint.key}"}) as answer,
        ):
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return 0, ""
