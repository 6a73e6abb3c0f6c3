"""Cards and heartbeats of nodes, short to write."""

from __future__ import annotations

from collections.abc import Mapping

from lmxd.fleet.reports import DeviceRoom, Heartbeat, NodeCard, Offered, Running, UserUse

GIB = 2**30


def card(node: str, models: Mapping[str, float], *, slots: int = 2, ctx: int = 4096, load: float = 5.0) -> NodeCard:
    """``models``: GiB that a new instance takes, by name; 0: nobody knows."""
    return NodeCard(
        node=node,
        address=f"{node}:8443",
        version="1",
        started="s",
        models=tuple(
            Offered(
                model=model,
                slots=slots,
                ctx=ctx,
                load=load,
                needs={"gpu": int(gib * GIB)} if gib else {},
            )
            for model, gib in models.items()
        ),
    )


def beat(
    node: str,
    number: int,
    sent: float,
    *,
    started: str = "s",
    free: float = 0,
    idle: float = 0,
    vacant: Mapping[str, int] | None = None,
    loading: Mapping[str, int] | None = None,
    waiting: int = 0,
    eta: float = 0.0,
    draining: bool = False,
    users: Mapping[str, UserUse] | None = None,
) -> Heartbeat:
    """A node with one card of 24 GiB. ``free``, ``idle``: GiB. ``vacant``, ``loading``: slots by model."""
    ready = [Running(model=m, slots=4, vacant=n) for m, n in (vacant or {}).items()]
    coming = [Running(model=m, slots=4, vacant=n, loading=True) for m, n in (loading or {}).items()]
    return Heartbeat(
        node=node,
        started=started,
        number=number,
        sent=sent,
        rooms=(DeviceRoom(device="gpu", capacity=24 * GIB, free=int(free * GIB), idle=int(idle * GIB)),),
        running=(*ready, *coming),
        waiting=waiting,
        eta=eta,
        draining=draining,
        users=dict(users or {}),
    )
