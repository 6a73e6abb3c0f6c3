"""The ways in which a model could be divided between a GPU and RAM, with bytes, speed, and whether there is room."""

from __future__ import annotations

from dataclasses import replace

from lmxd.catalog.layout import RAM_ID, Layout
from lmxd.catalog.resolved import Resolved
from lmxd.core.books.state import State
from lmxd.core.policy.fit import fit
from lmxd.core.words import Ask, DeviceId, Option
from lmxd.devices.measurement import DeviceKind
from lmxd.gguf.offload import divided
from lmxd.rpc.books import FitInfo
from lmxd.rpc.explanations import ChoiceInfo, Planned


def choices(state: State, layout: Layout, resolved: Resolved, ask: Ask, planned: Planned) -> list[ChoiceInfo]:
    """The choices on the GPU that would be used, else on the roomiest; none if the model must not be divided."""
    gpus = layout.of_kind(DeviceKind.GPU)
    mine = [gpu for gpu in gpus if gpu in planned.devices] or gpus
    if not (ask.spills and mine):
        return []
    gpu = max(mine, key=lambda gpu: state.ledger.accounts[gpu].free)
    ways = resolved.offloads()
    fastest = resolved.sizing.reads(resolved.launch).cost
    options = {o.spills: o for o in ask.options if set(o.devices) - {RAM_ID} == {gpu}}

    def choice(n: int, option: Option) -> ChoiceInfo:
        way = ways[n]
        launch = divided(resolved.launch, way.layers, way.in_ram)
        found = fit(state, replace(ask, options=(option,)))
        return ChoiceInfo(
            devices={gpu: option.devices[gpu]},
            ram=_in_ram(resolved, option, gpu),
            gpu_layers=way.layers,
            experts_in_ram=way.experts,
            whole=way.whole,
            speed=round(fastest / max(1, resolved.sizing.reads(launch).cost), 2),
            fit=FitInfo(when=found.when.value, ends=list(found.ends)),
            chosen=option.devices == planned.devices,
        )

    return [choice(n, option) for n, option in sorted(options.items())]


def _in_ram(resolved: Resolved, option: Option, gpu: DeviceId) -> int:
    """The bytes in RAM, also where RAM is not counted."""
    if RAM_ID in option.devices:
        return option.devices[RAM_ID]
    return resolved.sizing.charge(resolved.placed(option), (gpu,))[1]
