"""No number makes what is written no JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from lmxd.files import decoded
from lmxd.gateway.board.board import framed
from lmxd.plain_json import encode
from lmxd.rpc import framing

INF = float("inf")
VALUES = st.recursive(st.floats() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))


class Speeds(BaseModel):
    """A message with numbers that may be odd."""

    speed: float
    slots: list[float]


def strict(text: str | bytes) -> Any:
    """As a client's parser reads it, which knows no Infinity."""

    def refuse(name: str) -> float:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


@given(value=VALUES)
def test_all_values_become_json(value: Any) -> None:
    assert encode(strict(encode(value))) == encode(value)


@pytest.mark.parametrize("odd", [INF, -INF, float("nan")])
def test_no_number_breaks_an_answer(odd: float) -> None:
    speeds = Speeds(speed=odd, slots=[1.5, odd])
    assert strict(framing.result(1, framing.of_model(speeds)))["result"] == {"speed": None, "slots": [1.5, None]}
    assert strict(framing.result(1, framing.encoded([odd])))["result"] == [None]
    assert strict(framing.notification("x", {"at": odd}))["params"] == {"at": None}
    assert strict(framed("state", {"speed": odd}).decode().split("data: ")[1]) == {"speed": None}


def test_what_is_nested_too_deeply_is_no_json() -> None:
    assert decoded("[[1]]") == [[1]]
    with pytest.raises(ValueError, match="nested too deeply"):
        decoded("[" * 100_000)


def test_a_call_with_an_endless_id_is_refused() -> None:
    found = framing.understand(b'{"jsonrpc": "2.0", "id": 1e999, "method": "status"}')
    assert found == framing.Malformed(None, framing.INVALID_REQUEST, "id is a string or a number")
