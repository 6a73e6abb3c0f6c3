"""A plan turned into llama-server's command line, in the words that the binary at hand understands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lmxd.engines.engine import Address, Command, Plan
from lmxd.engines.environment import environment
from lmxd.engines.launching import free_socket, new_key, temporary, whose
from lmxd.engines.llama_cpp.binary import Binary
from lmxd.engines.llama_cpp.load_mode import spelled
from lmxd.engines.llama_cpp.selection import Lister, listing, selection
from lmxd.engines.visibility import HIDDEN
from lmxd.errors import LmxdError
from lmxd.estimate.backends import Backend, for_vendor
from lmxd.gguf import overrides


def command(
    binary: Binary, plan: Plan, own: Mapping[str, str] | None = None, lister: Lister = listing(None)
) -> Command:
    """Everything that decides about memory is said explicitly; ``--fit`` is off, so that nothing is changed.

    ``own``: the environment as configured. ``lister`` tells how a runtime numbers its devices.
    """
    env = environment(temporary(plan) | dict(own or {}))
    env |= _shown(binary, plan, env, lister) | whose(plan)
    key, key_file = new_key(plan)
    socket = free_socket(plan) if plan.endpoint == "unix" else None
    argv = [str(binary.path), *_size(binary, plan), *_place(binary, plan), *_companions(binary, plan)]
    argv += [*_service(binary, plan, key_file, socket), *spelled(binary.knows, plan.flags)]
    return Command(argv=tuple(argv), env=env, key=key, address=Address(key_file=key_file, socket=socket))


def _backend(binary: Binary, plan: Plan) -> Backend:
    """The one that the plan's GPUs have in common. LmxdError if this build has none."""
    found = {for_vendor(binary.backends, gpu.vendor) for gpu in plan.gpus}
    backend = found.pop() if len(found) == 1 else None
    if backend is None:
        problem = f"{binary.path} has no backend for {', '.join(plan.gpu_ids)}"
        raise LmxdError("engine_missing", problem, f"install a build that has one, and set {binary.key}")
    return backend


def _shown(binary: Binary, plan: Plan, env: Mapping[str, str], lister: Lister) -> dict[str, str]:
    if not plan.gpus:
        return dict(HIDDEN)
    return selection(_backend(binary, plan), plan.gpus, env, binary.vulkan, lister)


def _size(binary: Binary, plan: Plan) -> Iterator[str]:
    yield from ("-m", str(plan.model), "-a", plan.profile)
    launch = plan.launch
    yield from ("-c", str(launch.context * launch.streams), "-np", str(launch.slots))
    yield from ("-b", str(launch.batch), "-ub", str(launch.ubatch))
    yield from ("-ctk", launch.cache_type_k, "-ctv", launch.cache_type_v)
    yield from _flash(binary, launch.flash)
    if plan.threads is not None:
        yield from ("-t", str(plan.threads))
    yield from _known(binary, "--fit", "off")
    yield from _known(binary, "--kv-unified" if launch.unified else "--no-kv-unified")
    yield from ("--swa-full",) if launch.swa_full else ()
    yield from _known(binary, "--lazy-mode", "off")  # tensors that are read on demand were counted as resident
    yield from overrides.words(launch.overrides)


def _flash(binary: Binary, flash: str) -> Iterator[str]:
    """Older builds know only a bare ``-fa`` for on, and have it off otherwise."""
    if binary.knows("--flash-attn") and not binary.knows("--fit"):
        if flash == "on":
            yield "-fa"
    else:
        yield from ("-fa", flash)


def _place(binary: Binary, plan: Plan) -> Iterator[str]:
    if plan.gpus:
        if len(binary.backends or ()) > 1 or len(plan.gpus) > 1:
            # Other backends may see these cards, too; and of several, a processor's GPU is left out unless it is named.
            backend = _backend(binary, plan)
            yield from _known(binary, "--device", ",".join(f"{backend}{n}" for n in range(len(plan.gpus))))
        split = plan.launch.split
        yield from ("-ngl", _layers(plan.launch.gpu_layers))
        if split:
            yield from ("-sm", "layer", "-ts", ",".join(f"{share:g}" for share in split))
        # Else every new request waits until the caches of all idle slots are copied to RAM, where they stay anyhow.
        yield from _known(binary, "--no-cache-idle-slots")
        return
    yield from ("-ngl", "0")
    yield from _known(binary, "--device", "none")
    # In RAM these would take bytes beyond the footprint: rearranged weights that were not counted,
    # 8 GiB of old prompts, and copies of a sliding window.
    if not plan.launch.repack:
        yield from _known(binary, "--no-repack")
    yield from _known(binary, "--cache-ram", "0")
    yield from _known(binary, "--ctx-checkpoints", "0")


def _companions(binary: Binary, plan: Plan) -> Iterator[str]:
    """The files beside the model, and the drafting of tokens."""
    launch, beside = plan.launch, plan.companions
    if beside.projector is not None:
        yield from ("--mmproj", str(beside.projector))
        yield from () if beside.projector_on_device else ("--no-mmproj-offload",)
    if beside.adapters:
        yield from ("--lora-scaled", ",".join(f"{adapter.path}:{adapter.scale:g}" for adapter in beside.adapters))
    if (draft := beside.draft) is not None:
        yield from ("-md", str(draft.path), "-ctkd", draft.cache_type_k, "-ctvd", draft.cache_type_v)
        yield from ("-ngld", _layers(draft.gpu_layers) if plan.gpus else "0")
        yield from _known(binary, "--spec-type", "draft-simple")
    if launch.mtp:
        yield from ("--spec-type", "draft-mtp")
    if draft is not None or launch.mtp:
        flag = "--spec-draft-n-max" if binary.knows("--spec-draft-n-max") else "--draft-max"
        yield from (flag, str(launch.drafted))


def _layers(count: int | None) -> str:
    return "999" if count is None else str(count)


def _service(binary: Binary, plan: Plan, key_file: Path, socket: Path | None) -> Iterator[str]:
    yield from ("--host", str(socket)) if socket else ("--host", "127.0.0.1", "--port", "0")
    if plan.prompts is not None:
        yield from ("--slot-save-path", f"{plan.prompts}/")
    yield from ("--api-key-file", str(key_file), "--metrics", "--slots")
    yield from _known(binary, "--offline")
    yield from _known(binary, "--no-ui") if binary.knows("--no-ui") else _known(binary, "--no-webui")
    yield from ("-lv", "4")  # from here on the buffer sizes are printed


def _known(binary: Binary, flag: str, *values: str) -> Iterator[str]:
    if binary.knows(flag):
        yield from (flag, *values)
