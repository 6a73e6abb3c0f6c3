"""``python program.py MACHINE lmxd|lmxctl [WORD...]``: a program of lmxd that sees the devices of another machine.

MACHINE is a directory as device-samples have them: sys, proc and dev in place of the kernel's, nvml.json with NVML's
answers, and ioctl.json with what xe and i915 say of each render node.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from drm_trees import Drivers

from lmxd.devices.drm import ioctls
from lmxd.devices.roots import Roots
from play.nvml import PlayedNvml


def play(machine: Path) -> None:
    """Put a machine in place of this one. To be called before the rest of lmxd is imported."""
    sys.modules["pynvml"] = PlayedNvml(machine / "nvml.json")  # type: ignore[assignment]
    Roots.__init__.__kwdefaults__ = {name: machine / name for name in ("sys", "proc", "dev")}
    said = machine / "ioctl.json"
    if said.exists():
        answers = json.loads(said.read_text())
        regions = {node: [tuple(region) for region in found] for node, found in answers["regions"].items()}
        ioctls.kernel_ioctl = Drivers(regions, perfmon=answers["perfmon"])


def main() -> None:
    machine, program, *words = sys.argv[1:]
    play(Path(machine))
    sys.argv = [program, *words]
    if program == "lmxd":
        from lmxd.__main__ import main as run
    else:
        from lmxd.cli.main import main as run
    run()


if __name__ == "__main__":
    main()
