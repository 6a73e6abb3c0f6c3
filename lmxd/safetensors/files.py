"""The files of weights in a model directory that vLLM loads, by their names and the index.

As vllm's default_loader.py chooses: of Mistral's own ``consolidated*.safetensors`` alone where there are any, else all
``*.safetensors``; and of those only the ones that the index names, if there is an index.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Set
from typing import Any, Final

from lmxd.safetensors.documents import DirectoryError

CONFIG: Final = "config.json"
_KINDS_OF_TEXTS: Final = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
TEXTS: Final = tuple(f"sentence_{kind}_config.json" for kind in _KINDS_OF_TEXTS)
"""Files of Sentence Transformers, in the order in which vLLM looks for them: they say how long a text may be."""
WEIGHTS: Final = ".safetensors"
_INDEX: Final = "model.safetensors.index.json"
_CONSOLIDATED: Final = "consolidated"
_CONSOLIDATED_INDEX: Final = "consolidated.safetensors.index.json"
_OTHER_WEIGHTS: Final = (".bin", ".pt", ".pth", ".gguf", ".ckpt")
INDEXES: Final = (_INDEX, _CONSOLIDATED_INDEX)
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}")
_DOCUMENTS: Final = (".json", ".txt", ".model", ".jinja", ".tiktoken")
MAX_DOCUMENT: Final = 64 * 2**20
"""Bytes of a document. The index of the largest models has 30 MB, the largest tokenizers as many."""
MAX_FILES: Final = 1_024
"""Files of weights of one model. The largest models have 200."""


def weight_files(names: Collection[str], indexed: Callable[[str], Set[str]]) -> tuple[str, ...]:
    """The files to read, of a directory with these ``names``; ``indexed``: those that an index of it names.

    DirectoryError if there is none, or one that the index names is missing.
    """
    if CONFIG not in names:
        raise DirectoryError(*_no_model(names))
    there = {name for name in names if name.endswith(WEIGHTS) and not name.startswith(".")}
    consolidated = {name for name in there if name.startswith(_CONSOLIDATED)}
    there, index = (consolidated, _CONSOLIDATED_INDEX) if consolidated else (there, _INDEX)
    if there and index in names:
        there = _there(indexed(index), index, there)
    if not there:
        raise DirectoryError(*_no_weights(names))
    if len(there) > MAX_FILES:
        raise DirectoryError(f"{len(there)} files of weights are more than {MAX_FILES}", "name that of one model")
    return tuple(sorted(there))


def is_plain(name: str) -> bool:
    """Whether a name is of weights, or of a document beside them: neither hidden, nor code, nor in another place."""
    return _PLAIN.fullmatch(name) is not None and name.endswith((WEIGHTS, *_DOCUMENTS))


def is_document(name: str) -> bool:
    """Whether a plain name is of a document."""
    return not name.endswith(WEIGHTS)


def named_files(index: dict[str, Any], name: str) -> frozenset[str]:
    """The files that an index names. DirectoryError if it names none."""
    found = index.get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(file, str) for file in found.values()):
        raise DirectoryError(f"{name} has no weight_map of names")
    return frozenset(found.values())


def _there(wanted: Set[str], name: str, there: set[str]) -> set[str]:
    """The files that an index wants, all of which have to be there."""
    if missing := sorted(wanted - there):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DirectoryError(f"{missing[0][:128]!r}{more}, which {name} names, is not there")
    return set(wanted)


def _no_model(names: Collection[str]) -> tuple[str, str]:
    """(what is missing, what to do)."""
    if "adapter_config.json" in names:
        return "there is an adapter (LoRA) and no config.json", "name the directory of the model that it is for"
    if "params.json" in names:
        return "there is Mistral's params.json and no config.json, which is not read", "fetch config.json as well"
    if "model_index.json" in names:
        return "there is a pipeline of diffusers and no config.json", "vLLM does not serve it: name another directory"
    return "there is no config.json", "name a directory as Hugging Face has them"


def _no_weights(names: Collection[str]) -> tuple[str, str]:
    others = sorted({suffix for name in names for suffix in _OTHER_WEIGHTS if name.endswith(suffix)})
    if others:
        return f"there are weights in {', '.join(others)} and none in .safetensors", "convert them, or fetch those"
    return "there are no files of weights (*.safetensors)", "fetch the model to its end"
