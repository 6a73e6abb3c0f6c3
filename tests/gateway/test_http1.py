"""Answers as bytes, however they are cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmxd.gateway.http.chunks import LAST_CHUNK, BadAnswer, Chunks, chunk
from lmxd.gateway.http.http1 import Body, read_head

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
    kept: list[bytes] = []
    Chunks(kept.append).feed(whole)
    assert b"".join(kept) == b"".join(pieces)


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
    found = read_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert found is not None
    body = Body(found[0])
    whole = b"3;name=value\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    assert body.feed(whole + b"HTTP/1.1") == whole
    assert body.done


def test_what_is_about_the_connection_is_not_passed_on() -> None:
    found = read_head(b"HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: timeout=5\r\nDate: x\r\n\r\n")
    assert found is not None
    assert found[0].raw().startswith(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Security-Policy: sandbox\r\n")
    assert b"Keep-Alive" not in found[0].raw()


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


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "head",
    [
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 5\r\n",
        OK + b"Content-Length: 5, 5\r\n",
        OK + b"Content-Length: +5\r\n",
        OK + b"Content-Length: 5 5\r\n",
        OK + b"Content-Length:\r\n",
        OK + b"Content-Length: 9999999999999999999999\r\n",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        OK + b"Transfer-Encoding: chunked, chunked\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n",
        OK + b"Transfer-Encoding: xchunked\r\n",
        OK + b"Transfer-Encoding: chunked, identity\r\n",
        OK + b"Transfer-Encoding : chunked\r\n",
        OK + b"Connection: close, content-length\r\nContent-Length: 5\r\n",
        OK + b" folded: x\r\n",
        OK + b"X: y\r\n folded\r\n",
        OK + b"X: y\nZ: z\r\n",
        OK + b"X: y\rZ: z\r\n",
        OK + b"X: y\x00z\r\n",
        OK + b"X: \x1b[2J\r\n",
        OK + b"X y: z\r\n",
        OK + b": z\r\n",
        OK + b"no colon\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
        b"HTTP/1.1 204 Gone\r\nTransfer-Encoding: chunked\r\n",
        b"HTTP/1.1 100 Continue\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n",
        b"HTTP/1.1 103 Early Hints\r\n",
        b"HTTP/1.1 999 What\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 200\tOK\r\n",
        b"HTTP/1.1  200 OK\r\n",
        b"HTTP/1.1 200 O\x00K\r\n",
        b"HTTP/1.2 200 OK\r\n",
        b"HTTP/2 200 OK\r\n",
        b"HTTP/1.10 200 OK\r\n",
        b"http/1.1 200 OK\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n",
        OK + b"X: " + b"y" * 70_000 + b"\r\n",
    ],
    ids=lambda head: head[:60].decode("latin-1").encode("unicode-escape").decode(),
)
def test_a_head_that_two_readers_could_take_for_two_is_none(head: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_head(head + b"\r\n12345")


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\n\n", b"HTTP/1.1 200 OK\r\nX: y\nZ: z"])
def test_a_bare_line_feed_is_refused_before_the_head_has_ended(head: bytes) -> None:
    with pytest.raises(BadAnswer, match="bare line feed"):
        read_head(head)


@pytest.mark.parametrize(
    "body",
    [
        b"0x2\r\nab\r\n0\r\n\r\n",
        b"+2\r\nab\r\n0\r\n\r\n",
        b"-1\r\n",
        b" 2\r\nab\r\n",
        b"2 \r\nab\r\n",
        b"2_0\r\n",
        b"\r\n",
        b"123456789\r\n",
        b"ffffffffffffffffffff\r\n",
        b"2\nab\n0\n\n",
        b"2\r\nabc\r\n0\r\n\r\n",
        b"2\r\nab0\r\n\r\n",
        b"2\r\nab\n0\r\n\r\n",
        b"2;\r\nab\r\n",
        b"2;a\x00b\r\nab\r\n",
        b'2;a="\r\nab\r\n',
        b"2;" + b"a" * 5000 + b"\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\n X: y\r\n\r\n",
        b"0\r\nContent-Length: 3\r\n\r\n",
        b"0\r\nSet-Cookie: a=b\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * 20_000,
    ],
    ids=lambda body: ascii(body[:30]),
)
@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_a_chunk_that_two_readers_could_take_for_two_is_none(body: bytes, step: int) -> None:
    found = read_head(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    assert found is not None
    with pytest.raises(BadAnswer):
        fed(Body(found[0]), body, list(range(0, len(body), step)))


@pytest.mark.parametrize(
    "line",
    [
        b"Set-Cookie: a=b",
        b"Access-Control-Allow-Origin: *",
        b"access-control-allow-credentials: true",
        b"Clear-Site-Data: *",
        b"Content-Security-Policy: default-src *",
        b"Service-Worker-Allowed: /",
        b"Location: /lmxd/stop",
        b"Refresh: 0; url=/",
        b"X-Mine: y\r\nConnection: x-mine",
        b"X-Accel-Redirect: /etc/passwd",
        b"X-Sendfile: /etc/passwd",
        b"X-Lighttpd-Send-File: /etc/passwd",
        b"X-Accel-Expires: 9999",
        b"Cache-Control: public, max-age=9999",
        b"Surrogate-Control: max-age=9999",
        b"Expires: Fri, 01 Jan 2100 00:00:00 GMT",
        b"Link: <http://evil.example>; rel=preload",
        b'Speculation-Rules: "/x"',
        b"Accept-CH: Device-Memory",
        b"Proxy-Authenticate: Basic",
        b"Content-Location: /lmxd/state",
    ],
)
def test_an_engine_does_not_speak_for_the_site_of_the_dashboard(line: bytes) -> None:
    found = read_head(OK + line + b"\r\nContent-Type: text/html\r\n\r\n")
    assert found is not None
    assert found[0].raw() == (
        OK + b"Content-Type: text/html\r\nContent-Security-Policy: sandbox\r\nX-Content-Type-Options: nosniff\r\n"
        b"Cache-Control: no-store\r\n\r\n"
    )


def test_headers_about_the_answer_itself_are_passed_on() -> None:
    lines = (
        b"Content-Type: text/plain\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\nContent-Language: en\r\n"
        b"content-disposition: attachment\r\nRetry-After: 3\r\nX-Request-ID: 1\r\nOpenAI-Processing-Ms: 4\r\n"
        b"X-RateLimit-Limit-Tokens: 5\r\n"
    )
    found = read_head(OK + lines + b"\r\nok")
    assert found is not None
    assert found[0].raw().startswith(OK + lines)


def test_an_answer_without_a_body_has_no_length() -> None:
    found = read_head(b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n")
    assert found is not None
    assert b"Content-Length" not in found[0].raw()


FIELDS = st.sampled_from(
    b"Content-Length: 3|Content-Length: 5|content-length:7|Content-Length: 3, 3|Transfer-Encoding: chunked|"
    b"transfer-encoding:chunked|Transfer-Encoding: gzip|X: y|X:|Connection: close|X : y| X: y|X\x00: y|X: y\x7f|"
    b"X: y\nContent-Length: 1|Trailer: x|Content-Type: text/plain".split(b"|")
)
STARTS = st.sampled_from(
    b"HTTP/1.1 200 OK|HTTP/1.1 200|HTTP/1.0 200 OK|HTTP/1.1 404 Not Found|HTTP/1.1 304 Same|HTTP/1.1 204 None".split(
        b"|"
    )
)
PARTS = (
    b"3\r\nabc\r\n|0\r\n\r\n|0\r\nX: y\r\n\r\n|3;a=b\r\nabc\r\n|0x3\r\nabc\r\n|3\r\nabcd\r\n|3\nabc\n|"
    b"A\r\n0123456789\r\n|abc"
)
BODIES = st.lists(st.sampled_from(PARTS.split(b"|")), max_size=5).map(b"".join)


@given(start=STARTS, lines=st.lists(FIELDS, max_size=4), body=BODIES, cuts=st.lists(st.integers(0, 200), max_size=6))
def test_what_is_passed_on_says_the_same_to_another_reader(
    start: bytes, lines: list[bytes], body: bytes, cuts: list[int]
) -> None:
    """The reader is h11, which is strict, too: the same status, the same data, the same end, and nothing after it."""
    try:
        found = read_head(b"\r\n".join((start, *lines, b"", b"")) + body)
        assert found is not None
        head, rest = found
        finder = Body(head)
        sent = fed(finder, rest, cuts)
    except BadAnswer:
        return
    status, data, ended = read_by_h11(head.raw() + sent, closed=head.until_closed)
    assert status == head.status
    assert ended == (finder.done or head.until_closed)
    if head.chunked:
        kept: list[bytes] = []
        Chunks(kept.append).feed(sent)
        assert data == b"".join(kept)
    else:
        assert data == sent


def read_by_h11(answer: bytes, *, closed: bool) -> tuple[int, bytes, bool]:
    """(the status, the data, whether it came to its end)."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(answer)
    if closed:
        reader.receive_data(b"")
    status, data = 0, b""
    while (event := reader.next_event()) is not h11.NEED_DATA:
        match event:
            case h11.Response():
                status = event.status_code
            case h11.Data():
                data += bytes(event.data)
            case h11.EndOfMessage():
                assert reader.trailing_data[0] == b""
                return status, data, True
    return status, data, False
