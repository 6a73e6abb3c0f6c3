"""The base of all parts of the configuration. Gigabytes are GiB (2**30 bytes) here only."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

GIB: Final = 2**30
Gigabytes = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]


class Section(BaseModel):
    """One part of the configuration. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def on_off(value: object) -> object:
    """YAML reads a bare on or off as a boolean."""
    return ("on" if value else "off") if isinstance(value, bool) else value
