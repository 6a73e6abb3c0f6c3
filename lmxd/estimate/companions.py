"""The files that go with a model: a projector for images or sound, adapters, a draft model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from lmxd.errors import LmxdError
from lmxd.estimate.extras import Extras, image_bytes, projector_bytes
from lmxd.estimate.files import FileMemory, FileVersion, identity, read_file, read_model
from lmxd.gguf.facts import beside_key
from lmxd.gguf.header import Tensor
from lmxd.gguf.launch import Launch

Identity: TypeAlias = tuple[FileVersion, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """A LoRA adapter. ``scale``: how much of it is added, 1 for all."""

    path: Path
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftModel:
    """A model that proposes tokens. It has the target's context, slots and batches, and these settings of its own.

    ``gpu_layers`` None means all.
    """

    path: Path
    gpu_layers: int | None = None
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"

    def launch(self, target: Launch) -> Launch:
        """The launch of the draft beside the target's."""
        return Launch(
            context=target.context,
            slots=target.slots,
            unified=target.unified,
            cache_type_k=self.cache_type_k,
            cache_type_v=self.cache_type_v,
            ubatch=target.ubatch,
            batch=target.batch,
            flash=target.flash,
            gpu_layers=self.gpu_layers,
            repack=target.repack,
            mmap=target.mmap,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Companions:
    """The files that go with a model. ``adapters`` are in the order in which the engine gets them."""

    projector: Path | None = None
    projector_on_device: bool = True
    adapters: tuple[Adapter, ...] = ()
    draft: DraftModel | None = None

    def extras(self, launch: Launch) -> Extras:
        """Their part in the estimate of a launch. LmxdError as for ``read_model``."""
        projector, image = (0, 0) if self.projector is None else _projectors.of(self.projector)
        extras = Extras(
            projector=projector,
            image=image,
            projector_on_device=self.projector_on_device,
            adapters=tuple(tensor for adapter in self.adapters for tensor in _adapters.of(adapter.path)),
        )
        if self.draft is None:
            return extras
        return replace(extras, draft=read_model(self.draft.path), draft_launch=self.draft.launch(launch))

    def identity(self) -> Identity:
        """Tells these files from others, and from themselves before a change. LmxdError ``model_file_missing``."""
        return tuple(map(identity, self.files()))

    def files(self) -> tuple[Path, ...]:
        """The files, all of which the engine reads."""
        return tuple(path for _, path in self.uses())

    def uses(self) -> Iterator[tuple[str, Path]]:
        """Each file by the key of a profile that names it."""
        if self.projector is not None:
            yield "mmproj", self.projector
        yield from (("lora", adapter.path) for adapter in self.adapters)
        if self.draft is not None:
            yield "draft", self.draft.path

    def are_read(self) -> bool:
        """Whether ``extras`` takes no time. LmxdError ``model_file_missing``."""
        projector = self.projector is None or _projectors.has(self.projector)
        return projector and all(_adapters.has(adapter.path) for adapter in self.adapters)


ALONE = Companions()
"""The companions of a model that nothing goes with."""


def _projector(path: Path) -> tuple[int, int]:
    header = read_file(path)
    if beside_key(header.metadata) != "mmproj":
        raise _other(path, "projector", "mmproj: name the mmproj file that was made for this model")
    return projector_bytes(header), image_bytes(header)


def _tensors(path: Path) -> tuple[Tensor, ...]:
    header = read_file(path)
    if beside_key(header.metadata) != "lora":
        raise _other(path, "adapter", "lora: name a GGUF file of a LoRA (convert_lora_to_gguf.py makes one)")
    return header.tensors


def _other(path: Path, wanted: str, remedy: str) -> LmxdError:
    return LmxdError("bad_model_file", f"{path} is no {wanted}, as its header says", remedy)


_projectors, _adapters = FileMemory(_projector), FileMemory(_tensors)
