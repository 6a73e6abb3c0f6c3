"""The flags of llama-server of builds 10068 to 11434, and those that a profile is refused with the reason.

Source: common/arg.cpp, and what ``--help`` of each build prints (tests/engines/helps). An arity counts the words that
follow a flag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SWITCHES: Final = """--jinja --no-jinja --context-shift --no-context-shift --cont-batching -cb --no-cont-batching -nocb
--embedding --embeddings --rerank --reranking --mlock --no-mmap --special -sp --spm-infill --prefill-assistant
--no-prefill-assistant --cache-prompt --no-cache-prompt --skip-chat-parsing --no-skip-chat-parsing --perf --no-perf
--warmup --no-warmup --check-tensors --escape -e --no-escape --ignore-eos --reasoning-preserve
--no-reasoning-preserve --log-timestamps --no-log-timestamps --lora-init-without-apply --no-cache-idle-slots
--no-agent -no-ag -kvo --kv-offload --op-offload --spec-draft-backend-sampling --no-spec-draft-backend-sampling"""
"""Switches that leave alone bytes, safety and admission."""

VALUES: Final = {
    "whole": """
        --poll --cache-reuse --timeout -to --sse-ping-interval --embd-normalize --predict -n --n-predict
        --keep --top-k --dry-allowed-length --yarn-orig-ctx --video-timestamp-interval""",
    "threads": """
        --threads-batch -tb --threads-http --spec-draft-threads -td --threads-draft
        --spec-draft-threads-batch -tbd --threads-batch-draft""",
    "limit": "--reasoning-budget",
    "natural": "--repeat-last-n --dry-penalty-last-n --spec-draft-n-min",
    "least tokens": "--spec-ngram-mod-n-min",
    "tokens": """
        --spec-ngram-mod-n-match --spec-ngram-simple-size-n --spec-ngram-map-k-size-n
        --spec-ngram-map-k4v-size-n""",
    "hits": "--spec-ngram-simple-min-hits --spec-ngram-map-k-min-hits --spec-ngram-map-k4v-min-hits",
    "number": """
        --rope-scale --rope-freq-base --rope-freq-scale --yarn-ext-factor --yarn-attn-factor --yarn-beta-slow
        --yarn-beta-fast --slot-prompt-similarity -sps --temp --temperature --top-p --min-p --top-nsigma
        --top-n-sigma --xtc-probability --xtc-threshold --typical --typical-p --presence-penalty
        --frequency-penalty --dry-multiplier --dry-base --dynatemp-range --dynatemp-exp --mirostat-lr
        --mirostat-ent --adaptive-target --adaptive-decay --video-fps --spec-draft-p-split --draft-p-split
        --spec-draft-p-min --draft-p-min --seed -s""",
    "positive": "--repeat-penalty",
    "text": """
        --chat-template --reasoning-effort --reasoning-budget-message --samplers --sampling-seq --sampler-seq
        --reverse-prompt -r --tags --dry-sequence-breaker""",
    "mask": """
        --cpu-mask -C --cpu-mask-batch -Cb --spec-draft-cpu-mask -Cd --cpu-mask-draft
        --spec-draft-cpu-mask-batch -Cbd --cpu-mask-batch-draft""",
    "range": """
        --cpu-range -Cr --cpu-range-batch -Crb --spec-draft-cpu-range -Crd --cpu-range-draft
        --spec-draft-cpu-range-batch -Crbd --cpu-range-batch-draft""",
    "bias": "--logit-bias -l",
    "json": "--chat-template-kwargs --json-schema -j",
}
"""Such flags with a value, by its kind (flag_values.py). A seed has 32 bits without a sign."""

CHOICES: Final = {
    "--cpu-strict --cpu-strict-batch --spec-draft-cpu-strict --cpu-strict-draft --spec-draft-cpu-strict-batch"
    " --cpu-strict-batch-draft --poll-batch --spec-draft-poll --poll-draft --spec-draft-poll-batch"
    " --poll-batch-draft": "0 1",
    "--mirostat": "0 1 2",
    "--prio": "-1 0 1 2 3",
    "--prio-batch --spec-draft-prio --prio-draft --spec-draft-prio-batch --prio-batch-draft": "0 1 2 3",
    "--numa": "distribute isolate numactl",
    "--pooling": "none mean cls last rank",
    "--reasoning -rea": "on off auto",
    "--reasoning-format": "none auto deepseek deepseek-legacy",
    "--rope-scaling": "none linear yarn",
    "--spec-draft-sampling": "greedy probabilistic",
}
"""Such flags with one of a few words."""

KEYS: Final = {
    "path": "-m --model",
    "context_length": "-c --ctx-size",
    "slots": "-np --parallel",
    "gpu_layers": "-ngl --gpu-layers --n-gpu-layers",
    "batch_size": "-b --batch-size",
    "ubatch_size": "-ub --ubatch-size",
    "cache_type_k": "-ctk --cache-type-k",
    "cache_type_v": "-ctv --cache-type-v",
    "flash_attention": "-fa --flash-attn",
    "threads": "-t --threads",
    "load_mode": "-lm --load-mode",
    "mmproj": "-mm --mmproj",
    "lora": "--lora --lora-scaled",
    "draft": "-md --model-draft --spec-draft-model",
    "n_cpu_moe": "-ncmoe --n-cpu-moe",
    "n_cpu_ffn": "-ncffn --n-cpu-ffn",
    "override_tensor": "-ot --override-tensor",
    "chat_template_file": "--chat-template-file",
    "grammar": "--grammar",
    "grammar_file": "--grammar-file",
}
"""Key of a profile -> the flags with a value that it stands for."""

DRAFT_KEYS: Final = {
    "tokens": "--spec-draft-n-max --draft-max --draft --draft-n",
    "gpu_layers": "-ngld --spec-draft-ngl --gpu-layers-draft --n-gpu-layers-draft",
    "cache_type_k": "-ctkd --spec-draft-type-k --cache-type-k-draft",
    "cache_type_v": "-ctvd --spec-draft-type-v --cache-type-v-draft",
}
"""The same of the keys of ``draft``."""

SWITCH_KEYS: Final = (
    ("n_cpu_moe", "all", "-cmoe --cpu-moe"),
    ("kv_unified", True, "-kvu --kv-unified"),
    ("kv_unified", False, "-no-kvu --no-kv-unified"),
    ("swa_full", True, "--swa-full"),
    ("repack", True, "--repack"),
    ("repack", False, "-nr --no-repack"),
    ("mmproj_offload", True, "--mmproj-offload"),
    ("mmproj_offload", False, "--no-mmproj-offload"),
    ("props", True, "--props"),
    ("ngram", "mod", "--spec-default"),
    ("load_mode", "dio", "-dio --direct-io"),
    ("load_mode", "auto", "-ndio --no-direct-io"),
    ("load_mode", "mmap", "--mmap"),
)
"""Key of a profile, its value, and the switches that say it."""


@dataclass(frozen=True, slots=True)
class RefusedFlags:
    """A reason why a profile may not add some flags, and what is to be done instead.

    ``ours``: lmxd sets them to the same end, so that an import loses nothing.
    """

    why: str
    remedy: str = ""
    switches: str = ""
    valued: str = ""
    ours: bool = False


_SIZE: Final = "it changes the size that was admitted"
_PLACE: Final = "it moves bytes to where they were not admitted"
_LOADS: Final = "it loads something that was not admitted"
_UNLOADS: Final = "it unloads or reloads behind the ledger's back"
_OURS: Final = "lmxd sets it"
_OPENS: Final = "it opens the machine to whoever can reach the server"
_OTHER_FILE: Final = "it opens a file that lmxd did not look at"
_GONE: Final = "llama-server has no such flag any more"
_CHOOSES: Final = "lmxd chooses the devices; the key split says whether there may be several"

REFUSALS: Final = (
    RefusedFlags(_SIZE, "use the key fit", "", "-fit --fit -fitt --fit-target -fitc --fit-ctx", ours=True),
    RefusedFlags(
        _SIZE,
        "the key suspend keeps prompts on disk",
        "--cache-idle-slots",
        "-cram --cache-ram -ctxcp --ctx-checkpoints --swa-checkpoints -cms --checkpoint-min-step",
    ),
    RefusedFlags(_SIZE, "use the keys context_length and kv_unified", "", "--kv-unified-per-slot"),
    RefusedFlags(_SIZE, "all tensors are counted, and kept", "", "--lazy-mode -lzm --moe-cache-mib"),
    RefusedFlags(_SIZE, "change the file itself, with gguf-set-metadata", "", "--override-kv"),
    RefusedFlags(_SIZE, "samplers run on the processor", "-bs --backend-sampling"),
    RefusedFlags(
        _SIZE,
        "the projector's own figures count; use the key mmproj",
        "",
        "--image-min-tokens --image-max-tokens --mtmd-batch-max-tokens",
    ),
    RefusedFlags(_SIZE, "buffers are those that were counted", "--no-host"),
    RefusedFlags(_SIZE, "use the key draft, mtp or ngram", "", "--spec-type"),
    RefusedFlags(
        _SIZE,
        "use the key ngram, which counts the usual number of tokens",
        "",
        "--spec-ngram-mod-n-max --spec-ngram-simple-size-m --spec-ngram-map-k-size-m --spec-ngram-map-k4v-size-m",
    ),
    RefusedFlags(_PLACE, _CHOOSES, "", "-sm --split-mode -ts --tensor-split -mg --main-gpu -dev --device"),
    RefusedFlags(_PLACE, "use the key gpu_layers, or a cache_type_k of fewer bytes", "-nkvo --no-kv-offload"),
    RefusedFlags(_PLACE, "use the key gpu_layers", "--no-op-offload"),
    RefusedFlags(_PLACE, "use the key mmproj_offload", "", "-mmdev --mmproj-device"),
    RefusedFlags(_PLACE, "run lmxd on each of the machines", "", "--rpc"),
    RefusedFlags(
        _PLACE,
        "use the key draft.gpu_layers",
        "--spec-draft-cpu-moe -cmoed --cpu-moe-draft",
        """--spec-draft-n-cpu-moe --spec-draft-ncmoe -ncmoed --n-cpu-moe-draft --spec-draft-override-tensor -otd
        --override-tensor-draft --spec-draft-device -devd --device-draft""",
    ),
    RefusedFlags(
        _LOADS,
        "fetch the model with lmxd pull, and use the key path",
        """--embd-gemma-default --fim-qwen-1.5b-default --fim-qwen-3b-default --fim-qwen-7b-default --fim-qwen-7b-spec
        --fim-qwen-14b-spec --fim-qwen-30b-default --gpt-oss-20b-default --gpt-oss-120b-default
        --vision-gemma-4b-default --vision-gemma-12b-default""",
        "-mu --model-url -hf -hfr --hf-repo -hff --hf-file -dr --docker-repo",
    ),
    RefusedFlags(_LOADS, "fetch the file, and use the key mmproj", "--mmproj-auto", "-mmu --mmproj-url"),
    RefusedFlags(_LOADS, "fetch the file, and use the key draft", "", "--spec-draft-hf -hfd -hfrd --hf-repo-draft"),
    RefusedFlags(
        _LOADS,
        "an adapter is counted: the key lora",
        "",
        "--control-vector --control-vector-scaled --control-vector-layer-range",
    ),
    RefusedFlags(
        _LOADS,
        "no model here makes speech",
        "--tts-use-guide-tokens",
        "-mv --model-vocoder -hfv -hfrv --hf-repo-v -hffv --hf-file-v",
    ),
    RefusedFlags(
        "a projector is only loaded by the key mmproj", "leave it out", "--no-mmproj --no-mmproj-auto", ours=True
    ),
    RefusedFlags("llama-server fetches nothing here", "lmxd pull does, with HF_TOKEN", "", "-hft --hf-token"),
    RefusedFlags(_UNLOADS, "use the key idle_timeout", "", "--sleep-idle-seconds"),
    RefusedFlags(
        _UNLOADS,
        "each model is an entry of models, or in a directory of models_from",
        "--models-autoload --no-models-autoload",
        "--models-dir --models-preset --models-max",
    ),
    RefusedFlags(_OURS, "use the key endpoint", "", "--host --port", ours=True),
    RefusedFlags("it lets another process have its port", "use the key endpoint", "--reuse-port"),
    RefusedFlags(_OURS, "each lease has a key of its own", "", "--api-key --api-key-file", ours=True),
    RefusedFlags(_OURS, "use the key aliases", "", "-a --alias", ours=True),
    RefusedFlags(_OURS, "the gateway has a dashboard", "--ui --webui --no-ui --no-webui", ours=True),
    RefusedFlags(
        "it is about a page that the server does not have here",
        "the gateway has a dashboard",
        "--no-ui-mcp-proxy --no-webui-mcp-proxy",
        "--ui-config --webui-config --ui-config-file --webui-config-file",
    ),
    RefusedFlags("lmxd and its clients ask without a prefix", "a lease says the base URL", "", "--api-prefix"),
    RefusedFlags(
        "browsers ask the gateway",
        "gateway.origins says which pages may",
        "--cors-credentials --no-cors-credentials",
        "--cors-origins --cors-methods --cors-headers",
    ),
    RefusedFlags(_OURS, "", "--metrics --slots --no-slots --log-disable", "--log-file", ours=True),
    RefusedFlags(_OURS, "", "-v --verbose --log-verbose --offline", "-lv --verbosity --log-verbosity"),
    RefusedFlags(
        "lmxd reads the log, in its usual form",
        "lmxctl logs shows it",
        "--log-jsonl --no-log-jsonl --log-prefix --no-log-prefix",
        "--log-colors",
    ),
    RefusedFlags(
        _OPENS,
        "tools are run by the client, not by the server",
        "--agent -ag --ui-mcp-proxy --webui-mcp-proxy",
        "--tools --tools-runtime --mcp-servers-config --mcp-servers-json",
    ),
    RefusedFlags(_OPENS, "clients send files in their requests", "", "--path --media-path"),
    RefusedFlags("it lets clients write files", "use the key suspend", "", "--slot-save-path"),
    RefusedFlags(
        "instances speak plain HTTP, on this machine alone",
        "use gateway.tls_cert and gateway.tls_key",
        "",
        "--ssl-key-file --ssl-cert-file",
    ),
    RefusedFlags("it writes what people ask to disk", "leave it out", "", "--log-prompts-dir"),
    RefusedFlags(_OTHER_FILE, "use --json-schema, or the key grammar_file", "", "-jf --json-schema-file"),
    RefusedFlags(
        _OTHER_FILE,
        "use the key draft, mtp or ngram",
        "",
        "-lcs --lookup-cache-static -lcd --lookup-cache-dynamic",
    ),
    RefusedFlags("it runs other programs", "have ffmpeg on PATH", "", "--video-ffmpeg-dir"),
    RefusedFlags(
        "it only pretends to draft, for benchmarks", "leave it out", "", "--spec-synth-len --spec-synth-rates"
    ),
    RefusedFlags(
        "llama-server prints something and ends at once",
        "run it by hand",
        "-h --help --usage --version -cl --cache-list --completion-bash --list-devices",
    ),
    RefusedFlags("it does nothing any more", "leave it out", "", "-dt --defrag-thold"),
    RefusedFlags(_GONE, "use --spec-draft-n-min", "", "--draft-min --draft-n-min"),
    RefusedFlags(_GONE, "use the key ngram", "", "--spec-ngram-size-n --spec-ngram-size-m --spec-ngram-min-hits"),
)

PAIRS: Final = frozenset({"--control-vector-layer-range"})
"""Flags with two values."""

SECRETS: Final = frozenset("--api-key -hft --hf-token --mcp-servers-json".split())
"""Flags whose values nobody is shown."""
