"""What bench/data holds: shapes, and what llama-server printed for them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import synthetic

sys.path.append(str(Path(__file__).parent.parent / "bench"))

from shapes import DATA, shapes

__all__ = ["DATA", "shape"]


def shape(name: str) -> tuple[dict[str, Any], list[synthetic.Shape]]:
    return shapes()[name]
