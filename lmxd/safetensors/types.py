"""The types in which vLLM computes and keeps: bytes of an element, by a flag and a model's own word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lmxd.safetensors.documents import Uncovered

COMPUTED: Final = {"auto": 2, "half": 2, "float16": 2, "bfloat16": 2, "float": 4, "float32": 4}
"""--dtype -> bytes. ``auto`` is a type of two bytes: models in float32 are computed in bfloat16 or float16."""
KEPT: Final = {
    "float16": 2,
    "half": 2,
    "bfloat16": 2,
    **dict.fromkeys(("fp8", "fp8_e4m3", "fp8_e5m2"), 1),
}
"""--kv-cache-dtype -> bytes, beside ``auto``."""
_METHODS: Final = frozenset(
    """awq awq_marlin gptq gptq_marlin fp8 fbgemm_fp8 compressed-tensors modelopt modelopt_fp4 mxfp4 gpt_oss_mxfp4
    bitsandbytes quark auto-round inc auto_gptq""".split()
)
"""Ways to quantize whose files have what is in memory."""
_NOT_QUITE: Final = {
    "mxfp4": 12,
    "gpt_oss_mxfp4": 12,
    "bitsandbytes": 25,
}
"""Way to quantize -> the hundredth parts by which memory may have more than the files: kernels pad mxfp4's matrices to
multiples of 256, and of bitsandbytes what is not quantized is not known."""
_OTHERWISE: Final = 3


def computed(asked: str) -> int:
    """Bytes of an element that is computed with, by --dtype. Uncovered for a type that is not known."""
    if asked not in COMPUTED:
        raise Uncovered(f"--dtype {asked!r:.64} is not one of {', '.join(COMPUTED)}")
    return COMPUTED[asked]


def kept(asked: str, config: Mapping[str, Any], element: int) -> int:
    """Bytes of an element of keys and values, by --kv-cache-dtype, else by the checkpoint's own word.

    ``element``: bytes of one that is computed with. Uncovered for a type that is not known.
    """
    if asked != "auto":
        if asked not in KEPT:
            raise Uncovered(f"--kv-cache-dtype {asked[:64]} is not one of auto, {', '.join(KEPT)}")
        return KEPT[asked]
    quantization = quantization_of(config)
    inner = quantization.get("quantization", quantization)
    said = [part.get(key) for part in (inner, quantization) if isinstance(part, dict) for key in _SCHEMES]
    scheme = next((it for it in said if it), None)
    if scheme is None:
        return element
    if isinstance(scheme, dict) and (scheme.get("num_bits"), scheme.get("type")) == (8, "float"):
        return 1
    if isinstance(scheme, str) and scheme.lower() in ("fp8", "fp8_e4m3"):
        return 1
    raise Uncovered(f"config.json: keys and values are quantized as {scheme!r:.64}, which is not covered")


_SCHEMES: Final = ("kv_cache_scheme", "kv_cache_quant_algo")


def quantization_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config.json about its quantization; empty without one."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        for key in ("quantization_config", "compression_config"):
            found = part.get(key)
            if isinstance(found, dict):
                return found
    return {}


def method_of(config: Mapping[str, Any]) -> str:
    """The way in which a checkpoint is quantized; empty if it is not. Uncovered for one that is not known."""
    quantization = quantization_of(config)
    if not quantization:
        return ""
    said = str(quantization.get("quant_method", "")).lower().replace("compressed_tensors", "compressed-tensors")
    if said not in _METHODS:
        raise Uncovered(f"config.json: quant_method is {said[:64]!r}: what it takes in memory is not known here")
    return said


def doubt(method: str) -> int:
    """The hundredth parts by which the weights of such a checkpoint may take more than its files say."""
    return _NOT_QUITE.get(method, _OTHERWISE) if method else 0
