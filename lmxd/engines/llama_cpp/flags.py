"""The flags of llama-server that a profile may add: those that leave alone what admission relies on."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

_SWITCHES = """--jinja --no-jinja --context-shift --no-context-shift --cont-batching -cb --no-cont-batching -nocb
--embedding --embeddings --rerank --reranking --mlock --no-mmap --special -sp --spm-infill --prefill-assistant
--no-prefill-assistant --cache-prompt --no-cache-prompt --skip-chat-parsing --no-skip-chat-parsing --perf --no-perf
--warmup --no-warmup --check-tensors --escape -e --no-escape --ignore-eos --reasoning-preserve
--no-reasoning-preserve --log-timestamps --no-log-timestamps"""

_WITH_VALUE = """--chat-template --chat-template-kwargs --reasoning --reasoning-format --reasoning-effort
--reasoning-budget --reasoning-budget-message --pooling --rope-scaling --rope-scale --rope-freq-base
--rope-freq-scale --yarn-orig-ctx --yarn-ext-factor --yarn-attn-factor --yarn-beta-slow --yarn-beta-fast
--threads-batch -tb --threads-http --prio --prio-batch --poll --poll-batch --cpu-mask -C --cpu-range -Cr
--cpu-mask-batch --cpu-range-batch --cpu-strict --numa --cache-reuse --slot-prompt-similarity -sps --timeout -to
--sse-ping-interval --embd-normalize --predict -n --n-predict --keep --seed -s --temp --temperature --top-k --top-p
--min-p --top-nsigma --top-n-sigma --xtc-probability --xtc-threshold --typical --typical-p --repeat-last-n
--repeat-penalty --presence-penalty --frequency-penalty --dry-multiplier --dry-base --dry-allowed-length
--dry-penalty-last-n --dynatemp-range --dynatemp-exp --mirostat --mirostat-lr --mirostat-ent --samplers --sampling-seq
--sampler-seq --reverse-prompt -r --tags"""

ALLOWED: Final[dict[str, bool]] = dict.fromkeys(_SWITCHES.split(), False) | dict.fromkeys(_WITH_VALUE.split(), True)
"""Flag -> whether it takes a value."""

KEYS: Final[dict[str, str]] = {
    flag: key
    for key, flags in {
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
        "mmproj": "-mm --mmproj",
        "lora": "--lora --lora-scaled",
        "draft": "-md --model-draft --spec-draft-model",
        "n_cpu_moe": "-ncmoe --n-cpu-moe",
        "override_tensor": "-ot --override-tensor",
        "chat_template_file": "--chat-template-file",
        "grammar": "--grammar",
        "grammar_file": "--grammar-file",
    }.items()
    for flag in flags.split()
}
"""Flag with a value -> the key of a profile that says it."""

DRAFT_KEYS: Final[dict[str, str]] = {
    flag: key
    for key, flags in {
        "tokens": "--spec-draft-n-max --draft-max --draft --draft-n",
        "gpu_layers": "-ngld --spec-draft-ngl --gpu-layers-draft --n-gpu-layers-draft",
        "cache_type_k": "-ctkd --spec-draft-type-k --cache-type-k-draft",
        "cache_type_v": "-ctvd --spec-draft-type-v --cache-type-v-draft",
    }.items()
    for flag in flags.split()
}
"""The same of the keys of ``draft``."""

SWITCH_KEYS: Final[dict[str, tuple[str, bool | str]]] = {
    flag: (key, value)
    for key, value, flags in (
        ("n_cpu_moe", "all", "-cmoe --cpu-moe"),
        ("kv_unified", True, "-kvu --kv-unified"),
        ("kv_unified", False, "-no-kvu --no-kv-unified"),
        ("swa_full", True, "--swa-full"),
        ("repack", True, "--repack"),
        ("repack", False, "-nr --no-repack"),
        ("mmproj_offload", True, "--mmproj-offload"),
        ("mmproj_offload", False, "--no-mmproj-offload"),
        ("props", True, "--props"),
    )
    for flag in flags.split()
}
"""Switch -> the key of a profile and its value that say it."""

_BREAKS_ADMISSION: Final[dict[str, str]] = {
    flag: why
    for why, flags in {
        "it changes the size that was admitted": """-fit --fit -fitt --fit-target -fitc --fit-ctx
            -cram --cache-ram -ctxcp --ctx-checkpoints --swa-checkpoints --override-kv --no-host --defrag-thold -dt
            --kv-unified-per-slot -cms --checkpoint-min-step --moe-cache-mib --lazy-mode -lzm --load-mode -lm""",
        "it moves bytes to where they were not admitted": """-sm --split-mode -ts --tensor-split -mg --main-gpu
            -dev --device -kvo --kv-offload -nkvo --no-kv-offload --op-offload --no-op-offload --rpc""",
        "it loads something that was not admitted": """-mmu --mmproj-url --control-vector --control-vector-scaled
            -mu --model-url -hf -hfr --hf-repo -hff --hf-file -dr --docker-repo --spec-type --spec-default
            --spec-draft-hf -hfd -hfrd --hf-repo-draft --mmproj-auto --no-mmproj --no-mmproj-auto""",
        "it unloads or reloads behind the ledger's back": """--sleep-idle-seconds --models-dir --models-preset
            --models-max --models-autoload --no-models-autoload""",
        "lmxd sets it": """--host --port --reuse-port --api-key --api-key-file --api-prefix --metrics --slots --no-slots
            --ui --webui --no-ui --no-webui -a --alias --log-file --log-disable -lv --verbosity --log-verbosity -v
            --verbose --log-verbose --offline""",
        "it opens the machine to whoever can reach the server": """--tools --tools-runtime --agent -ag --path
            --media-path --mcp-servers-config --mcp-servers-json --ui-mcp-proxy --webui-mcp-proxy
            --slot-save-path --ssl-key-file --ssl-cert-file --log-prompts-dir""",
    }.items()
    for flag in flags.split()
}


def problems(words: Sequence[str]) -> list[str]:
    """The faults of a profile's extra flags, one sentence each; none if they may be passed on."""
    found = []
    rest = list(words)
    while rest:
        flag, joined, _ = rest.pop(0).partition("=")
        if flag not in ALLOWED:
            found.append(why_not(flag))
            if rest and not rest[0].startswith("-"):
                rest.pop(0)
        elif joined:
            found.append(f"{flag}=…: write the flag and its value as two items")
        elif ALLOWED[flag]:
            if not rest:
                found.append(f"{flag} needs a value")
            else:
                rest.pop(0)
    return found


def key_of(flag: str) -> str | None:
    """The key of a profile that says what a flag says; None if there is none."""
    if flag in SWITCH_KEYS:
        return SWITCH_KEYS[flag][0]
    return f"draft.{DRAFT_KEYS[flag]}" if flag in DRAFT_KEYS else KEYS.get(flag)


def why_not(flag: str) -> str:
    if (key := key_of(flag)) is not None:
        return f"{flag} is refused: use the key {key} instead"
    if flag in _BREAKS_ADMISSION:
        return f"{flag} is refused: {_BREAKS_ADMISSION[flag]}"
    near = difflib.get_close_matches(flag, ALLOWED, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{flag!r} is not a flag that a profile may add{hint}"


def computes_all_outputs(words: Sequence[str]) -> bool:
    """Embedding and reranking servers need an output for each token, which takes more memory."""
    return any(word in ("--embedding", "--embeddings", "--rerank", "--reranking") for word in words)


def stretches_context(words: Sequence[str]) -> bool:
    """Returns whether the profile scales positions, so that a context beyond the trained one is meant."""
    return any(word.startswith(("--rope-scal", "--yarn-")) for word in words)
