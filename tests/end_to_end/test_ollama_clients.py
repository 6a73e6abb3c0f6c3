"""ollama's own client against the gateway over a real llama-server: what its users rely on."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
from gateway_process import Gateway
from lmxd_process import Lmxd

HELLO = [{"role": "user", "content": "Say hello."}]
SHORT: Any = {"num_predict": 12, "temperature": 0}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, few_layers: Path) -> Iterator[Gateway]:
    flags = ["--embeddings", "--pooling", "mean"]
    models = {
        "smollm2": {"path": str(few_layers), "context_length": 2048, "aliases": ["gpt-4o"]},
        "embed": {"path": str(few_layers), "context_length": 1024, "engine_flags": flags},
    }
    config = {"gpu": {"device": "host", "max_memory_gb": 2.5}, "models": models}
    with Lmxd(tmp_path_factory.mktemp("ollama"), config) as lmxd, Gateway(lmxd) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> ollama.Client:
    return ollama.Client(host=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"})


def test_json_is_json(client: ollama.Client) -> None:
    """The word json_object is any value to llama-server, of which a bare text is one."""
    said = client.chat(model="smollm2", messages=HELLO, format="json", options={"num_predict": 60, "temperature": 0})
    text = said.message.content or ""
    assert text.lstrip().startswith("{")
    if said.done_reason == "stop":
        assert isinstance(json.loads(text), dict)


def test_options_are_any_numbers_and_levels_of_thought_are_taken(client: ollama.Client) -> None:
    options: Any = {"num_predict": 4.0, "top_k": 40.0, "seed": -1, "repeat_last_n": 64.0, "num_ctx": 1024.0}
    for think in (True, False, "low", "high"):
        said = client.chat(model="gpt-4o:latest", messages=HELLO, options=options, think=think)
        assert said.eval_count == 4
    earlier = [*HELLO, {"role": "assistant", "content": "Hello.", "thinking": "He greets."}, *HELLO]
    assert client.chat(model="smollm2", messages=earlier, options=SHORT).message.content


@pytest.mark.parametrize("more", [{}, {"raw": True}])
def test_probabilities_are_told(client: ollama.Client, more: dict[str, Any]) -> None:
    asked: Any = {"model": "smollm2", "prompt": "One, two,", "logprobs": True, "top_logprobs": 2, "options": SHORT}
    whole = client.generate(**asked, **more)
    assert whole.logprobs
    assert len(whole.logprobs) >= 3
    assert all(x.logprob <= 0 and x.token is not None for x in whole.logprobs)
    assert all(len(x.top_logprobs or ()) == 2 for x in whole.logprobs)
    parts = [x for part in client.generate(**asked, **more, stream=True) for x in part.logprobs or ()]
    assert [x.token for x in parts] == [x.token for x in whole.logprobs]


def test_texts_are_embedded_as_long_as_the_context(client: ollama.Client) -> None:
    found = client.embed(model="embed", input=["word " * 900, "a dog"])
    assert (found.prompt_eval_count or 0) > 900
    assert (found.total_duration or 0) >= (found.load_duration or 0) > 0
    assert [len(x) for x in found.embeddings] == [576, 576]


def test_a_text_that_is_longer_is_cut_or_refused(client: ollama.Client, gateway: Gateway) -> None:
    long = "word " * 3000
    found = client.embed(model="embed", input=[long, "a dog"])
    assert found.embeddings[1] == pytest.approx(client.embed(model="embed", input="a dog").embeddings[0], abs=1e-2)
    with pytest.raises(ollama.ResponseError) as caught:
        client.embed(model="embed", input=long, truncate=False)
    assert caught.value.status_code == 400
    with pytest.raises(openai.BadRequestError):
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key).embeddings.create(model="embed", input=long)


def test_vectors_are_as_long_as_was_asked_and_have_the_length_one(client: ollama.Client) -> None:
    [whole], [short] = (client.embed(model="embed", input="a dog", dimensions=n).embeddings for n in (None, 64))
    assert len(short) == 64
    assert math.fsum(x * x for x in short) == pytest.approx(1, abs=1e-3)
    assert short[0] / short[1] == pytest.approx(whole[0] / whole[1], rel=1e-3)
    old = client.embeddings(model="embed", prompt="a dog").embedding
    assert list(old) == pytest.approx(list(whole), abs=1e-2)
    assert list(client.embeddings(model="embed", prompt="").embedding) == []


def test_a_context_is_never_beyond_what_the_model_was_trained_for(client: ollama.Client) -> None:
    shown = client.show("smollm2")
    assert shown.modelinfo is not None
    trained = shown.modelinfo["llama.context_length"]
    for wanted in (3000, 3500, 4000):
        client.generate(model="smollm2", prompt="One", options={**SHORT, "num_ctx": wanted})
    contexts = sorted(x.context_length or 0 for x in client.ps().models if x.model == "smollm2")
    assert [x for x in contexts if x > 2048] == [4096], "a copy for each value"
    client.generate(model="smollm2", prompt="One", options={**SHORT, "num_ctx": 10**6})
    assert max(x.context_length or 0 for x in client.ps().models) == trained


def test_a_model_is_unloaded(client: ollama.Client) -> None:
    client.generate(model="smollm2", prompt="One", options=SHORT, keep_alive="1h")
    assert client.generate(model="smollm2", keep_alive=0).done_reason == "unload"
    for _ in range(100):
        if "smollm2" not in [x.model for x in client.ps().models]:
            break
        client.list()
    else:
        raise AssertionError("it is there still")


def test_the_client_for_node_does_what_its_users_do(gateway: Gateway, tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("there is no Node here")
    fetched = subprocess.run(
        [npm, "install", "--prefix", str(tmp_path), "--no-audit", "--no-fund", "ollama"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    if fetched.returncode:
        pytest.skip("npm cannot fetch ollama's client here")
    script = Path(__file__).with_name("ollama_client.mjs")
    library = tmp_path / "node_modules" / "ollama" / "dist" / "index.mjs"
    command = [node, str(script), str(library), gateway.url, gateway.key]
    found = json.loads(subprocess.run(command, capture_output=True, timeout=120, check=True).stdout)
    assert found["names"] == ["embed", "smollm2", "gpt-4o"]
    assert found["abilities"] == ["completion"]
    assert found["content"]
    assert found["streamed"] > 1
    assert found["widths"] == [576, 576]
    assert set(found["running"]) >= {"smollm2", "embed"}
    assert (found["pulled"], found["unloaded"]) == ("success", "unload")
    assert found["unknown"].startswith("404 there is no model 'none'")
    assert found["deleted"].startswith("403 smollm2 is as the configuration says")
