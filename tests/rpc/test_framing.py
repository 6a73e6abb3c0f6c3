"""Frames without I/O."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmxd.rpc import framing
from lmxd.rpc.framing import Call, Framer, FrameTooLong, Malformed, understand


@given(st.lists(st.binary(min_size=1).filter(lambda b: b"\n" not in b and b.strip()), max_size=8), st.data())
def test_lines_come_out_however_the_bytes_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    found: list[bytes] = []
    stream, framer = b"".join(line + b"\n" for line in lines), Framer()
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        framer.feed(stream[:cut])
        found += iter(framer.take, None)
        stream = stream[cut:]
    assert found == lines


def test_a_line_without_end_is_refused() -> None:
    framer = Framer()
    for _ in range(10):
        framer.feed(b"x" * (framing.MAX_FRAME // 10))
        assert framer.take() is None
    framer.feed(b"x" * 100)
    with pytest.raises(FrameTooLong):
        framer.take()


def test_a_call() -> None:
    line = b'{"jsonrpc":"2.0","id":1,"method":"status","params":{}}'
    assert understand(line) == Call(1, "status", {}, True)
    assert understand(b'{"jsonrpc":"2.0","method":"status"}') == Call(None, "status", {}, False)


@pytest.mark.parametrize(
    ("line", "id", "code"),
    [
        (b"hello", None, framing.PARSE_ERROR),
        (b"{", None, framing.PARSE_ERROR),
        (b"\xff\xfe", None, framing.PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"x"}', None, framing.PARSE_ERROR),
        (b"[" * 100_000, None, framing.PARSE_ERROR),
        (b"9" * 5000, None, framing.PARSE_ERROR),
        (b"7", None, framing.INVALID_REQUEST),
        (b"null", None, framing.INVALID_REQUEST),
        (b"[]", None, framing.INVALID_REQUEST),
        (b"{}", None, framing.INVALID_REQUEST),
        (b'{"jsonrpc":"1.0","id":5,"method":"x"}', 5, framing.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":"a","method":7}', "a", framing.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":{},"method":"x"}', None, framing.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":true,"method":"x"}', None, framing.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":6,"method":"x","params":[1]}', 6, framing.INVALID_PARAMS),
        (b'{"jsonrpc":"2.0","id":6,"method":"x","params":null}', 6, framing.INVALID_PARAMS),
    ],
)
def test_malformed_frames_have_the_codes_of_json_rpc(line: bytes, id: framing.Id, code: int) -> None:
    found = understand(line)
    assert isinstance(found, Malformed)
    assert (found.id, found.code) == (id, code)


@given(st.binary(max_size=200))
def test_any_line_is_understood_or_malformed(line: bytes) -> None:
    assert isinstance(understand(line), (Call, Malformed))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine the first draw takes its time
@given(st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params"]), json_values | st.just("2.0")))
def test_any_object_is_understood_or_malformed(message: dict[str, object]) -> None:
    assert isinstance(understand(json.dumps(message).encode()), (Call, Malformed))
