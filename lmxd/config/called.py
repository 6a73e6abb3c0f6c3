"""The names that models are asked for by: their own, aliases, and those of their variants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lmxd.config.names import LATEST, RULE, is_name
from lmxd.config.profile import Profile


def tagged(names: Iterable[str], tag: str) -> list[str]:
    """NAME:TAG for each name of a model. ``llama:latest`` is called ``llama`` in that."""
    return list(dict.fromkeys(f"{name.removesuffix(LATEST)}:{tag}" for name in names))


def variant_names(name: str, profile: Profile, tag: str) -> list[str]:
    """The names of a variant: those of its model with its tag, and its own aliases."""
    return list(dict.fromkeys([*tagged((name, *profile.aliases), tag), *profile.variants[tag].aliases]))


def meant(models: Mapping[str, Profile], name: str) -> tuple[str, str | None] | None:
    """(the profile that a name means, the tag of its variant, if it is the name of one); None if it means nothing."""
    if name in models:
        return name, None
    for own, profile in models.items():
        if name in profile.aliases:
            return own, None
        for tag in profile.variants:
            if name in variant_names(own, profile, tag):
                return own, tag
    return None


def wrong_names(models: Mapping[str, Profile]) -> Iterator[str]:
    """A sentence for each alias and each name of a variant that is none, or that is another's."""
    seen = set(models)
    for key, names in _further_names(models):
        for name in names:
            if name in seen:
                yield f"{key}: {name!r} is the name of another"
            elif not is_name(name):
                yield f"{key}: {name!r} is no model name: {RULE}"
            seen.add(name)


def _further_names(models: Mapping[str, Profile]) -> Iterator[tuple[str, list[str]]]:
    """(key, names): first those that are written out."""
    for name, profile in models.items():
        yield f"models.{name}.aliases", list(profile.aliases)
    for name, profile in models.items():
        for tag in profile.variants:
            yield f"models.{name}.variants.{tag}", variant_names(name, profile, tag)
