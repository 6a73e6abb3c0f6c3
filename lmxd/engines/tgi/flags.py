"""The answer to each flag of text-generation-launcher, as the sources of 3.3.7 have them."""

from __future__ import annotations

from typing import Final

from lmxd.engines.allow_list import AllowList

_REFUSED: Final = {
    "lmxd sets it": """--hostname --port --prometheus-port --shard-uds-path --master-addr --master-port --api-key --env
        --sharded --revision --huggingface-hub-cache --weights-cache-override --usage-stats""",
    "prompts would be sent elsewhere": "--otlp-endpoint --otlp-service-name --ngrok --ngrok-authtoken --ngrok-edge",
    "only lmxd's gateway and holders of leases reach it": "--cors-allow-origin",
    "lmxd reads its log": "--json-output",
    "it has another name": "--max-input-length",
}

FLAGS: Final = AllowList(
    engine="TGI",
    switches=frozenset(
        "--trust-remote-code --disable-custom-kernels --disable-grammar-support --enable-prefill-logprobs".split()
    ),
    values={
        "text": frozenset(["--quantize", "--cuda-graphs"]),
        "count": frozenset(
            """--validation-workers --speculate --max-best-of --max-stop-sequences --max-top-n-tokens
            --max-batch-prefill-tokens --max-waiting-tokens --max-batch-size --max-client-batch-size --payload-limit
            --graceful-termination-timeout""".split()
        ),
        "number": frozenset(["--waiting-served-ratio", "--rope-factor", "--watermark-gamma", "--watermark-delta"]),
        "path": frozenset(["--tokenizer-config-path"]),
        "json": frozenset(),
    },
    choices={
        "--dtype": ("float16", "bfloat16"),
        "--kv-cache-dtype": ("fp8_e4m3fn", "fp8_e5m2"),
        "--rope-scaling": ("linear", "dynamic"),
    },
    keys={
        "--model-id": "path",
        "--num-shard": "gpus",
        "--max-total-tokens": "context_length",
        "--max-input-tokens": "context_length",
        "--max-concurrent-requests": "slots",
        "--cuda-memory-fraction": "estimated_memory_gb",
        "--max-batch-total-tokens": "estimated_memory_gb",
    },
    uncounted={"--lora-adapters": "text"},
    refused={why: frozenset(flags.split()) for why, flags in _REFUSED.items()},
)
