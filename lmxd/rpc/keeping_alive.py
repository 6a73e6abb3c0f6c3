"""Messages about how long the instances of a model stay once nobody uses them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lmxd.rpc.messages import Params, Result


class KeepAliveParams(Params):
    """The model whose instances end sooner or later."""

    model: str
    seconds: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] | None = Field(
        None, description="after the last lease, and at most its idle_timeout; by default as its profile says"
    )
    user: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._@+-]{1,64}$",
        description="the key that it is for, where one process asks for several (the gateway, administrators)",
    )


class KeptAlive(Result):
    """The instances that were told. They end when they are idle; one that is pinned stays."""

    instances: list[str]
