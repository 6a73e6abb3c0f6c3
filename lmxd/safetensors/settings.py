"""The settings of a model: its config.json with the defaults of its kind, by the names that kinds differ in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lmxd.safetensors.documents import DirectoryError, Uncovered
from lmxd.safetensors.families import ENCODERS, FAMILIES, Family

_INNER: Final = ("text_config", "language_config", "llm_config")
"""The keys under which models of pictures and sound have the settings of their language model."""
_TEXT_TYPES: Final = {
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "glm4v": "glm4v_text",
    "glm4v_moe": "glm4v_moe_text",
    "aria": "aria_text",
    "llava": "llama",
    "llava_next": "llama",
    "mistral3": "mistral",
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
    "kimi_k2": "deepseek_v3",
}
"""The kind of the language model of each kind that has one inside, where the file does not say it."""

_LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS: Final = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS: Final = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
_HIDDEN: Final = ("hidden_size", "n_embd", "d_model")
_MOST: Final = 2**27
"""Above any real figure of a shape."""
MAX_LAYERS: Final = 2_048


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the language model in a config.json, and the rules of its kind.

    ``whole``: of the file; ``text``: of its language model, the same where it has no other part. ``kind``: its
    model_type. ``family``: None for an encoder.
    """

    whole: Mapping[str, Any]
    text: Mapping[str, Any]
    kind: str
    family: Family | None

    def number(self, *names: str, default: int | None = None, least: int = 1, most: int = _MOST) -> int:
        """The whole number under the first of ``names`` that the file has. DirectoryError if it cannot be."""
        for name in names:
            value = self.text.get(name)
            if value is None:
                continue
            if type(value) is not int or not least <= value <= most:
                raise DirectoryError(f"config.json: {name} is {value!r:.64}, where {least} to {most} is possible")
            return value
        if default is None:
            raise Uncovered(f"config.json does not say {names[0]}, and {self.kind} has no default that is known here")
        if default < least:
            raise DirectoryError(f"config.json: {names[0]} would be {default} by what it says, which cannot be")
        return default

    def truth(self, name: str, *, default: bool) -> bool:
        value = self.text.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise DirectoryError(f"config.json: {name} is {value!r:.64}, not true or false")
        return value

    def words(self, name: str, count: int) -> tuple[str, ...] | None:
        """The list of ``count`` words under a name; None without one."""
        value = self.text.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value) or len(value) < count:
            raise DirectoryError(f"config.json: {name} is {value!r:.64}, not a list of {count} words")
        return tuple(value[:count])

    @property
    def rules(self) -> Family:
        assert self.family is not None, "an encoder"
        return self.family

    @property
    def layers(self) -> int:
        default = self.family.layers if self.family else 0
        return self.number(*_LAYERS, default=default or None, most=MAX_LAYERS)

    @property
    def heads(self) -> int:
        return self.number(*_HEADS, default=self.rules.heads or None)

    @property
    def hidden(self) -> int:
        return self.number(*_HIDDEN, default=(self.family.hidden if self.family else 0) or None)

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values of a layer, all ranks together."""
        if self._multi_query:
            return 1
        if self.kind == "gpt_bigcode" or (self.kind == "chatglm" and self._has_a_head_each):
            return self.heads
        if self.kind == "dbrx":
            inner = self.text.get("attn_config")
            found = inner.get("kv_n_heads", 1) if isinstance(inner, dict) else 1
            return Settings(self.whole, {"kv_n_heads": found}, self.kind, self.family).number("kv_n_heads")
        return self.number(*_KV_HEADS, default=self.rules.kv_heads or self.heads)

    @property
    def _multi_query(self) -> bool:
        """Whether all heads have one of keys, as falcon's and starcoder's older ones."""
        if self.kind not in ("falcon", "gpt_bigcode") or self.truth("new_decoder_architecture", default=False):
            return False
        return self.truth("multi_query", default=True)

    @property
    def _has_a_head_each(self) -> bool:
        return not self.truth("multi_query_attention", default=False)

    @property
    def head(self) -> int:
        """Elements of a key of one head."""
        return self.number(
            "head_dim", "hidden_size_per_head", "kv_channels", default=self.rules.head or self.hidden // self.heads
        )

    @property
    def window(self) -> int:
        """Tokens of the window that the file or the kind names; 0 for none."""
        if "use_sliding_window" in self.text and not self.truth("use_sliding_window", default=False):
            return 0
        if "sliding_window" in self.text:
            return 0 if self.text["sliding_window"] is None else self.number("sliding_window", least=0)
        return self.rules.window


def settings_of(config: Mapping[str, Any]) -> Settings:
    """The settings of a config.json. Uncovered for a kind of model that is not known here."""
    outer = config.get("model_type")
    if not isinstance(outer, str):
        raise DirectoryError(f"config.json: model_type is {outer!r:.64}: it is no model of transformers")
    thinker = config.get("thinker_config")
    inside: Mapping[str, Any] = thinker if isinstance(thinker, dict) else config
    text = next((inside[key] for key in _INNER if isinstance(inside.get(key), dict)), inside)
    kind = text.get("model_type") or outer
    if not isinstance(kind, str):
        raise DirectoryError(f"config.json: model_type is {kind!r:.64}, not a word")
    kind = _TEXT_TYPES.get(kind, kind)
    if kind in ENCODERS:
        return Settings(config, text, kind, None)
    if kind not in FAMILIES:
        raise Uncovered(
            f"models of the kind {kind[:64]!r} are not covered: no formula for what they keep is known here"
        )
    return Settings(config, text, kind, FAMILIES[kind])
