"""The owners of a device's bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set

from lmxd.core.books.accounts import Account
from lmxd.core.books.state import State
from lmxd.daemon.answering import device_views, views
from lmxd.daemon.launching.performer import Performer
from lmxd.daemon.readings import device_id
from lmxd.devices import processes
from lmxd.devices.host import HostProbe
from lmxd.devices.measurement import DeviceKind, Measurement
from lmxd.errors import LmxdError
from lmxd.rpc.owners import OwnerInfo, ProcessInfo, Why
from lmxd.text import device_name, short_id

LARGEST = 20
"""The most foreign processes that are named, the largest first: a screenful."""


def find(measured: Sequence[Measurement], wanted: str) -> Measurement:
    """The one device that ``wanted`` names. LmxdError if there is none, or more than one."""
    found = [x for x in measured if wanted in (x.id, x.ref, x.pci, device_name(x.id, x.ref))]
    found = found or [x for x in measured if x.id.startswith(wanted)]
    if len(found) != 1:
        which = "there is none of that name" if not found else "it begins the names of " + names(found)
        raise LmxdError("invalid_params", f"device is {wanted!r}, but {which}", f"name one of {names(measured)}")
    return found[0]


def names(measured: Sequence[Measurement]) -> str:
    return ", ".join(short_id(x.id) if x.ref == x.id else f"{x.ref} ({short_id(x.id)})" for x in measured) or "none"


def foreign(measured: Sequence[Measurement], ours: Set[int]) -> list[list[ProcessInfo]]:
    """By device, its largest processes whose pids are not ``ours``. It reads files: not for the loop's thread."""
    everybody: Counter[int] = Counter()
    if any(found.kind is not DeviceKind.GPU for found in measured):  # of RAM, readings are of our own processes only
        (ram,) = HostProbe().measure(processes.pids())
        everybody.update({pid: use.visible for pid, use in (ram.processes or {}).items()})
    return [_largest(x, Counter() if x.kind is DeviceKind.GPU else everybody, ours) for x in measured]


def _largest(found: Measurement, everybody: Counter[int], ours: Set[int]) -> list[ProcessInfo]:
    using = Counter({pid: use.visible for pid, use in (found.processes or {}).items()}) + everybody
    others = sorted(((size, pid) for pid, size in using.items() if size and pid not in ours), reverse=True)
    return [ProcessInfo(pid=pid, name=processes.name(pid), bytes=size) for size, pid in others[:LARGEST]]


def why(state: State, performer: Performer, found: Measurement, foreign: list[ProcessInfo]) -> Why:
    """Instances, foreign processes and bytes that are kept back, on one device."""
    (device,) = device_views.devices(state, [found])
    account = state.ledger.accounts.get(device_id(found), Account(device=device_id(found)))
    return Why(
        device=device,
        instances=sorted(_instances(state, account, performer), key=lambda x: -x.bytes),
        processes=foreign,
        withheld=account.withheld,
        called=state.ledger.called,
    )


def _instances(state: State, account: Account, performer: Performer) -> list[OwnerInfo]:
    owners = []
    for instance, r in account.reservations.items():
        owners.append(
            OwnerInfo(
                instance=instance,
                bytes=r.charge,
                promised=r.promised,
                measured=r.measured,
                pid=performer.pid(instance),
                swap=views.swap(state, state.instances[instance]),
                exited=r.exited_at is not None,
            )
        )
    return owners
