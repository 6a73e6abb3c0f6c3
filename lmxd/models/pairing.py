"""Projectors and the models that they are for: told by the lengths in their headers, and by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lmxd.gguf.split import part_number
from lmxd.models.quants import is_model_file, is_partial, quant_of, stem_of
from lmxd.models.roles import FileFacts, Role, facts_of

MOST_PROJECTORS: Final = 100
"""Projectors beside models, or in a repository, of which the one of each is looked for: it takes time for each two."""
_GENERIC: Final = re.compile(r"mmproj|projector|(?<![a-z])model(?![a-z])|[^a-z0-9]")
"""Parts of a projector's name that do not say whose it is."""


def core(path: Path) -> str:
    """The letters and digits of a file's name that are the model's: without quantization, and what any may have."""
    stem = stem_of(path.name).lower()
    quant = (quant_of(path.name) or "").lower()
    return _GENERIC.sub("", stem.replace(quant, "") if quant else stem)


def projectors_of(model: Path, models: Sequence[Path], projectors: Sequence[Path]) -> list[Path]:
    """The projectors that a model may have, of those beside it, the best of each; one, unless nobody can tell.

    Those whose name is in the model's go before those that are called like none, and these before what is beside a
    model that is there alone.
    """
    width = facts_of(model).widths
    fitting = [path for path in projectors if not (width and facts_of(path).widths) or width & facts_of(path).widths]
    own = core(model)
    named = [path for path in fitting if core(path) and core(path) in own]
    longest = max((len(core(path)) for path in named), default=0)
    found = [path for path in named if len(core(path)) == longest] or [path for path in fitting if not core(path)]
    if not found and len({core(path) for path in models}) == 1:
        found = fitting
    groups: dict[str, list[Path]] = {}
    for path in found:
        groups.setdefault(core(path), []).append(path)
    return [best(group) for group in groups.values()]


def best(projectors: Sequence[Path]) -> Path:
    """The one that most have: F16, else the first."""
    halves = [path for path in projectors if quant_of(path.name) in ("F16", "FP16")]
    return [*halves, *projectors][0]


def best_name(model: str, projectors: Sequence[str]) -> str | None:
    """The projector of a repository for one of its models, by their names; None if there is none.

    Those in the model's own directory go before those above, which a repository has for all of its models.
    """
    own = Path(model)
    beside = [path for path in map(Path, projectors) if path.parent == own.parent]
    above = [path for path in map(Path, projectors) if path.parent in own.parent.parents]
    near = beside or above
    named = [path for path in near if core(path) and core(path) in core(own)]
    longest = max((len(core(path)) for path in named), default=0)
    found = [path for path in named if len(core(path)) == longest] or near
    return str(best(found)) if found else None


def is_whole_file(path: Path) -> bool:
    """Whether it is the file of a model, fetched to its end."""
    return is_model_file(path.name) and not is_partial(path.name) and path.is_file()


def projectors_above(directory: Path) -> list[Path]:
    """Projectors in the directory above: quantizations may have directories of their own."""
    try:
        above = sorted(path for path in directory.parent.iterdir() if is_model_file(path.name))
    except OSError:
        return []
    return [path for path in above if part_facts(path).role is Role.PROJECTOR]


def part_facts(path: Path) -> FileFacts:
    """The facts of a file. Parts of a model but for the first say nothing of it."""
    part = part_number(path.name)
    return facts_of(path) if part is None or part[0] == 1 else FileFacts(role=Role.MODEL)
