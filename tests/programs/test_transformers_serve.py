"""transformers serve itself: it insists on a name of its own, and answers by a third one."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from programs.conftest import Opened, recipe

ASKED: Any = [{"role": "user", "content": "hi"}]


@pytest.mark.timeout(400)
def test_it_is_asked_by_its_own_name_and_answers_by_the_clients(opened: Opened) -> None:
    assert recipe("smollm")["upstream_name"] in recipe("smollm")["command"]
    with opened({"smollm": "chat"}) as gateway:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, timeout=300) as client:
            whole = client.chat.completions.create(model="smollm", messages=ASKED, max_tokens=8, temperature=0)
            stream = client.chat.completions.create(
                model="smollm", messages=ASKED, max_tokens=8, temperature=0, stream=True
            )
            chunks = list(stream)
            text = client.completions.create(model="smollm", prompt="hi", max_tokens=4)
        assert (whole.model, whole.choices[0].finish_reason) == ("smollm", "length")
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 8
        assert {chunk.model for chunk in chunks} == {"smollm"}
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
        assert text.model == "smollm"
        [instance] = gateway.lmxd.instances().values()
        refused = httpx.post(
            f"{instance.endpoint}/v1/chat/completions", json={"model": "smollm", "messages": ASKED}, timeout=60
        )
        assert refused.status_code == 400
        assert "pinned" in refused.text
        key = {"Authorization": f"Bearer {gateway.key}"}
        for path in ("load_model", "reset"):
            shut = httpx.post(f"{gateway.url}/upstream/smollm/{path}", json={"model": "smollm"}, headers=key)
            assert shut.status_code == 403
