"""Records what vLLM itself makes of the config.json files in tests/safetensors: blocks, tokens, bytes of weights.

    VLLM_HOST_IP=127.0.0.1 HF_HUB_OFFLINE=1 /path/to/vllm/bin/python bench/record_vllm.py record NAME …

It runs in vLLM's own environment and starts no server: each model is built on the meta device or, where that cannot be,
without weights in RAM, asked what each layer keeps, and vLLM's own functions group that into blocks. Without names all
are recorded anew. ``add NAME config.json`` puts a further one into the file; ``list`` needs no vLLM.
"""

from __future__ import annotations

import argparse
import json
import lzma
import tempfile
from pathlib import Path
from typing import Any, Final

RECORDED: Final = Path(__file__).parent.parent / "tests/safetensors/vllm-0.32.0.jsonl.xz"
_SETTINGS: Final[dict[str, Any]] = {
    "load_format": "dummy",
    "skip_tokenizer_init": True,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 2**36,
    "max_num_batched_tokens": 1024,
    "max_num_seqs": 8,
}


def recorded() -> list[dict[str, Any]]:
    """Each with its ``name``, ``config``, and vLLM's ``said``; the settings that differ for it in ``settings``."""
    with lzma.open(RECORDED, "rt") as file:
        return [json.loads(line) for line in file]


def write(entries: list[dict[str, Any]]) -> None:
    with lzma.open(RECORDED, "wt") as file:
        for entry in sorted(entries, key=lambda entry: str(entry["name"])):
            file.write(json.dumps(entry) + "\n")


def record(entry: dict[str, Any]) -> dict[str, Any]:
    """What vLLM says of a config.json; its error if it refuses it."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "config.json").write_text(json.dumps(entry["config"]))
        for device in ("meta", "cpu"):
            try:
                return _asked(directory, entry.get("settings", {}), device)
            except (NotImplementedError, RuntimeError):
                continue
            except (ValueError, AssertionError, AttributeError, TypeError) as error:
                return {"refused": f"{type(error).__name__}: {error}"[:300]}
    return {"refused": "it cannot be built without weights"}


def _asked(directory: str, settings: dict[str, Any], device: str) -> dict[str, Any]:
    import torch
    from vllm.config import get_layers_from_vllm_config, set_current_vllm_config
    from vllm.distributed import (
        destroy_model_parallel,
        ensure_model_parallel_initialized,
        init_distributed_environment,
    )
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.layers.attention import Attention
    from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.platforms import current_platform
    from vllm.utils.torch_utils import set_default_torch_dtype
    from vllm.v1.attention.backends.utils import resolve_kv_cache_layout
    from vllm.v1.core.kv_cache_utils import _pool_bytes_per_block, get_kv_cache_capacity, get_kv_cache_configs

    config = EngineArgs(model=directory, **{**_SETTINGS, **settings}).create_engine_config()
    with set_current_vllm_config(config):
        if not torch.distributed.is_initialized():
            init_distributed_environment(1, 0, "tcp://127.0.0.1:29611", 0, "gloo")
        destroy_model_parallel()  # groups of experts are made for models that have any
        ensure_model_parallel_initialized(1, 1)
        with set_default_torch_dtype(config.model_config.dtype), torch.device(device):
            model = initialize_model(config)
        current_platform.update_block_size_for_backend(config)  # for layers with states beside others
        layers = get_layers_from_vllm_config(config, AttentionLayerBase)
        shared = {name for name, it in layers.items() if isinstance(it, Attention) and it.kv_sharing_target_layer_name}
        specs = {
            name: spec
            for name, layer in layers.items()
            if name not in shared and (spec := layer.get_kv_cache_spec(config)) is not None
        }
        resolve_kv_cache_layout(config, [["LBHNC"]], specs.values())
        (kv,) = get_kv_cache_configs(config, [specs], [config.cache_config.kv_cache_memory_bytes])
        tokens, _ = get_kv_cache_capacity(config, kv)
        return {
            "tokens": tokens,
            "blocks": kv.num_blocks,
            "kv_bytes": config.cache_config.kv_cache_memory_bytes,
            "block_bytes": _pool_bytes_per_block(config, kv.kv_cache_groups),
            "block": config.cache_config.block_size,
            "context": config.model_config.max_model_len,
            "in_flight": config.max_in_flight_tokens,
            "element": config.model_config.dtype.itemsize,
            "weights": sum(p.numel() * p.element_size() for p in {id(p): p for p in model.parameters()}.values()),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("do", choices=["record", "add", "list"])
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    entries = recorded() if RECORDED.exists() else []
    if given.do == "list":
        print(f"{len(entries)} recorded: " + ", ".join(str(entry["name"]) for entry in entries))
        return
    if given.do == "add":
        name, path = given.names
        entries = [entry for entry in entries if entry["name"] != name]
        entries.append({"name": name, "config": json.loads(Path(path).read_text())})
        given.names = [name]
    for entry in entries:
        if not given.names or entry["name"] in given.names:
            entry["said"] = record(entry)
            print(entry["name"], entry["said"], flush=True)
    write(entries)


if __name__ == "__main__":
    main()
