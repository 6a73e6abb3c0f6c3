"""Formats of answers, told so that llama-server heeds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.front import opened
from gateway.test_serving import house
from lmxd.gateway.requests.answer_format import ANY_OBJECT, with_format

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}}
OF_CHAT = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
OF_RESPONSE = {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}


@pytest.mark.parametrize(
    ("path", "said", "told"),
    [
        (CHAT, {"response_format": {"type": "json_object"}}, ANY_OBJECT),
        (CHAT, {"response_format": {"type": "json_object", "schema": SCHEMA}}, None),
        (CHAT, {"response_format": OF_CHAT}, None),
        (CHAT, {"text": {"format": OF_RESPONSE}}, None),
        (RESPONSES, {"text": {"format": OF_RESPONSE}}, OF_CHAT),
        (RESPONSES, {"text": {"format": {"type": "json_object"}}}, ANY_OBJECT),
        (RESPONSES, {"text": {"format": {"type": "text"}}}, None),
        (RESPONSES, {"text": {"format": OF_RESPONSE}, "response_format": OF_CHAT}, None),
        ("/v1/completions", {"response_format": {"type": "json_object"}}, None),
        (CHAT, {"response_format": "json_object"}, None),
        (CHAT, {"response_format": {"type": ["json_object"]}}, None),
    ],
)
def test_a_format_is_told_so_that_it_is_heeded(path: str, said: dict[str, Any], told: dict[str, Any] | None) -> None:
    body = json.dumps({"model": "a", "of_mine": [1, 2]} | said).encode()
    made = with_format(path, body)
    if told is None:
        assert made is body
    else:
        assert json.loads(made) == {"model": "a", "of_mine": [1, 2], **said, "response_format": told}


@given(path=st.sampled_from([CHAT, RESPONSES]), body=st.binary(max_size=60))
def test_a_body_that_cannot_be_read_is_left_to_the_engine(path: str, body: bytes) -> None:
    said = b'{"response_format": {"type": "json_object"}, "x": ' + body
    made = with_format(path, said)
    if made is not said:
        assert path == CHAT
        assert json.loads(made)["response_format"] == ANY_OBJECT


async def test_an_engine_is_told_by_every_spelling_of_the_path(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        for path in (CHAT, "/chat/completions", "/v1//chat/completions/", f"/upstream/a{CHAT}?x=1"):
            answer = await front.ask(path, {"model": "a", "response_format": {"type": "json_object"}})
            assert json.loads(answer.text)["asked"]["response_format"] == ANY_OBJECT
