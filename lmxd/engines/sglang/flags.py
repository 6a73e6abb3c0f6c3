"""The answer to flags of ``sglang serve``, as the sources of 0.5.23 declare them. All others are refused as unknown."""

from __future__ import annotations

from typing import Final

from lmxd.engines.allow_list import AllowList

_SWITCHES: Final = """
    allow-auto-truncate constrained-json-disable-any-whitespace disable-chunked-prefix-cache
    disable-custom-all-reduce disable-fast-image-processor disable-flashinfer-autotune
    disable-hybrid-swa-memory disable-outlines-disk-cache disable-overlap-schedule disable-priority-preemption
    disable-radix-cache disable-shared-experts-fusion disable-tokenizer-batch-decode enable-cache-report
    enable-deterministic-inference enable-dynamic-batch-tokenizer enable-fp32-lm-head enable-mixed-chunk
    enable-p2p-check enable-priority-scheduling enable-strict-thinking enable-tokenizer-batch-encode is-embedding
    schedule-low-priority-values-first skip-server-warmup sleep-on-idle stream-response-default-include-usage
    trust-remote-code trust-request-chat-template weight-loader-disable-mmap
    weight-loader-drop-cache-after-load weight-loader-prefetch-checkpoints"""
_VALUES: Final = {
    "text": """attention-backend decode-attention-backend prefill-attention-backend grammar-backend
        mm-attention-backend sampling-backend load-format model-impl quantization reasoning-parser
        tool-call-parser hf-chat-template-name sampling-defaults schedule-policy radix-eviction-policy tokenizer-mode
        moe-runner-backend fp8-gemm-backend fp4-gemm-backend bf16-gemm-backend mamba-backend
        linear-attn-backend constrained-json-whitespace-pattern""",
    "count": """random-seed page-size max-prefill-tokens chunked-prefill-size prefill-max-requests max-queued-requests
        stream-interval num-continuous-decode-steps decode-log-interval watchdog-timeout
        triton-attention-num-kv-splits constrained-json-max-whitespace-cnt weight-loader-prefetch-num-threads
        default-priority-value priority-scheduling-preemption-threshold""",
    "number": "schedule-conservativeness soft-watchdog-timeout swa-full-tokens-ratio",
    "path": "chat-template completion-template tokenizer-path",
    "json": "default-chat-template-kwargs preferred-sampling-params",
}
_CHOICES: Final = {
    "--dtype": "auto half float16 bfloat16 float float32",
    "--kv-cache-dtype": "auto bf16 bfloat16 fp8_e4m3 fp8_e5m2",
}
_KEYS: Final = {
    "--context-length": "context_length",
    "--max-running-requests": "slots",
    "--max-total-tokens": "kv_tokens",
    "--mem-fraction-static": "estimated_memory_gb",
    "--tp-size": "gpus",
    "--tensor-parallel-size": "gpus",
    "--model-path": "path",
    "--model": "path",
    "--served-model-name": "aliases",
}
_UNCOUNTED: Final = {
    "switch": """enable-lora enable-torch-compile enable-multimodal enable-symm-mem enable-two-batch-overlap
        disable-cuda-graph disable-cuda-graph-padding disable-prefill-cuda-graph disable-decode-cuda-graph
        enable-unified-memory""",
    "count": """max-lora-rank max-loras-per-batch max-loaded-loras cuda-graph-max-bs-decode cuda-graph-max-bs-prefill
        torch-compile-max-bs speculative-num-steps speculative-eagle-topk speculative-num-draft-tokens
        max-mamba-cache-size""",
    "text": "lora-backend speculative-algorithm mamba-ssm-dtype",
    "path": "speculative-draft-model-path",
    "number": "mamba-full-memory-ratio",
    "json": "json-model-override-args model-loader-extra-config",
}
_REFUSED: Final = {
    "lmxd sets it": """--host --port --api-key --admin-api-key --config --enable-metrics --device --base-gpu-id
        --gpu-id-step --nccl-port --dist-init-addr --download-dir --revision --fastapi-root-path""",
    "it moves bytes to where they were not admitted": """--cpu-offload-gb --offload-group-size --offload-mode
        --enable-hierarchical-cache --enable-hicache --hicache-size --hicache-ratio --hicache-storage-backend
        --enable-lmcache --enable-memory-saver --enable-weights-cpu-backup --ple-offload-embedding --kt-weight-path
        --enable-paged-experts --weight-cache-mode""",
    "an instance is on this machine alone, and divided by gpus alone": """--nnodes --node-rank --pp-size
        --pipeline-parallel-size --dp-size --data-parallel-size --ep-size --dcp-size --use-ray --disaggregation-mode
        --disaggregation-transfer-backend --encoder-only --tokenizer-worker-num --elastic-ep-backend""",
    "it loads other code into the engine": """--custom-weight-loader --forward-hooks --enable-custom-logit-processor
        --tool-server --sidecar --sidecar-args --warmups --startup-weight-load-mode""",
    "prompts would be in its log, or be sent elsewhere": """--log-requests --log-requests-level --log-requests-target
        --enable-trace --otlp-traces-endpoint --crash-dump-folder --export-metrics-to-file --kv-events-config
        --debug-tensor-dump-output-folder --enable-response-store --file-storage-path""",
    "lmxd reads its log and its figures": """--log-level --log-level-http --uvicorn-access-log-exclude-prefixes
        --extra-metric-labels""",
    "it opens files or hosts to clients": "--allowed-media-domains --enable-return-hidden-states",
    "only lmxd's gateway and holders of leases reach it": """--grpc-mode --smg-grpc-mode --grpc-port --enable-http2
        --ssl-keyfile --ssl-certfile --ssl-ca-certs --ssl-keyfile-password --enable-ssl-refresh""",
}

FLAGS: Final = AllowList(
    engine="SGLang",
    switches=frozenset(f"--{name}" for name in _SWITCHES.split()),
    values={kind: frozenset(f"--{name}" for name in names.split()) for kind, names in _VALUES.items()},
    choices={flag: tuple(there.split()) for flag, there in _CHOICES.items()},
    keys=_KEYS,
    uncounted={f"--{name}": kind for kind, names in _UNCOUNTED.items() for name in names.split()},
    refused={why: frozenset(flags.split()) for why, flags in _REFUSED.items()},
)
