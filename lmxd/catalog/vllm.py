"""The sizing of vLLM: weights by the files' headers, the cache by what it is told, the rest as it was learned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

from lmxd.catalog.size import Size, launch_at
from lmxd.catalog.whole import OF_PYTHON, WholeSizing
from lmxd.config.profile import Profile
from lmxd.config.section import GIB
from lmxd.core.words import DeviceId
from lmxd.engines.vllm.launch import batched, served_launch
from lmxd.errors import LmxdError
from lmxd.estimate.directories import is_read, read_context, read_directory, stored_bytes
from lmxd.estimate.footprints import DEFAULT_CONTEXT, Estimate
from lmxd.estimate.learned import Card
from lmxd.estimate.rests import KnownRests, Rest
from lmxd.estimate.served import estimate_served, inputs_of, rest_key
from lmxd.gguf.launch import Launch
from lmxd.safetensors.model import HfModel
from lmxd.safetensors.serving import ServedLaunch, is_weighed

_BESIDE: Final = 2 * GIB
"""Bytes beside weights and cache of a declared size, where no formula says what the cache takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VllmSizing(WholeSizing):
    """The sizing of a profile that vLLM runs.

    ``found``: its directory, or why it cannot be used. ``version``: of vLLM. ``cards``: GPUs by id; one that is not
    among them counts as ``unknown``.
    """

    command: ClassVar[tuple[str, ...]] = ()
    measures: ClassVar = False
    begun: ClassVar = OF_PYTHON
    shrinks: ClassVar = True
    name: str
    profile: Profile
    found: Path | LmxdError
    version: str
    cards: Mapping[DeviceId, Card]
    unknown: Card
    rests: KnownRests

    @property
    def shares(self) -> int:
        return self.profile.gpus

    def file(self) -> Path | None:
        return self._path

    def told(self) -> Path | None:
        return self._path

    @property
    def _path(self) -> Path:
        if isinstance(self.found, LmxdError):
            raise self.found
        return self.found

    def program(self) -> Path | None:
        return None

    def flags(self, launch: Launch) -> tuple[str, ...]:
        """Its own flags, and the size of a batch, which decides about bytes: by default that follows from the card."""
        own = self.profile.engine_flags
        return (*own, *batched(own, launch.slots, self._model(), launch.context))

    def _model(self) -> HfModel | None:
        """The model in the directory; None if it cannot be read: ``charge`` raises the error."""
        with suppress(LmxdError):
            return read_directory(self._path)
        return None

    def context(self, said: int | None) -> int:
        return longest_or(said, self.found)

    def kv_bytes(self, launch: Launch, gpus: Sequence[DeviceId]) -> int:
        try:
            return self.estimate(launch, gpus).parts.device_or_host.kv
        except LmxdError as error:
            if (declared := self._declared()) is None or error.code != "bad_model_file":
                raise
        beside = stored_bytes(self._path) // max(1, len(gpus)) + _BESIDE
        if declared <= beside:
            need = math.floor(beside / GIB * 100 + 1) / 100
            problem = f"estimated_memory_gb is {declared / GIB:g}, but weights and what vLLM needs are {need:g}"
            raise LmxdError("invalid_params", problem, f"raise models.{self.name}.estimated_memory_gb")
        return declared - beside

    def holding(self, tokens: int) -> VllmSizing | None:
        if not self.profile.kv_tokens:
            return None
        return replace(self, profile=self.profile.model_copy(update={"kv_tokens": tokens}))

    def asleep(self, launch: Launch) -> int:
        """The weights of all GPUs; of a declared size that no formula covers, no more than the files, or all of it."""
        with suppress(LmxdError):
            ranks = (DeviceId(""),) * self.profile.gpus
            return sum(device.weights for device in self.estimate(launch, ranks).parts.devices)
        return stored_bytes(self._path) or (self._declared() or 0) * self.profile.gpus

    def charge(self, launch: Launch, gpus: Sequence[DeviceId]) -> tuple[list[int], int]:
        """The same bytes on each GPU. A declared size is for each GPU, for the profile as configured.

        A request for more than the profile adds what its cache takes more.
        """
        declared = self._declared()
        if declared is None:
            found = self.estimate(launch, gpus)
            return [device.total for device in found.parts.devices], found.host
        kv, usual = self.kv_bytes(launch, gpus), launch_at(Size(), self.profile, self.context)
        with suppress(LmxdError):
            declared += max(0, kv - self.kv_bytes(usual, gpus))
        return ([declared] * len(gpus), 0) if gpus else ([], declared)

    def _declared(self) -> int | None:
        said = self.profile.estimated_memory_gb
        return None if said is None else int(said * GIB)

    def estimate(self, launch: Launch, gpus: Sequence[DeviceId]) -> Estimate:
        served = self._served(launch, len(gpus))
        return estimate_served(self._path, served, self._cards(gpus), self.rests, self.version)

    def _cards(self, gpus: Sequence[DeviceId]) -> tuple[Card, ...]:
        return tuple(self.cards.get(gpu, self.unknown) for gpu in gpus)

    def rest(self, launch: Launch, gpus: Sequence[DeviceId]) -> Rest | None:
        """The part of a launch on ``gpus`` that is learned, as it is promised now; None if its bytes are declared."""
        if self._declared() is not None:
            return None
        part = self.estimate(launch, gpus).parts.device_or_host
        card = self._cards(gpus)[0] if gpus else None
        key = rest_key(self._path, self._served(launch, len(gpus)), card, self.version)
        return Rest(key=key, promised=part.total, exact=part.weights + part.kv)

    def _served(self, launch: Launch, ranks: int) -> ServedLaunch:
        model, profile = self._model(), self.profile
        return served_launch(
            launch.context,
            launch.slots,
            max(profile.kv_tokens, launch.context) if profile.kv_tokens else 0,
            self.flags(launch),
            ranks=ranks,
            latent=model is not None and any(layer.latent for layer in model.kept),
        )

    def inputs(self, launch: Launch) -> dict[str, int | str]:
        with suppress(LmxdError):
            return inputs_of(read_directory(self._path), self._served(launch, self.profile.gpus if self.cards else 0))
        return {}

    def is_warm(self, launch: Launch) -> bool:
        if isinstance(self.found, LmxdError):
            return True
        with suppress(LmxdError):
            return is_read(self.found) and is_weighed(read_directory(self.found), self._served(launch, self.shares))
        return True  # it is known why it cannot be used

    def read(self, launch: Launch) -> None:
        with suppress(LmxdError):
            self.estimate(launch, (DeviceId(""),) * self.shares)  # which kind of card does not matter to the weights

    def warnings(self, launch: Launch, gpus: Sequence[DeviceId]) -> list[str]:
        if self.shares > max(1, len(gpus)):
            return [f"models.{self.name}.gpus is {self.shares}, but there are {len(gpus)} (lower gpus)"]
        try:
            found = self.estimate(launch, gpus[: self.profile.gpus])
        except LmxdError as error:
            if self._declared() is not None and error.data.get("uncovered") is not None:
                return []
            return [f"models.{self.name}: {error}"]
        need, declared = found.parts.device_or_host.total, self.profile.estimated_memory_gb
        if declared is None or declared >= round(need / GIB, 2):
            return []
        return [
            f"models.{self.name}.estimated_memory_gb is {declared:g}, but the estimator finds {need / GIB:.2f} GiB:"
            " a launch may run out of memory"
        ]


def longest_or(said: int | None, found: Path | LmxdError) -> int:
    """The context of a launch that names none, as ``Sizing.context`` says, of a model in a directory."""
    if said:
        return said
    try:
        most = (None if isinstance(found, LmxdError) else read_context(found)) or DEFAULT_CONTEXT
    except LmxdError:
        return DEFAULT_CONTEXT  # ``charge`` raises the error
    return most if said == 0 else min(DEFAULT_CONTEXT, most)
