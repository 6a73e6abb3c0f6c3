"""The directories of machines that are played: written, or copied from a sample of one.

A sample has ``sys`` and ``proc`` of a machine, ``nvml.json`` and ``ioctl.json`` with what its drivers answer, and the
targets of /proc/PID/fd/N in ``proc/PID/fd.links/N``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from drm_trees import GIB, Machine

from play.machines import MACHINES


def build(name: str, root: Path) -> Path:
    """Write the files of a machine by its name, or copy those of the sample in a directory."""
    machine = Machine(root)
    if name in MACHINES:
        (root / "proc/self/ns").mkdir(parents=True)
        (root / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
        (root / "sys/class/drm").mkdir(parents=True, exist_ok=True)
        MACHINES[name](machine)
        return root
    shutil.rmtree(root)
    shutil.copytree(name, root)
    for links in root.glob("proc/*/fd.links"):
        (links.parent / "fd").mkdir()
        for link in links.iterdir():
            (links.parent / "fd" / link.name).symlink_to(link.read_text().strip())
    if not (root / "proc/meminfo").exists():
        machine.write("proc/meminfo", f"MemTotal: {64 * GIB // 1024} kB\nMemAvailable: {60 * GIB // 1024} kB")
    said = root / "ioctl.json"
    if said.exists():
        said.write_text(json.dumps(_of_sample(json.loads(said.read_text()), root)))
    return root


def _of_sample(said: dict[str, Any], root: Path) -> dict[str, Any]:
    (answers,) = said.values()
    regions = [
        [
            int(r["class"] in ("device", "vram")),
            r.get("total", r.get("probed")),
            r.get("used", r.get("probed", 0) - r.get("unallocated", 0)),
        ]
        for r in answers["with_cap_perfmon"]
    ]
    nodes = sorted(path.name for path in root.glob("sys/class/drm/renderD*"))
    for node in nodes:
        place = root / "dev/dri" / node
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    found = dict.fromkeys(nodes[-1:], regions) | dict.fromkeys(nodes[:-1], regions[:1])
    return {"perfmon": True, "regions": found}
