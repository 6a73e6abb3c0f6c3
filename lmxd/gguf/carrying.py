"""Conversations that a slot's file carries to another instance, and those that are processed anew there.

Sources: llama.cpp's issues 26676 (some builds do not take a recurrent state back from a file, and answer as if they
had) and 19466 (with images a restored slot counts wrong); and trials with llama-server of build 10068 and random
weights: what a window has left behind is processed anew, restored or not, unless ``--swa-full`` keeps it; a file of a
plain cache fits any number of slots once its header is written anew (engines/llama_cpp/slot_file.py), any other file
only as many as where it was saved.
"""

from __future__ import annotations

from lmxd.gguf.architectures import COMPRESSED, ENCODING, ROUTED
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model


def not_carried(
    model: Model, launch: Launch, *, alike: bool = True, projector: bool = False, draft: bool = False
) -> str | None:
    """The reason why a conversation is processed anew when it moves to another instance; None if its file carries it.

    ``alike``: both instances have as many caches beside each other: one for each slot, or for all. ``projector``: the
    server turns images or sound into tokens. ``draft``: a second model proposes tokens.
    """
    if any(model.states):
        return "it has a recurrent state, which not all builds of llama-server take back from a file"
    if not model.attends_cache or model.arch in ENCODING:
        return "it keeps no cache from which a conversation goes on"
    if model.arch in COMPRESSED | ROUTED:
        return "what it keeps beside its cache was never tried in a file"
    if any(model.slides) and not launch.swa_full:
        return f"its sliding window keeps {model.window} tokens (swa_full: true keeps all)"
    if not (alike or _is_plain(model)):
        return "its file fits only an instance with as many slots, and larger steps have fewer (slots: 1 has as many)"
    if projector:
        return "with mmproj, llama-server counts the tokens of images wrong that come from a file"
    if draft or launch.mtp:
        return "the cache of what drafts its tokens is not in the file of a slot"
    return None


def _is_plain(model: Model) -> bool:
    """Whether it has one cache of keys and values, of the same kind in all layers."""
    return not (model.mla or model.indexer or any(model.slides))
