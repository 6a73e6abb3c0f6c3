"""The bytes of a device by instance: as its processes tell, else by what is known of it otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Set

from lmxd.core.books.accounts import Account
from lmxd.core.words import InstanceId, Taken
from lmxd.devices.measurement import Measurement


def taken(
    found: Measurement, pids: Mapping[InstanceId, Set[int]], ready: Set[InstanceId], account: Account | None
) -> dict[InstanceId, Taken | None] | None:
    """Bytes by instance; None of one that is ready and not told from others: it then counts with its promised bytes.

    An instance that is not among the processes has no bytes, unless these are named as in another namespace, or are
    not told apart at all. One that loads then has what the device has grown by.
    """
    known: dict[InstanceId, Taken | None] = {}
    for instance, mine in pids.items():
        uses = [found.processes[pid] for pid in mine if pid in found.processes] if found.processes else []
        if uses:
            known[instance] = Taken(total=sum(u.total for u in uses), visible=sum(u.visible for u in uses))
    if found.processes is not None and not found.partial:
        return known
    known |= {instance: None for instance in ready if instance not in known}
    return known if account is None else known | _grown(found.used, known, account)


def _grown(used: int, known: Mapping[InstanceId, Taken | None], account: Account) -> dict[InstanceId, Taken | None]:
    """The bytes of instances that load, and of holds: those in use beyond what others have, and had before.

    At the first look after a start nothing has grown: some of what is in use then may be of a hold that was taken
    over, but none of it is known to be, and to credit it would promise foreign bytes.
    """
    foreign = account.foreign if account.is_known else used
    rest, loading = used - foreign, dict[InstanceId, int]()
    for instance, r in account.reservations.items():
        if r.exited_at is not None:
            rest -= r.visible or 0
        elif instance in known:
            mine = known[instance]
            rest -= r.promised if mine is None else mine.visible
        else:
            loading[instance] = r.promised
    grown: dict[InstanceId, Taken | None] = {}
    for instance, promised in loading.items():
        size = max(0, min(promised, rest))
        grown[instance] = Taken(total=size, visible=size)
        rest -= size
    return grown
