"""Profiles of vLLM that sleep, served by the fake one, and a card that has what these say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from devices.fake_nvml import Card, FakeNvml
from hf_directory import LLAMA, hf_directory, llama_tensors
from house import card, fake_vllm

DEVICES = {"devices": [{"device": 0}, {"device": "host", "max_memory_gb": 4, "margin_gb": 0}]}
"""The card, with room for one, beside RAM for the weights."""


def sleepy(directory: Path, name: str, **play: Any) -> dict[str, Any]:
    """A model of 16 GiB that sleeps, and how its engine is to behave: by default it leaves 0.5 GiB."""
    path = hf_directory(directory / name, LLAMA, llama_tensors())
    (path / "play.json").write_text(json.dumps({"card_gb": 16, "asleep_gb": 0.5} | play))
    program = str(fake_vllm(directory, "0.32.0"))
    return {"engine": "vllm", "program": program, "path": str(path), "estimated_memory_gb": 16, "sleep": True}


def sleepy_card(directory: Path) -> FakeNvml:
    """A card of 24 GiB on which each engine that lives has what it wrote down beside its model."""
    nvml = FakeNvml(card(24))

    def seen(call: str, which: Card | None) -> None:
        found = {int(file.name.removeprefix("card-")): file for file in directory.glob("*/card-*[0-9]")}
        nvml.cards[0].processes = {pid: int(x.read_text()) for pid, x in found.items() if is_alive(pid)}

    nvml.random = seen
    return nvml


def is_alive(pid: int) -> bool:
    """Whether a process has not ended: one that nobody has asked for its status holds nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
