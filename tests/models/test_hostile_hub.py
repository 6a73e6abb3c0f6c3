"""Servers of models that lie, break off, and lead elsewhere: an error says so, and no file is what it is not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from lmxd.errors import LmxdError
from lmxd.models.fetching import fetch
from lmxd.models.hub import Hub
from lmxd.models.ranges import copy_header
from lmxd.models.reference import reference

CONTENT = bytes(range(256)) * 40


@contextmanager
def server(answer: Callable[[str], bytes]) -> Iterator[str]:
    """A server's URL. ``answer`` makes the bytes of an answer of the head of a request."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, suppress(OSError):
                        connection.sendall(answer(connection.recv(2**16).decode("latin-1")))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def said(status: str, body: bytes = b"", **headers: object) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return f"HTTP/1.1 {status}\r\nConnection: close\r\n{''.join(lines)}\r\n".encode() + body


def fetched(url: str, directory: Path, **more: Any) -> Path:
    return fetch(f"{url}/m.gguf", directory, lambda done, whole: None, **more)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0" * 100,
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        said("200 OK", b"5\r\nhello\r\nzzz\r\n", Transfer_Encoding="chunked"),
        said("200 OK", b"5\r\nhel", Transfer_Encoding="chunked"),
        said("200 OK", b"x", Content_Length=10**17),
        said("302 Found", Location="file:///etc/passwd"),
        said("302 Found", Location="ftp://127.0.0.1/m.gguf"),
        said("302 Found", Location="http://[::1"),
        said("302 Found", Location="http://a b/m.gguf"),
        said("302 Found", Location="http://127.0.0.1:99999/m.gguf"),
        said("302 Found"),
        said("206 Partial Content", b"x", Content_Range="bytes 5-9/10"),
        said("206 Partial Content", b"x"),
        said("416 Range Not Satisfiable", Content_Range="bytes */3"),
    ],
    ids=lambda answer: str(answer[:40]),
)
def test_what_is_no_file_is_an_error_and_none_is_there(tmp_path: Path, answer: bytes) -> None:
    with server(lambda _: answer) as url:
        with pytest.raises(LmxdError) as error:
            fetched(url, tmp_path)
        assert error.value.code == "model_file_missing"
        assert not (tmp_path / "m.gguf").exists()
        with pytest.raises(LmxdError):
            copy_header(f"{url}/m.gguf", {}, tmp_path / "header")
        assert not list(tmp_path.glob("*header*"))


def test_a_file_that_was_whole_when_the_fetch_was_killed_is_had(tmp_path: Path) -> None:
    (tmp_path / "m.gguf.part").write_bytes(CONTENT)
    with server(lambda _: said("416 Nothing", Content_Range=f"bytes */{len(CONTENT)}")) as url:
        assert fetched(url, tmp_path).read_bytes() == CONTENT


def test_a_server_that_sends_another_part_spoils_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.gguf.part").write_bytes(CONTENT[:100])
    whole = said("206 Partial Content", CONTENT, Content_Range=f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")
    with server(lambda _: whole) as url, pytest.raises(LmxdError, match="another part"):
        fetched(url, tmp_path)
    assert (tmp_path / "m.gguf.part").read_bytes() == CONTENT[:100]
    with server(lambda _: said("200 OK", CONTENT, Content_Length=len(CONTENT))) as url:
        assert fetched(url, tmp_path).read_bytes() == CONTENT, "a server without parts sends it anew"


def test_a_file_without_an_end_leaves_room_on_the_disk(tmp_path: Path) -> None:
    with server(lambda _: said("200 OK", CONTENT)) as url, pytest.raises(LmxdError, match="not room") as error:
        fetched(url, tmp_path, spare=2**60)
    assert error.value.code == "config"


@pytest.mark.parametrize(
    "headers", [{}, {"Content_Length": len(CONTENT)}, {"Content_Length": 10**12}], ids=["none", "true", "another"]
)
def test_a_file_is_no_longer_than_was_said(tmp_path: Path, headers: dict[str, object]) -> None:
    with server(lambda _: said("200 OK", CONTENT, **headers)) as url:
        with pytest.raises(LmxdError, match=f"longer than the {len(CONTENT) - 1} bytes that were said") as error:
            fetched(url, tmp_path, size=len(CONTENT) - 1)
        assert (error.value.code, list(tmp_path.iterdir())) == ("bad_model_file", [])


def test_a_file_without_a_length_is_as_long_as_was_said(tmp_path: Path) -> None:
    with server(lambda _: said("200 OK", CONTENT)) as url:
        with pytest.raises(LmxdError, match=f"ended after {len(CONTENT)} of {len(CONTENT) + 1} bytes"):
            fetched(url, tmp_path, size=len(CONTENT) + 1)
        with pytest.raises(LmxdError, match="has not room for it"):
            fetched(url, tmp_path, size=2**60)
        (tmp_path / "m.gguf.part").unlink()
        assert fetched(url, tmp_path, size=len(CONTENT)).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["a%00b", "x" * 300, "%ED%A0%80" * 100])
def test_a_name_that_no_file_can_have_is_an_error(tmp_path: Path, name: str) -> None:
    with server(lambda _: said("200 OK", CONTENT)) as url, pytest.raises(LmxdError):
        fetch(f"{url}/{name}.gguf", tmp_path, lambda done, whole: None)


@pytest.mark.parametrize("name", ["..%2F..%2Fm.gguf", "%2Fetc%2Fm.gguf", "a/../m.gguf"])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with server(lambda _: said("200 OK", CONTENT, Content_Length=len(CONTENT))) as url:
        path = fetch(f"{url}/{name}", tmp_path, lambda done, whole: None)
    assert path == tmp_path / "m.gguf"


def test_a_link_in_the_place_of_the_part_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"")
    (tmp_path / "m.gguf.part").symlink_to(other)
    with server(lambda _: said("200 OK", CONTENT, Content_Length=len(CONTENT))) as url, pytest.raises(LmxdError):
        fetched(url, tmp_path)
    assert other.read_bytes() == b""


@pytest.mark.parametrize("revision", ["../../../x", "/etc", "..", "", "a/b", "a\\u0000b"])
def test_a_revision_leads_nowhere_else(tmp_path: Path, revision: str) -> None:
    pytest.importorskip("huggingface_hub")
    file = '{"rfilename": "m.gguf", "size": 1}'
    listing = f'{{"id": "o/r", "modelId": "o/r", "sha": "{revision}", "siblings": [{file}]}}'.encode()
    answer = said("200 OK", listing, Content_Type="application/json")
    with server(lambda _: answer) as url, pytest.raises(LmxdError, match="revision"):
        Hub(url).offers(reference("hf:o/r"))
