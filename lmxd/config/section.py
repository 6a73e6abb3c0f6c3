"""The base of all parts of the configuration. Gigabytes are GiB (2**30 bytes) here only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from lmxd.config.values import filled

GIB: Final = 2**30
Gigabytes = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]


def _usable(value: Path) -> Path:
    """A path that can be asked for. ~ stays in it: it stands for the home of whoever reads it."""
    if "\0" in str(value):
        raise ValueError("there is a character in it that no path has")
    try:
        value.expanduser()
    except RuntimeError as error:
        raise ValueError("~NAME stands for a user's home, but there is no such user") from error
    return value


UsablePath = Annotated[Path, BeforeValidator(filled, json_schema_input_type=Path), AfterValidator(_usable)]
"""In which ``${env.NAME}`` stands for a variable of the environment."""


class Section(BaseModel):
    """One part of the configuration. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def on_off(value: object) -> object:
    """YAML reads a bare on or off as a boolean."""
    return ("on" if value else "off") if isinstance(value, bool) else value
