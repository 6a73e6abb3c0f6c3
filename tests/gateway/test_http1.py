"""Answers as bytes, however they are cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmxd.gateway.http1 import LAST_CHUNK, BadAnswer, Body, chunk, read_head, unchunked

PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


def fed(body: Body, data: bytes, cuts: list[int]) -> bytes:
    """What is passed on of ``data``, cut at ``cuts``."""
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return b"".join(body.feed(data[a:b]) for a, b in pairwise(edges))


@given(pieces=PIECES, cuts=st.lists(st.integers(0, 1000), max_size=12), after=st.binary(max_size=30))
def test_the_end_of_a_chunked_body_is_found_wherever_it_is_cut(
    pieces: list[bytes], cuts: list[int], after: bytes
) -> None:
    whole = b"".join(map(chunk, pieces)) + LAST_CHUNK
    found = read_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert found is not None
    body = Body(found[0])
    assert fed(body, whole + after, cuts) == whole
    assert body.done
    assert unchunked(whole) == b"".join(pieces)


@given(pieces=PIECES, missing=st.integers(1, 5))
def test_a_body_that_breaks_off_is_not_done(pieces: list[bytes], missing: int) -> None:
    whole = b"".join(map(chunk, pieces)) + LAST_CHUNK
    found = read_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert found is not None
    body = Body(found[0])
    body.feed(whole[:-missing])
    assert not body.done


@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 100), max_size=5), after=st.binary(max_size=10))
def test_a_body_of_known_length(data: bytes, cuts: list[int], after: bytes) -> None:
    found = read_head(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data))
    assert found is not None
    body = Body(found[0])
    assert fed(body, data + after, cuts) == data
    assert body.done


def test_a_body_that_ends_with_its_connection() -> None:
    found = read_head(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall of")
    assert found is not None
    head, rest = found
    assert (head.until_closed, rest) == (True, b"all of")
    body = Body(head)
    assert body.feed(rest) == rest
    assert not body.done


def test_trailers_belong_to_the_body() -> None:
    found = read_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
    assert found is not None
    body = Body(found[0])
    whole = b"3;name=value\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    assert body.feed(whole + b"HTTP/1.1") == whole
    assert body.done


def test_what_is_about_the_connection_is_not_passed_on() -> None:
    found = read_head(b"HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: timeout=5\r\nServer: x\r\n\r\n")
    assert found is not None
    assert found[0].raw == b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body(status: int) -> None:
    found = read_head(b"HTTP/1.1 %d Fine\r\nContent-Length: 7\r\n\r\n" % status)
    assert found is not None
    assert Body(found[0]).done


def test_the_answer_to_a_head_has_none_either() -> None:
    found = read_head(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
    assert found is not None
    assert Body(found[0], bodiless=True).done


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_answer_is_said_to_be_none(answer: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_head(answer)


@pytest.mark.parametrize("body", [b"zz\r\n", b"-5\r\n", b"1" * 70_000])
def test_a_chunk_without_a_size(body: bytes) -> None:
    found = read_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert found is not None
    with pytest.raises(BadAnswer):
        Body(found[0]).feed(body)
