"""The growth of each request of an elastic model, by how that divides its cache."""

from __future__ import annotations

from collections.abc import Callable

from lmxd.gateway.answers.continuation import likely_goes_on
from lmxd.gateway.growing import RequestGrowth
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.leases import Leases, LeaseWish
from lmxd.gateway.leasing.progress import RequestProgress
from lmxd.gateway.requests.bound import bound_beside
from lmxd.gateway.requests.need import need_of
from lmxd.gateway.shared_growth import SharedGrowth
from lmxd.rpc.books import ModelInfo


def as_alone(model: ModelInfo, call: UpstreamCall) -> UpstreamCall:
    """A call as it is sent without a growth: what it wants of one cache at the same time has room in that."""
    if model.elastic is None or not model.elastic.unified:
        return call
    return bound_beside(call, model.slots * model.elastic.steps[0], model.slots)


def growth_of(
    leases: Leases,
    model: ModelInfo,
    call: UpstreamCall,
    wish: LeaseWish,
    told: Callable[[RequestProgress], None],
    met_wall: Callable[[str], None],
) -> RequestGrowth | None:
    """The growth of a request that may need it; None for another. ``told`` and ``met_wall``: as ``RequestGrowth``."""
    if model.elastic is None or (need := need_of(call)) is None:
        return None
    if not model.elastic.unified:
        return RequestGrowth(leases, model.elastic, need, wish.wait, told, met_wall)
    if need.answers is None or need.answers > len(model.elastic.steps):
        return None  # nobody can say how much it takes
    goes_on = likely_goes_on(call) and "thinking" not in model.capabilities
    return SharedGrowth(leases, model.elastic, need, wish.wait, told, met_wall, goes_on=goes_on)
