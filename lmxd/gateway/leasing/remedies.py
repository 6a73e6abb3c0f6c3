"""Remedies for who asks over HTTP: such a client has no command of lmxd's, and waits as the gateway lets it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lmxd.errors import LmxdError
from lmxd.gateway.leasing.leases import LeaseWish
from lmxd.gateway.leasing.models import KnownModels
from lmxd.rpc.books import ModelInfo
from lmxd.rpc.shortfalls import ShortfallInfo
from lmxd.text import several

_OF_ADMINISTRATORS: Final = frozenset(
    (
        "bad_model_file",
        "config",
        "daemon_unavailable",
        "engine_missing",
        "launch_failed",
        "ledger_unwritable",
        "model_file_forbidden",
        "model_file_missing",
    )
)
"""Codes of what no client can mend."""
_COMMANDS: Final = re.compile(r"\b(?:lmxctl|lmxd [a-z]|lmxd-admin)|(?<!\S)--[a-z]")
"""Words of remedies for who has a shell on the machine."""
_TASKS: Final = frozenset(("completion", "embedding", "rerank"))
"""Capabilities without which one model is none in the place of another."""


def said(error: LmxdError) -> str:
    """An error with its remedy, which says so if an administrator alone can carry it out."""
    if not error.remedy:
        return error.message
    theirs = error.code in _OF_ADMINISTRATORS or _COMMANDS.search(error.remedy)
    whose = "for an administrator: " if theirs and "administrator" not in error.remedy else ""
    return f"{error.message} ({whose}{error.remedy})"


class Remedies:
    """Makes the remedies of refused requests. ``wait``: the most seconds that a request may wait in the queue."""

    def __init__(self, models: KnownModels, wait: float | None) -> None:
        self._models = models
        self._wait = wait

    async def mended(self, error: LmxdError, wish: LeaseWish) -> LmxdError | None:
        """A refusal with a remedy that its client can carry out. None for all other errors, which stay as they are."""
        if error.code == "never_fits":
            helps = [_never_fits(error.data, wish), *_configured(error.data)]
        elif error.code in ("no_capacity", "wait_expired"):
            helps = await self._no_capacity(error, wish)
        else:
            return None
        return LmxdError(error.code, error.message, ", or ".join(helps), error.data)

    async def _no_capacity(self, error: LmxdError, wish: LeaseWish) -> list[str]:
        found = [ShortfallInfo.model_validate(each) for each in error.data.get("shortfalls", ())]
        if found and all(each.unavailable for each in found):
            return [f"for an administrator: {error.remedy}"]
        helps = [_later(error.data.get("retry_in")), self._patience(wish)]
        if wish.ctx is not None and found:
            helps.append("ask for a smaller num_ctx")
        if (other := _that_fits(await self._models.all(), wish.model, found)) is not None:
            helps.append(f"ask for {other}, which fits now")
        return [*helps, *_ended(found), *_configured(error.data)]

    def _patience(self, wish: LeaseWish) -> str:
        """A longer wait, as far as the configuration allows it."""
        if self._wait is None:
            return "wait longer (Prefer: wait=SECONDS)"
        if wish.wait is not None and wish.wait < self._wait:
            return f"wait longer (Prefer: wait=SECONDS, {self._wait:g} at most)"
        return f"have gateway.wait raised, by which no request waits for more than {self._wait:g} s"


def _later(seconds: float | None) -> str:
    return "ask again later" if seconds is None else f"ask again in {max(1, math.ceil(seconds))} s"


def _never_fits(data: Mapping[str, Any], wish: LeaseWish) -> str:
    """A request says a context only in ollama's words; all others have that of the profile."""
    if data.get("fits") is None:
        return "no context would fit: ask for a smaller model"
    fits = data["fits"]["ctx"]
    return (
        f"ask for a num_ctx of {fits}"
        if wish.ctx is not None
        else f"have context_length: {fits} in its profile, which would fit"
    )


def _configured(data: Mapping[str, Any]) -> Iterator[str]:
    """The changes of the configuration that would help."""
    for each in data.get("would_help", ()):
        yield each if each.startswith("have ") else f"have an administrator {each}"


def _ended(found: Sequence[ShortfallInfo]) -> Iterator[str]:
    """The end of what holds the bytes that are needed, and does not end by itself already."""
    holders = [h for each in found for h in each.holders if h.phase in ("starting", "ready")]
    if names := list(dict.fromkeys(h.name for h in holders)):
        yield f"have an administrator end {several(names)}"


def _that_fits(models: Sequence[ModelInfo], asked: str, found: Sequence[ShortfallInfo]) -> str | None:
    """The largest model for the same tasks that has room now, of what is known to be free."""
    mine = next((model for model in models if model.model == asked), None)
    wanted = _TASKS & set(mine.capabilities if mine else ())
    fitting = [
        model
        for model in models
        if model.model != asked and model.problem is None and wanted <= set(model.capabilities) and _fits(model, found)
    ]
    return max(fitting, key=lambda model: sum(model.bytes.values())).model if fitting else None


def _fits(model: ModelInfo, found: Sequence[ShortfallInfo]) -> bool:
    """Whether all devices of a model are known to have its bytes free, and the pools that they draw from."""
    free = {each.device: each.have for each in found if not each.views and each.unavailable is None}
    pools = [(each.have, sum(model.bytes.get(view, 0) for view in each.views)) for each in found if each.views]
    own = bool(model.bytes) and all(need <= free.get(device, -1) for device, need in model.bytes.items())
    return own and all(need <= have for have, need in pools)
