"""The answer to each flag of ``vllm serve``, as version 0.32.0 has them: allowed, a key's, or refused."""

from __future__ import annotations

from typing import Final

from lmxd.engines.allow_list import AllowList

_SWITCHES: Final = """
    async-scheduling cohere-is-reasoning-model disable-cascade-attn disable-chunked-mm-input
    disable-custom-all-reduce disable-fastapi-docs disable-uvicorn-access-log enable-auto-tool-choice
    enable-chunked-prefill enable-expert-parallel enable-flashinfer-autotune enable-force-include-usage
    enable-per-request-metrics enable-prefix-caching enable-prompt-tokens-details enable-request-id-headers
    enforce-eager exclude-tools-when-tool-choice-none interleave-mm-strings language-model-only
    return-tokens-as-token-ids scheduler-reserve-full-isl skip-tokenizer-init trust-remote-code
    trust-request-chat-template use-fp64-gumbel use-tqdm-on-load aggregate-engine-logging
    enable-offline-docs log-error-stack enable-logging-iteration-details kv-cache-metrics
    cudagraph-metrics"""
"""Each with its negative, --no-…"""
_VALUES: Final = {
    "text": """attention-backend anthropic-disabled-thinking-effort cohere-format generation-config load-format
        mm-encoder-attn-backend model-impl reasoning-parser tokenizer-mode tool-call-parser tool-strict-level
        moe-backend linear-backend mamba-backend gdn-prefill-backend kda-decode-backend kda-prefill-backend
        disable-access-log-for-endpoints response-role quantization
        sparse-indexer-topk-backend mamba-ssu-algorithm config-format""",
    "count": """block-size h11-max-header-count h11-max-incomplete-event-size long-prefill-token-threshold
        max-cudagraph-capture-size max-logprobs max-num-batched-tokens max-num-queued-reqs max-num-queued-tokens
        max-num-scheduled-tokens seed stream-interval optimization-level renderer-num-workers kv-cache-metrics-sample
        prefill-schedule-interval prefix-match-unit max-num-active-seqs""",
    "number": "video-pruning-rate sse-keep-alive-interval watermark",
    "path": "chat-template tokenizer",
    "json": """default-chat-template-kwargs limit-mm-per-prompt mm-processor-kwargs override-generation-config
        structured-outputs-config pooler-config""",
}
_CHOICES: Final = {
    "--chat-template-content-format": "auto openai string",
    "--convert": "auto classify embed none",
    "--dtype": "auto bfloat16 float float16 float32 half",
    "--kv-cache-dtype": "auto bfloat16 float16 fp8 fp8_e4m3 fp8_e5m2",
    "--logprobs-mode": "processed_logits processed_logprobs raw_logits raw_logprobs",
    "--prefix-caching-hash-algo": "sha256 sha256_cbor xxhash xxhash_cbor",
    "--runner": "auto generate pooling",
    "--safetensors-load-strategy": "eager lazy prefetch",
    "--scheduling-policy": "fcfs priority",
    "--uvicorn-log-level": "critical error info warning",
    "--performance-mode": "balanced interactivity throughput",
    "--mm-processor-device": "cpu",
    "--mm-encoder-tp-mode": "data weights",
    "--mm-hasher-algorithm": "blake3 sha256 sha512",
}
_KEYS: Final = {
    "--max-model-len": "context_length",
    "--max-num-seqs": "slots",
    "--kv-cache-memory-bytes": "kv_tokens",
    "--num-gpu-blocks-override": "kv_tokens",
    "--gpu-memory-utilization": "kv_tokens",
    "--device-memory-utilization": "kv_tokens",
    "--tensor-parallel-size": "gpus",
    "-tp": "gpus",
    "--enable-sleep-mode": "sleep",
    "--no-enable-sleep-mode": "sleep",
    "--model": "path",
    "--served-model-name": "aliases",
    "-q": "engine_flags: [--quantization, …]",
    "-ep": "engine_flags: [--enable-expert-parallel]",
}
_UNCOUNTED: Final = {
    "json": """compilation-config speculative-config hf-overrides additional-config attention-config kernel-config
        model-loader-extra-config media-io-kwargs quantization-config reasoning-config default-mm-loras""",
    "count": """max-loras max-lora-rank max-cpu-loras max-lora-cls-labels spec-tokens mamba-block-size
        mamba-cache-philox-rounds replayssm-buffer-len prefix-cache-retention-interval ubatch-size""",
    "text": """lora-modules lora-dtype lora-target-modules spec-method spec-model mamba-cache-dtype
        mamba-ssm-cache-dtype mamba-cache-mode mm-processor-cache-type mm-encoder-attn-dtype mm-tensor-ipc
        video-pruning-method kv-cache-dtype-skip-layers cudagraph-capture-sizes""",
    "path": "mm-encoder-fp8-scale-path",
    "number": "mm-processor-cache-gb mm-shm-cache-max-object-size-mb",
    "switch": """enable-lora fully-sharded-loras specialize-active-lora enable-mixed-moe-lora-format
        enable-moe-shared-loras enable-tower-connector-lora disable-hybrid-kv-cache-manager disable-sliding-window
        kv-sharing-fast-prefill swa-bounded-replay use-replayssm mm-encoder-only mm-device-do-normalize
        enable-mamba-cache-stochastic-rounding enable-mamba-shared-prefix-checkpoint enable-dbo enable-mm-embeds
        skip-mm-profiling allow-deprecated-quantization enable-batch-sharded-sampling
        enable-flash-late-interaction enable-hc-sp""",
}
_SHORT: Final = {"-cc": "json", "-sc": "json", "-ac": "json"}
_REFUSED: Final = {
    "lmxd sets it": """--uds --host --port --api-key --config --headless --grpc --grpc-port --root-path --device-ids
        --shutdown-timeout --download-dir --hf-token --revision --code-revision --tokenizer-revision --hf-config-path
        --ignore-patterns""",
    "it moves bytes to where they were not admitted": """--cpu-offload-gb --cpu-offload-params --offload-backend
        --offload-group-size --offload-num-in-group --offload-params --offload-prefetch-step --kv-offloading-size
        --kv-offloading-backend --mm-ipc-gpu-memory-gb --kv-transfer-config --ec-transfer-config --ec-manager-config""",
    "an instance is on this machine alone, and divided by gpus alone": """--pipeline-parallel-size -pp --nnodes -n
        --node-rank -r --master-addr --master-port --distributed-executor-backend --data-parallel-size -dp
        --data-parallel-size-local -dpl --data-parallel-start-rank -dpr --data-parallel-address -dpa
        --data-parallel-rpc-port -dpp --data-parallel-backend -dpb --data-parallel-rank -dpn
        --data-parallel-external-lb -dpe --data-parallel-hybrid-lb -dph --data-parallel-multi-port-external-lb -dpm
        --data-parallel-supervisor-port --decode-context-parallel-size -dcp --prefill-context-parallel-size -pcp
        --disable-nccl-for-dp-synchronization
        --api-server-count -asc --enable-elastic-ep --elastic-ep-max-dp-size --ray-workers-use-nsight
        --all2all-backend --cp-kv-cache-interleave-size --cpu-distributed-timeout-seconds --dcp-comm-backend
        --dcp-kv-cache-interleave-size --dcp-q-replicate --dbo-decode-token-threshold --dbo-prefill-token-threshold
        --distributed-timeout-seconds --dp-supervisor-probe-failure-threshold --dp-supervisor-probe-interval-s
        --dp-supervisor-probe-timeout-s --dp-sync-interval --enable-ep-weight-filter --enable-eplb --eplb-config
        --enable-fault-tolerance --fault-tolerance-config --enable-scale-out --expert-placement-strategy
        --enable-nccl-comm-suspend --max-parallel-loading-workers --numa-bind --numa-bind-cpus
        --numa-bind-nodes""",
    "it loads other code into the engine": """--middleware --worker-cls --worker-extension-cls --scheduler-cls
        --logits-processors --io-processor-plugin --reasoning-parser-plugin --tool-parser-plugin --tool-server
        --model-class-overrides --diffusion-config -dc --weight-transfer-config --engram-config --aux-output-config
        --pt-load-map-location""",
    "prompts would be in its log, or be sent elsewhere": """--enable-log-requests --enable-log-outputs
        --enable-log-deltas --max-log-len --otlp-traces-endpoint --collect-detailed-traces --profiler-config
        --enable-layerwise-nvtx-tracing --enable-trace-replay --kv-events-config""",
    "lmxd reads its log and its figures": """--disable-log-stats --log-config-file --log-level --logging-config
        --jit-monitor-mode --jit-monitor-verbose --custom-histogram-buckets --show-hidden-metrics-for-version
        --per-request-spec-decode-metrics --enable-mfu-metrics --enable-server-load-tracking""",
    "sleep alone moves it to RAM": """--enable-cumem-allocator --sleep-mode-offload-cudagraph
        --sleep-preserve-parameter-names""",
    "nobody has tried it under lmxd": """--tokens-only --enable-return-routed-experts --return-sampling-mask
        --enable-shm-tensor-arena --fail-on-environ-validation --fingerprint-mode --fingerprint-value --ir-op-priority
        --long-prefill-token-threshold-adaptive --mm-encoder-fp8-scale-save-path --mm-encoder-fp8-scale-save-margin
        --safetensors-prefetch-block-size --safetensors-prefetch-num-threads --trust-request-mm-kwargs
        --watermark-config --enable-tokenizer-info-endpoint --help""",
    "it opens files or hosts to clients": "--allowed-local-media-path --allowed-media-domains --enable-prompt-embeds",
    "only lmxd's gateway and holders of leases reach it, by its socket": """--ssl-keyfile --ssl-certfile --ssl-ca-certs
        --ssl-ciphers --ssl-cert-reqs --enable-ssl-refresh --allow-credentials --allowed-origins --allowed-methods
        --allowed-headers""",
}

FLAGS: Final = AllowList(
    engine="vLLM",
    switches=frozenset(f"--{name}" for name in _SWITCHES.split()),
    values={kind: frozenset(f"--{name}" for name in names.split()) for kind, names in _VALUES.items()},
    choices={flag: tuple(there.split()) for flag, there in _CHOICES.items()},
    keys=_KEYS,
    uncounted={f"--{name}": kind for kind, names in _UNCOUNTED.items() for name in names.split()} | _SHORT,
    refused={why: frozenset(flags.split()) for why, flags in _REFUSED.items()},
)

ANYWHERE: Final = frozenset(
    f"--{name}"
    for name in """dtype kv-cache-dtype quantization runner convert tokenizer-mode config-format pooler-config
        chat-template-content-format default-chat-template-kwargs override-generation-config structured-outputs-config
        reasoning-parser tool-call-parser enable-auto-tool-choice language-model-only limit-mm-per-prompt
        max-num-batched-tokens block-size enable-chunked-prefill enable-prefix-caching enforce-eager
        max-logprobs logprobs-mode scheduling-policy seed""".split()
)
"""Flags about a model and its requests, which mean the same on another box: none names a path, a repository or code."""
