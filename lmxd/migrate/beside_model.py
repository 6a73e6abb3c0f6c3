"""The flags of llama-server for files beside a model and for placement, as keys of a profile."""

from __future__ import annotations

import re
from typing import Any, Final

from lmxd.engines.llama_cpp import flags
from lmxd.engines.llama_cpp.ngrams import TOKENS
from lmxd.migrate.report import About
from lmxd.text import shortened

_WHOLE: Final = re.compile("[0-9]{1,6}")
_ALL_LAYERS: Final = 999
_MTP: Final = "draft-mtp"
_DRAFTED: Final = 3
"""Tokens that llama-server has drafted unless it is told otherwise."""
_NGRAMS: Final = {f"ngram-{kind}": kind for kind in TOKENS}
_NATURAL: Final = frozenset(("none", "draft-simple"))
"""Values of ``--spec-type`` that say what lmxd does by itself."""
_USUAL: Final = frozenset((("repack", True), ("kv_unified", False), ("mmproj_offload", True)))
"""Keys and values that a profile has anyway."""


class BesideModel:
    """Gathers the keys that flags say. ``left`` is told each thing that could not be carried over."""

    def __init__(self, left: About) -> None:
        self._left = left
        self._found: dict[str, Any] = {}
        self._draft: dict[str, Any] = {}
        self._kinds: set[str] = set()

    def takes(self, flag: str, value: str) -> bool:
        """Whether the flag was one of these; then it is taken."""
        if flag == "--spec-default":
            self._kinds.add("ngram-mod")
        elif flag in flags.SWITCH_KEYS:
            self._switch(flag)
        elif flag in flags.DRAFT_KEYS:
            self._of_draft(flags.DRAFT_KEYS[flag], flag, value)
        elif flag == "--spec-type":
            self._kinds |= set(value.split(","))
        elif flags.KEYS.get(flag) in _TAKERS:
            _TAKERS[flags.KEYS[flag]](self, flag, value)
        else:
            return False
        return True

    def keys(self) -> dict[str, Any]:
        """The keys of the profile, once all flags were taken."""
        return self._found | self._drafting()

    def _drafting(self) -> dict[str, Any]:
        """The one way of drafting that a profile can have; others are told."""
        kinds, found = self._kinds - _NATURAL, dict[str, Any]()
        if "path" in self._draft:
            found, kinds = {"draft": self._draft}, kinds - {_MTP}
        elif _MTP in kinds:
            found, kinds = {"mtp": self._draft.get("tokens") or _DRAFTED}, kinds - {_MTP}
        elif self._draft:
            had = ", ".join(f"{key}: {value}" for key, value in self._draft.items())
            self._left(f"draft: there is no draft model (it had {had})")
        if not found and (ngrams := sorted(kinds & _NGRAMS.keys())):
            found, kinds = {"ngram": _NGRAMS[ngrams[0]]}, kinds - {ngrams[0]}
        if kinds:
            self._left(f"--spec-type: {', '.join(sorted(kinds))} has no counterpart here")
        return found

    def _switch(self, flag: str) -> None:
        key, value = flags.SWITCH_KEYS[flag]
        if (key, value) in _USUAL:
            self._found.pop(key, None)
            self._left.unneed(flag, "lmxd does so by itself")
        else:
            self._found[key] = value

    def _of_draft(self, key: str, flag: str, value: str) -> None:
        if key.startswith("cache_type"):
            self._draft[key] = value
        elif not _WHOLE.fullmatch(value):
            if value not in ("auto", "all"):
                self._left(f"{flag} is {shortened(value, 40)!r}, which is no number")
        elif key == "tokens" or int(value) < _ALL_LAYERS:
            self._draft[key] = int(value)

    def _text(self, flag: str, value: str) -> None:
        if self._needs(flag, value):
            self._found[flags.KEYS[flag]] = value

    def _draft_path(self, flag: str, value: str) -> None:
        if self._needs(flag, value):
            self._draft["path"] = value

    def _lora(self, flag: str, value: str) -> None:
        adapters = self._found.setdefault("lora", [])
        for item in value.split(","):
            path, _, scale = item.rpartition(":") if flag == "--lora-scaled" else (item, "", "")
            try:
                adapters.append({"path": path, "scale": float(scale)} if path and scale else item)
            except ValueError:
                self._left(f"{flag} {shortened(item, 80)} is not FILE:SCALE")

    def _layers(self, flag: str, value: str) -> None:
        if _WHOLE.fullmatch(value):
            self._found[flags.KEYS[flag]] = int(value)
        else:
            self._left(f"{flag} is {shortened(value, 40)!r}, which is no number")

    def _moved(self, flag: str, value: str) -> None:
        self._found.setdefault("override_tensor", []).append(value)

    def _needs(self, flag: str, value: str) -> bool:
        if not value:
            self._left(f"{flag}: has no value")
        return bool(value)


_TAKERS: Final = {
    "mmproj": BesideModel._text,
    "chat_template_file": BesideModel._text,
    "grammar": BesideModel._text,
    "grammar_file": BesideModel._text,
    "draft": BesideModel._draft_path,
    "lora": BesideModel._lora,
    "n_cpu_moe": BesideModel._layers,
    "n_cpu_ffn": BesideModel._layers,
    "override_tensor": BesideModel._moved,
}
