"""Conversations that a slot's file carries to another instance, and those that are processed anew there.

A file has the cells of one cache as they are, and nothing beside them. Sources, llama.cpp build 11434:
src/llama-kv-cache.cpp:state_write, src/llama-kv-cache-iswa.cpp, tools/server/server-context.cpp. A restored
recurrent state is not used (llama.cpp issue 26676); of a sliding window the cells before it are gone, and the
checkpoints by which a server goes back are not in the file; with images the count of tokens is wrong (issue 19466).
"""

from __future__ import annotations

from lmxd.gguf.architectures import COMPRESSED, ENCODING, ROUTED
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model


def not_carried(model: Model, launch: Launch, *, projector: bool = False, draft: bool = False) -> str | None:
    """The reason why a conversation is processed anew when it moves to another instance; None if its file carries it.

    ``projector``: the server turns images or sound into tokens. ``draft``: a second model proposes tokens.
    """
    if any(model.states):
        return "it has a recurrent state, which llama-server does not take back from a file"
    if not model.attends_cache or model.arch in ENCODING:
        return "it keeps no cache from which a conversation goes on"
    if model.arch in COMPRESSED | ROUTED or model.indexer:
        return "what it keeps beside its cache was never tried in a file"
    if any(model.slides) and not launch.swa_full:
        return f"its sliding window keeps {model.window} tokens, and a file no more: swa_full: true would keep all"
    if projector:
        return "with mmproj, llama-server counts the tokens of images wrong that come from a file"
    if draft or launch.mtp:
        return "the cache of what drafts its tokens is not in a slot's file"
    return None
