"""Facts of each kind of model that vLLM knows and its config.json may leave out.

Sources: the defaults of transformers 5.19's configuration classes, which fill in what a file does not say, and of
vLLM 0.32 the models' own modules (which layers look back how far). A kind that is not here is not guessed at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final


class Keeps(Enum):
    """The way in which a kind of model keeps what it saw, beside the common one: keys and values of every layer."""

    ALL = "keys and values of every layer"
    LATENT = "one latent row for keys and values (MLA), if the file names its rank"
    CHUNKS = "keys and values, of some layers by chunks"
    SHARED = "keys and values, which the last layers have of earlier ones"


class Slides(Enum):
    """The layers that see a window, where the file lists no ``layer_types``."""

    AS_LISTED = "none"
    ALL = "all, if there is a window"
    LAST_FULL = "all but the last of each period"
    FIRST_FULL = "all but the first of each period"
    AFTER = "those from max_window_layers on, with use_sliding_window"
    WITHOUT_ROPE = "those without rotary embeddings, with use_sliding_window"


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """The rules and defaults of one kind of model, by its ``model_type``; 0 or None where a file has to say it.

    ``kv_heads`` 0: as many as ``heads``. ``head`` 0: hidden size through heads. ``window``: tokens, where the file does
    not name one. ``by_layer``: each layer's own type counts; else a window holds for all layers or for none.
    ``beyond``: tokens that a window has more than the file says.
    """

    layers: int = 0
    hidden: int = 0
    heads: int = 0
    kv_heads: int = 0
    head: int = 0
    context: int = 0
    window: int = 0
    tied: bool = False
    keeps: Keeps = Keeps.ALL
    slides: Slides = Slides.AS_LISTED
    period: int = 0
    by_layer: bool = True
    beyond: int = 0


_SHAPES: Final = """
afmoe 32 2048 16 - 128 16384 no
apertus 32 4096 32 - - 65536 no
arcee 32 2560 32 - - 4096 no
aria_text 32 4096 32 - - 2048 no
axk1 61 7168 64 64 64 32768 no
bitnet 30 2560 20 5 - 2048 no
bloom 2 64 8 - - 2048 yes
chatglm 28 4096 32 - 128 2048 no
cohere 40 8192 64 - - 8192 yes
cohere2 40 8192 64 - - 8192 yes
cohere2_moe 40 8192 64 - 128 8192 yes
cwm 64 6144 48 8 128 131072 no
dbrx 24 2048 16 1 - 2048 no
deepseek_v2 32 4096 32 - 64 2048 no
deepseek_v3 61 7168 128 128 64 4096 no
dots1 62 4608 32 32 - 2048 no
ernie4_5 18 1024 16 2 128 131072 yes
ernie4_5_moe 28 2560 20 4 - 131072 yes
exaone4 32 4096 32 32 - 2048 no
exaone_moe 32 4096 32 32 - 2048 no
falcon 32 4544 71 - - 2048 yes
flex_olmo 32 4096 32 - - 4096 no
gemma 28 3072 16 16 256 8192 yes
gemma2 26 2304 8 4 256 8192 yes
gemma3_text 26 2304 8 4 256 131072 yes
gemma3n_text 35 2048 8 2 256 32768 yes
gemma4_text 30 2304 8 4 256 131072 yes
glm 40 4096 32 2 128 131072 no
glm4 40 4096 32 2 128 131072 no
glm4_moe 46 4096 96 8 - 131072 no
glm4_moe_lite 47 2048 20 20 64 202752 no
glm4v_text 40 4096 32 2 - 32768 no
glm4v_moe_text 46 4096 96 8 - 65536 no
gpt2 12 768 12 - - 1024 yes
gpt_bigcode 12 768 12 1 - 1024 yes
gpt_neox 44 6144 64 - - 2048 no
gpt_oss 36 2880 64 8 64 131072 no
gptj 28 4096 16 - - 2048 no
granite 32 4096 32 - - 2048 no
granite_swa 24 2560 20 4 - 8192 yes
granitemoe 32 4096 32 - - 2048 no
granitemoe_swa 32 4096 32 - - 2048 no
granitemoeshared 32 4096 32 - - 2048 no
helium 24 2560 20 20 128 4096 no
hunyuan_v1_dense 32 4096 32 - - 2048 no
hunyuan_v1_moe 32 4096 32 - - 2048 no
hy_v3 80 4096 64 8 128 131072 no
hyperclovax 32 4096 32 - - 2048 no
internlm2 0 0 0 - - 0 no
internlm3 0 0 0 - - 0 no
jais2 32 3328 26 - - 8192 no
llama 32 4096 32 - - 2048 no
llama4_text 48 5120 40 8 128 131072 no
minicpm 0 0 0 - - 0 no
minimax_m2 62 3072 48 8 128 196608 no
ministral 32 4096 32 8 - 131072 no
ministral3 34 4096 32 8 128 262144 no
mistral 32 4096 32 8 - 131072 no
mixtral 32 4096 32 8 - 131072 no
nemotron 32 6144 48 - - 4096 no
olmo 32 4096 32 - - 2048 no
olmo2 32 4096 32 - - 2048 no
olmo3 32 4096 32 - - 2048 no
olmoe 16 2048 16 - - 4096 no
opt 12 768 12 - - 2048 yes
persimmon 36 4096 64 - - 16384 no
phi 24 2048 32 - - 2048 no
phi3 32 3072 32 - - 4096 no
phimoe 32 4096 32 8 - 131072 no
qwen2 32 4096 32 32 - 32768 no
qwen2_5_omni_text 28 3584 28 4 - 32768 yes
qwen2_5_vl_text 80 8192 64 8 - 32768 no
qwen2_moe 24 2048 16 16 - 32768 no
qwen2_vl_text 80 8192 64 8 - 32768 no
qwen3 32 4096 32 32 128 32768 no
qwen3_moe 24 2048 32 4 - 32768 no
qwen3_vl_moe_text 24 2048 16 16 - 128000 yes
qwen3_vl_text 32 4096 32 32 128 128000 no
seed_oss 64 4096 80 8 128 524288 no
smollm3 36 2048 16 4 - 32768 yes
solar 0 0 0 - - 0 no
solar_open 48 4096 64 8 128 131072 no
stablelm 32 2560 32 32 - 4096 no
starcoder2 30 3072 24 2 - 4096 yes
vaultgemma 26 2304 8 4 256 8192 yes
youtu 32 2048 16 16 64 131072 yes
falcon_h1 32 4096 32 8 - 8192 no
granitemoehybrid 32 4096 32 - - 2048 no
jamba 32 4096 32 8 - 262144 no
lfm2 32 2560 32 8 - 128000 yes
lfm2_moe 32 2048 32 8 - 128000 yes
nemotron_h 4 4096 32 8 128 4096 no
qwen3_5_moe_text 40 2048 16 2 256 32768 no
qwen3_5_text 32 4096 16 4 256 32768 no
qwen3_next 48 2048 16 2 256 32768 no
"""
"""model_type, layers, hidden size, heads, heads of keys, size of a head, context, whether the embeddings are tied."""

_PLAIN: Final = Family()
_MLA: Final = Family(keeps=Keeps.LATENT)
_ALL: Final = Family(slides=Slides.ALL, by_layer=False)
_AFTER: Final = Family(slides=Slides.AFTER, by_layer=False)
_RULES: Final[dict[str, Family]] = {
    "afmoe": Family(window=1024, slides=Slides.LAST_FULL, period=4),
    "axk1": _MLA,
    "cohere2": Family(window=4096, slides=Slides.LAST_FULL, period=4, beyond=1),
    "cohere2_moe": Family(window=4096, slides=Slides.LAST_FULL, period=4, beyond=1),
    "cwm": Family(window=8192, slides=Slides.FIRST_FULL, period=4),
    "deepseek_v2": _MLA,
    "deepseek_v3": _MLA,
    "dots1": Family(window=4096, slides=Slides.AFTER),
    "exaone4": Family(window=4096, slides=Slides.LAST_FULL, period=4),
    "exaone_moe": Family(window=4096, slides=Slides.LAST_FULL, period=4),
    "gemma2": Family(window=4096, slides=Slides.LAST_FULL, period=2),
    "gemma3_text": Family(window=4096, slides=Slides.LAST_FULL, period=6),
    "gemma3n_text": Family(window=512, slides=Slides.LAST_FULL, period=5, keeps=Keeps.SHARED),
    "gemma4_text": Family(window=512, slides=Slides.LAST_FULL, period=6, keeps=Keeps.SHARED),
    "glm4_moe_lite": _MLA,
    "gpt_oss": Family(window=128, slides=Slides.LAST_FULL, period=2),
    "granite_swa": Family(window=128, slides=Slides.FIRST_FULL, period=4),
    "granitemoe_swa": Family(window=128, slides=Slides.FIRST_FULL, period=4),
    "llama4_text": Family(keeps=Keeps.CHUNKS),
    "ministral": Family(window=4096, slides=Slides.ALL),
    "mistral": Family(window=4096, slides=Slides.ALL, by_layer=False),
    "mixtral": _ALL,
    "olmo3": Family(window=4096, slides=Slides.LAST_FULL, period=4),
    "phi3": _ALL,
    "phimoe": _ALL,
    "qwen2": _AFTER,
    "qwen2_5_omni_text": _AFTER,
    "qwen2_5_vl_text": _AFTER,
    "qwen2_moe": _AFTER,
    "qwen2_vl_text": _AFTER,
    "qwen3": _AFTER,
    "qwen3_moe": _ALL,
    "smollm3": Family(slides=Slides.WITHOUT_ROPE),
    "starcoder2": _ALL,
    "vaultgemma": Family(window=4096, slides=Slides.LAST_FULL, period=2),
    "youtu": _MLA,
}


def _families() -> dict[str, Family]:
    found = {}
    for line in _SHAPES.strip().splitlines():
        name, *shape, tied = line.split()
        layers, hidden, heads, kv_heads, head, context = (0 if figure == "-" else int(figure) for figure in shape)
        found[name] = replace(
            _RULES.get(name, _PLAIN),
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=kv_heads,
            head=head,
            context=context,
            tied=tied == "yes",
        )
    return found


FAMILIES: Final = _families()
"""All kinds that are covered, by ``model_type``."""

ENCODERS: Final = frozenset(
    """albert bert camembert deberta distilbert electra eurobert gte modernbert mpnet new nomic_bert roberta
    xlm-roberta""".split()
)
"""Kinds that keep nothing: each text is read whole."""
