"""Messages of ``shelve``, by which conversations take turns in one slot without being processed anew."""

from __future__ import annotations

from pydantic import Field

from lmxd.rpc.messages import LeaseParams, Result


class ShelveParams(LeaseParams):
    """The lease at whose instance another conversation is to have a slot."""

    slot: int = Field(ge=0, le=255, description="the slot, which no request of its holder uses just now")
    keep: bool = Field(True, description="false: what it has is not wanted any more")
    back: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{32}$",
        description="the name of what is to be read into it, as this connection was told it; read or not, it is gone",
    )


class Shelved(Result):
    """The outcome. What is neither kept nor back costs nothing but time: a request has its whole conversation."""

    kept: str | None = Field(None, description="the name of what the slot had; null: it is not kept")
    back: bool = Field(False, description="what was named lies in the slot")
