"""Facts of each architecture that llama.cpp knows and no file says: which layers slide, keep a state, or nothing.

Source: llama.cpp build 11434, src/models/*.cpp (hyper-parameters) and src/llama-model.cpp:create_memory.
An architecture that is not here is not guessed at.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Memory(Enum):
    """The kind of memory that a layer keeps of the tokens before."""

    CACHE = "a KV cache on every layer"
    NOTHING = "no cache: encoders and diffusion models"
    STATE = "a recurrent state on every layer"
    BOTH = "a KV cache and a state on every layer"
    BY_HEADS = "a state where head_count_kv is 0, else a cache"
    BY_HEADS_AND_FEED_FORWARD = "as BY_HEADS, but nothing where the layer is a feed-forward one"
    BY_INTERVAL = "a cache on every n-th layer, else a state"


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """The rules of one architecture for what its layers keep.

    ``period``: every n-th layer attends to everything, the others to a window; the first of each n if ``full_first``.
    0: no layer slides, unless the file says which. ``window`` is the default in tokens; ``fixed`` if the file cannot
    change it. ``needs_window``: without a window in the file no layer slides.
    """

    memory: Memory = Memory.CACHE
    period: int = 0
    full_first: bool = False
    window: int = 0
    fixed: bool = False
    needs_window: bool = True


_FULL = """llama mistral3 mistral4 qwen qwen2 qwen2vl qwen3 qwen3vl phi2 phi3 granite graniteswitch glm4 smollm3
starcoder starcoder2 stablelm internlm2 xverse command-r gemma deci nemotron exaone arcee ernie4_5 hunyuan-dense
hunyuan_vl seed_oss apertus orion baichuan falcon gpt2 gptneox minicpm minicpm3 chatglm bloom mpt refact codeshell
openelm jais jais2 plamo maincoder olmo qwen2moe qwen3moe qwen3vlmoe phimoe olmoe dbrx grok arctic deepseek glm4moe
minimax-m2 ernie4_5-moe bailingmoe bailingmoe2 dots1 hunyuan-moe hy_v3 granitemoe grovemoe deepseek2 deepseek2-ocr
plm bitnet chameleon cogvlm pangu-embedded paddleocr llama-embed talkie hrm_text nanbeige t5encoder
deepseek32 deepseek4 glm-dsa hy_v4 minimax-m3 t5""".split()

_ENCODERS = """bert modern-bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 eurobert dream llada
llada-moe rnd1""".split()

ARCHITECTURES: Final[dict[str, Architecture]] = {
    **{name: Architecture() for name in _FULL},
    **{name: Architecture(memory=Memory.NOTHING) for name in _ENCODERS},
    "gemma-embedding": Architecture(memory=Memory.NOTHING),
    "gemma2": Architecture(period=2, window=4096, needs_window=False),
    "gemma3": Architecture(period=6),
    "gemma3n": Architecture(period=5),
    "gemma4": Architecture(),
    "gpt-oss": Architecture(period=2),
    "cohere2": Architecture(period=4),
    "cohere2moe": Architecture(period=4, full_first=True),
    "olmo2": Architecture(period=4),
    "exaone4": Architecture(period=4, window=4096, needs_window=False),
    "exaone-moe": Architecture(period=4, window=128, needs_window=False),
    "afmoe": Architecture(period=4),
    "plamo3": Architecture(period=8),
    "mellum": Architecture(period=4),
    "muse-glimmer": Architecture(period=4),
    "llama4": Architecture(period=4, window=8192, fixed=True, needs_window=False),
    "laguna": Architecture(period=4, full_first=True),
    "smallthinker": Architecture(period=4, full_first=True, window=4096, fixed=True),
    **{name: Architecture() for name in ("granite_swa", "maple", "mimo2", "spark2_5", "step35", "dots3note")},
    **{name: Architecture(memory=Memory.STATE) for name in "mamba mamba2 rwkv6 rwkv6qwen2 rwkv7 arwkv7".split()},
    "falcon-h1": Architecture(memory=Memory.BOTH),
    **{
        name: Architecture(memory=Memory.BY_HEADS)
        for name in "jamba granitehybrid lfm2 lfm2moe plamo2 kimi-linear kimi-k3 bailingmoe3".split()
    },
    "nemotron_h": Architecture(memory=Memory.BY_HEADS_AND_FEED_FORWARD),
    "nemotron_h_moe": Architecture(memory=Memory.BY_HEADS_AND_FEED_FORWARD),
    **{name: Architecture(memory=Memory.BY_INTERVAL) for name in "qwen3next qwen35 qwen35moe minimax-01".split()},
}

PATTERN_ARCHITECTURES: Final = frozenset({"gemma4", "granite_swa", "maple", "mimo2", "spark2_5", "step35", "dots3note"})
"""The file itself lists which layers slide."""

SHARED_CACHE: Final[dict[str, int]] = {"gemma3n": 20}
"""Layers from here on use the cache of earlier ones; others say so in attention.shared_kv_layers."""

WITHOUT_LOGITS: Final = frozenset(_ENCODERS) - {"dream", "llada", "llada-moe", "rnd1"} | {
    "gemma-embedding",
    "t5encoder",
}
"""They give embeddings, and no token after the last."""

BATCH_ONLY: Final = frozenset({"llama-embed", "t5encoder"})
"""They have a cache, and their tokens look at their own batch alone."""

ENCODING: Final = frozenset({"t5"})
"""They write from what an encoder made of as many tokens as the model was trained for, in one stream."""

INDEXED: Final = frozenset({"deepseek32", "deepseek4", "glm-dsa", "hy_v4", "dots3note", "minimax-m3"})
"""They find the cells that a token attends to by keys of their own, in a second cache (llama-kv-cache-dsa.cpp)."""

COMPRESSED: Final = frozenset({"deepseek4"})
"""Every layer slides, and most keep rows of several tokens beside the window; K and V are one."""

BY_BLOCKS: Final = frozenset({"minimax-m3"})
"""Of these the indexer finds blocks of cells, one head for each KV head; its cache has values, too."""

ROUTED: Final = frozenset({"graniteswitch"})
"""After the last layer another one of a single head chooses the adapter, and caches what it saw."""

ROLLED_BACK: Final = frozenset("kimi-k3 qwen35 qwen35moe nemotron_h nemotron_h_moe lfm2 lfm2moe bailingmoe3".split())
"""With drafts of their own (MTP) they keep a state for each drafted token (llm_arch_supports_rs_rollback)."""

DRAFTING: Final = frozenset(
    """bailingmoe3 cohere2moe deepseek2 deepseek32 glm-dsa glm4moe hy_v3 mimo2 nemotron_h_moe qwen35 qwen35moe qwen3next
    step35""".split()
)
"""llama.cpp can draft with their own layers (LLM_GRAPH_TYPE_DECODER_MTP)."""

CACHED_DRAFTING: Final = frozenset({"bailingmoe3"})
"""The drafting layers have a cache in the model's own context too."""

KEPT_OF_DRAFTING: Final = frozenset({"cohere2moe", "hy_v3", "step35"})
"""These load parts of their drafting layers without drafting, too."""

NEVER_TIED: Final = frozenset(_ENCODERS) - {"dream", "llada", "rnd1"} | {"bitnet", "t5encoder"}
"""Without output.weight these have no output on the device; all others use the embeddings, and copy them."""
