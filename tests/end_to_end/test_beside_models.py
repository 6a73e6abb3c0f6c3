"""Files beside a model, on a real llama-server: what a profile names is loaded, counted and used."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import vision
from adapters import adapter
from lmxd_process import Lmxd, get_over, post

MIB = 2**20
EMBEDDING = 576
"""Of SmolLM2-135M."""
Make = Callable[..., Lmxd]


def picture(colour: tuple[int, int, int]) -> dict[str, object]:
    url = "data:image/png;base64," + base64.b64encode(vision.picture(colour)).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def test_a_projector_lets_a_model_see(lmxd: Make, tmp_path: Path) -> None:
    beside = vision.projector(tmp_path / "mmproj.gguf", EMBEDDING)
    with lmxd(profile={"mmproj": str(beside)}) as running, running.client() as client:
        assert client.estimate("smollm2").host["projector"] > beside.stat().st_size
        lease = client.request("smollm2")
        text = {"type": "text", "text": "What is it?"}
        said = {}
        for name, parts in {
            "blind": [text],
            "red": [text, picture((255, 0, 0))],
            "blue": [text, picture((0, 0, 255))],
        }.items():
            body = {"messages": [{"role": "user", "content": parts}], "max_tokens": 4, "temperature": 0}
            said[name] = post(lease, "/v1/chat/completions", body)["usage"]["prompt_tokens"]
        assert said["red"] == said["blue"] > said["blind"] + 10, "the picture's tokens are in the prompt"


def test_adapters_have_their_scales_and_their_order(lmxd: Make, tmp_path: Path) -> None:
    one, two = (adapter(tmp_path / f"{name}.gguf", EMBEDDING) for name in ("one", "two"))
    lora = [str(one), {"path": str(two), "scale": 0.5}]
    with lmxd(profile={"lora": lora}) as running, running.client() as client:
        assert client.estimate("smollm2").host["adapter"] > 0
        lease = client.request("smollm2")
        assert lease.socket is not None
        found = json.loads(get_over(str(lease.socket), "/lora-adapters", lease.api_key))
        assert [(Path(x["path"]).name, x["scale"]) for x in found] == [("one.gguf", 1.0), ("two.gguf", 0.5)]


def test_a_draft_proposes_tokens(lmxd: Make, smollm2: Path) -> None:
    gpu = {"device": "host", "max_memory_gb": 1}
    with lmxd(profile={"draft": {"path": str(smollm2), "tokens": 4}}, gpu=gpu) as running, running.client() as client:
        parts = client.estimate("smollm2").host
        assert parts["weights"] > 1.9 * smollm2.stat().st_size
        lease = client.request("smollm2")
        body = {"prompt": "One, two, three,", "n_predict": 24, "temperature": 0}
        assert post(lease, "/completion", body)["timings"]["draft_n_accepted"] > 0


def test_a_model_in_a_directory_sees_by_what_lies_beside_it(lmxd: Make, tmp_path: Path, smollm2: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    (served / "seer-Q4_1.gguf").symlink_to(smollm2)
    vision.projector(served / "mmproj-seer-f16.gguf", EMBEDDING)
    places = {"models_from": [str(served)], "model_dirs": [str(smollm2.parent)]}
    with lmxd(models={}, **places) as running, running.client() as client:
        (listed,) = client.models().models
        assert (listed.model, listed.traits, listed.media) == ("seer-Q4_1", ["vision"], ["image"])
        lease = client.request("seer-Q4_1")
        parts = [{"type": "text", "text": "What is it?"}, picture((255, 0, 0))]
        body = {"messages": [{"role": "user", "content": parts}], "max_tokens": 2}
        assert post(lease, "/v1/chat/completions", body)["usage"]["prompt_tokens"] > 16
