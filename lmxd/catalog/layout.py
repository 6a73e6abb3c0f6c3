"""The devices of a machine as a launch is placed on them: their kinds, and which of them share a memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Final

from lmxd.core.words import Demand, DeviceId, Option
from lmxd.devices.measurement import HOST, DeviceKind
from lmxd.gguf.launch import Launch

RAM_ID: Final = DeviceId(HOST)
"""The id of RAM in the core's terms."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The kinds of the devices by id, and the pool of each device that draws from one."""

    kinds: Mapping[DeviceId, DeviceKind] = field(default_factory=dict)
    pools: Mapping[DeviceId, DeviceId] = field(default_factory=dict)

    def of_kind(self, kind: DeviceKind) -> list[DeviceId]:
        return [device for device, its in self.kinds.items() if its is kind]

    @property
    def has_ram(self) -> bool:
        """Whether RAM is one of the devices."""
        return RAM_ID in self.kinds

    def goes_to_gpu(self, launch: Launch) -> bool:
        """Whether a launch takes GPU memory: if there is a GPU, unless ``gpu_layers`` is 0 and RAM is configured."""
        return DeviceKind.GPU in self.kinds.values() and not (launch.gpu_layers == 0 and self.has_ram)

    def without(self, gone: Set[DeviceId]) -> Layout:
        """The same without some devices."""
        return Layout({device: kind for device, kind in self.kinds.items() if device not in gone}, self.pools)

    def beside(self, in_ram: int) -> Demand:
        """So many bytes of RAM, and of the pool that it is of; none where RAM is no device."""
        if not in_ram or not self.has_ram:
            return {}
        pool = self.pools.get(RAM_ID)
        return {RAM_ID: in_ram} if pool is None else {RAM_ID: in_ram, pool: in_ram}

    def option(self, on_devices: Mapping[DeviceId, int], in_ram: int | None = None, /, **how: Any) -> Option:
        """The option that takes these bytes, and ``in_ram`` beside them. They are charged to the pools, too.

        Where RAM is no device but is in a pool, the bytes beside are charged to that alone: they are bytes of it.
        """
        demand = dict(on_devices)
        if in_ram is not None and self.has_ram:
            demand[RAM_ID] = in_ram
        pools: Counter[DeviceId] = Counter()
        for device, need in demand.items():
            if device in self.pools:
                pools[self.pools[device]] += need
        if in_ram is not None and not self.has_ram:
            pools.update(dict.fromkeys(self.of_kind(DeviceKind.POOL), in_ram))
        return Option(demand={**demand, **pools}, pools=tuple(pools), **how)
