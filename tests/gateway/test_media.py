"""Pictures, sound and films in requests: they come with the request, and go to a model that takes them."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vision

from gateway.front import opened
from gateway.test_serving import house
from lmxd.errors import LmxdError
from lmxd.gateway.requests.adapters import require_adapters
from lmxd.gateway.requests.formats import pixels_of
from lmxd.gateway.requests.media import require_media
from lmxd.rpc.books import ModelInfo

HERE = "data:image/png;base64,iVBORw0KGgo="
CHATS = "/v1/chat/completions"
AWAY = "http://10.0.0.1/secret"


def model(media: list[str] | None, **more: Any) -> ModelInfo:
    return ModelInfo(model="m", ctx=1, slots=1, bytes={}, running=0, media=media, **more)


def chats(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}]}


def pictured(url: str) -> list[dict[str, Any]]:
    """A picture as each API has it, by a URL."""
    tool = {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": url}}]}
    return [
        chats({"type": "image_url", "image_url": {"url": url}}),
        chats({"type": "image_url", "image_url": {"url": url, "detail": "low"}}),
        chats({"type": "image_url", "image_url": url}),
        chats({"image_url": {"url": url}}),
        chats({"type": "image", "source": {"type": "url", "url": url}}),
        chats(tool),
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]},
        {"input": [{"type": "function_call_output", "output": [{"type": "input_image", "image_url": url}]}]},
        {"state": "x", "images": [url]},
        {"content": [{"type": "image_url", "image_url": {"url": url}}]},
    ]


def refused(body: dict[str, Any] | bytes, whose: ModelInfo, *, remote: bool = False) -> str:
    with pytest.raises(LmxdError) as caught:
        require_media(body if isinstance(body, bytes) else json.dumps(body).encode(), whose, remote=remote)
    assert caught.value.code in ("invalid_params", "invalid_request")
    return str(caught.value)


@pytest.mark.parametrize("at", range(len(pictured(AWAY))))
@pytest.mark.parametrize("url", [AWAY, "HTTPS://x/y", " http://x", "file:///etc/passwd", "ftp://x/y", "s3://bucket/x"])
def test_nothing_is_fetched_for_a_client_by_whichever_api(at: int, url: str) -> None:
    body = pictured(url)[at]
    for media in (["image"], None):
        assert "not fetched from elsewhere" in refused(body, model(media))
    if url.strip().lower().startswith("http"):
        require_media(json.dumps(body).encode(), model(["image"]), remote=True)
    else:
        refused(body, model(["image"]), remote=True)


@pytest.mark.parametrize("body", pictured(HERE))
def test_a_picture_goes_to_a_model_that_sees_and_no_other(body: dict[str, Any]) -> None:
    said = json.dumps(body).encode()
    require_media(said, model(["image"]), remote=False)
    require_media(said, model(None), remote=False)
    assert "mmproj" in refused(body, model([]))
    assert "is for sound alone" in refused(body, model(["audio"]))


def test_sound_goes_to_a_model_that_hears() -> None:
    sound = chats({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}})
    require_media(json.dumps(sound).encode(), model(["audio"]), remote=False)
    assert "m takes no sound: its projector (mmproj) is for pictures alone" in refused(sound, model(["image"]))
    away = chats({"type": "input_audio", "input_audio": {"url": AWAY}})
    assert "not fetched" in refused(away, model(["audio"]))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "input_image", "file_id": "file_1"},
        {"type": "image_url", "image_url": {"url": ""}},
    ],
)
def test_a_picture_that_is_nowhere_is_refused_where_the_engine_would_leave_it_out(part: dict[str, Any]) -> None:
    assert "neither a url nor data" in refused(chats(part), model(["image"]))


def test_no_spelling_hides_a_picture() -> None:
    hidden = b'{"messages": [{"content": [{"\\u0074ype": "\\u0069mage_\\u0075rl", "image\\u005furl": {"url": "http://x"}}]}]}'
    assert "not fetched" in refused(hidden, model(["image"]))
    marked = b"\xef\xbb\xbf" + json.dumps(chats({"type": "image_url", "image_url": {"url": AWAY}})).encode()
    assert "neither JSON" in refused(marked, model(["image"]))


@pytest.mark.parametrize(
    "disguise", [{"type": "image", "url": HERE}, {"image_url": HERE}, {"input_audio": {"data": "UklGRg=="}}]
)
def test_no_message_is_taken_for_a_picture_itself(disguise: dict[str, Any]) -> None:
    """Engines look at what is in a message, whatever stands beside it."""
    for body in pictured(AWAY):
        messages = [message | disguise for message in body.get("messages", [])]
        for hidden in (body | disguise, body | {"messages": messages} if messages else body):
            assert "not fetched" in refused(hidden, model(["image", "audio"]))
    within = chats({"type": "tool_result", **disguise, "content": [{"type": "image", "source": {"url": AWAY}}]})
    assert "not fetched" in refused(within, model(["image", "audio"]))


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "Multipart/Form-Data", "multipart/form-data"])
@pytest.mark.parametrize("before", [b"", b" \r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"])
async def test_an_object_that_is_called_a_form_hides_no_picture(tmp_path: Path, kind: str, before: bytes) -> None:
    """Builds of llama-server differ in what they take for a form: another one is an object."""
    said = before + json.dumps({"model": "a", **chats({"type": "image_url", "image_url": {"url": AWAY}})}).encode()
    async with opened(seeing(tmp_path)) as front:
        answer = await front.ask("/upstream/a/v1/chat/completions", said, **{"Content-Type": kind})
        assert answer.status == 400
        assert "not fetched" in answer.text or "neither JSON" in answer.text
        assert not front.house.state.instances


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "An image is at http://x/y.png, with audio and video."}]},
        {"input": [{"content": [{"type": "output_text", "annotations": [{"type": "url_citation", "url": AWAY}]}]}]},
        {"tools": [{"function": {"parameters": {"properties": {"image_url": {"type": "string", "default": AWAY}}}}}]},
        {"messages": [{"tool_calls": [{"function": {"arguments": '{"image_url": "http://x"}'}}]}]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": {"image": {}}}}}},
        {"messages": [{"role": "user", "content": "caf\u00e9"}], "image": ""},
        ["image"],
    ],
)
def test_words_about_pictures_are_none(body: Any) -> None:
    require_media(json.dumps(body).encode(), model([]), remote=False)


def jpeg(width: int, height: int, before: bytes = b"") -> bytes:
    """The beginning of a JPEG: segments, and the one with its size."""
    return b"\xff\xd8" + before + b"\xff\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width) + bytes(12)


def bmp(width: int, height: int) -> bytes:
    """A BMP of no pixels at all, of which llama-server makes as many as it says."""
    sides = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + sides


def png(width: int, height: int, before: bytes = b"") -> bytes:
    return b"\x89PNG\r\n\x1a\n" + before + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(5)


APPLE = struct.pack(">I4s", 100_000, b"CgBI") + b"IHDR" * 25_000 + bytes(4)
SEGMENT = b"junk\xff\xe1" + struct.pack(">H", 65_000) + b"\xff\xc0" * 32_499
SIZED: dict[str, Callable[[int, int], bytes]] = {
    "png": png,
    "gif": lambda width, height: b"GIF89a" + struct.pack("<HH", width, height),
    "bmp": bmp,
    "bmp upside down": lambda width, height: bmp(width, -height),
    "bmp of OS/2": lambda width, height: b"BM" + bytes(12) + struct.pack("<IHH", 12, width, height),
    "jpeg": jpeg,
    "jpeg behind others": lambda width, height: jpeg(width, height, SEGMENT * 3),
    "png of Apple's": lambda width, height: png(width, height, APPLE),
}


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("kind", SIZED)
def test_a_picture_that_takes_gigabytes_is_refused_before_it_is_unpacked(kind: str) -> None:
    whose = model(["image", "audio"])
    huge, large = (base64_of(SIZED[kind](side, side)) for side in (20_000, 8_000))
    for content in (huge, f"data:image/png;base64,{huge}", f"{huge}, {large}"):
        for part in (
            {"type": "image_url", "image_url": {"url": content}},
            {"type": "input_audio", "input_audio": {"data": content}},
            {"type": "video_url", "video_url": {"url": content}},
        ):
            assert "a picture has 400 million pixels" in refused(chats(part), whose)
    assert "400 million" in refused({"prompt": {"prompt_string": "<__media__>", "multimodal_data": [huge]}}, whose)
    part = {"type": "image_url", "image_url": {"url": large}}
    require_media(json.dumps(chats(part)).encode(), whose, remote=False)
    many = {"messages": [{"content": [part] * 5}]}
    assert "320 million pixels together" in refused(many, whose)


@pytest.mark.parametrize(
    "content",
    [b"#EXTM3U\n#EXTINF:1,\nhttp://10.0.0.1/x\n", b"ffconcat version 1.0", b"<svg/>", b"P5 9 9 255 ", b"", b"?"],
)
@pytest.mark.parametrize("kind", ["image", "audio", "video"])
def test_what_is_in_no_known_format_is_not_handed_to_ffmpeg(content: bytes, kind: str) -> None:
    """It would look for the files and the addresses in it."""
    part = {"type": f"input_{kind}", f"input_{kind}": {"data": f"data:{kind}/x;base64,{base64_of(content)}"}}
    assert "in no known format" in refused(chats(part), model(["image", "audio"]))
    require_media(json.dumps(chats(part)).encode(), model(None), remote=False)


@pytest.mark.parametrize(
    "content",
    [b"RIFF\0\0\0\0WAVE", b"fLaC", b"ID3", b"\xff\xfb", b"\0\0\0\x20ftypisom", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0WEBP"],
)
def test_sound_and_films_are_known_by_how_they_begin(content: bytes) -> None:
    assert pixels_of(base64_of(content + bytes(100_000))) == 0


@pytest.mark.parametrize("end", [b"\xff" * 10**6, b"\xff\xe0\0\2" * 10**6, bytes(10**6)])
def test_a_picture_that_hides_its_size_is_not_looked_through_for_ever(end: bytes) -> None:
    assert pixels_of(base64_of(jpeg(0, 0)[:2] + end)) is None
    assert not pixels_of(base64_of(png(0, 0)[:8] + end))


def test_a_prompt_with_pictures_needs_a_projector() -> None:
    body = {"prompt": {"prompt_string": "x", "multimodal_data": [base64_of(png(9, 9))]}}
    assert "mmproj" in refused(body, model([]))
    require_media(json.dumps(body).encode(), model(["image"]), remote=False)


@pytest.mark.parametrize(
    ("lora", "why"),
    [
        ([{"id": 2, "scale": 1}], "has no adapter 2"),
        ([{"id": -1, "scale": 1}], "lora"),
        ([{"id": "0", "scale": 1}], "lora"),
        ([{"id": 0}], "scale"),
        ([1], "lora"),
        ("one", "lora"),
    ],
)
def test_an_adapter_that_is_not_there_is_refused_by_its_number(lora: Any, why: str) -> None:
    whose = model([], settings={"lora": [{"path": "/m/one.gguf"}, {"path": "two.gguf", "scale": 0.5}]})
    with pytest.raises(LmxdError, match=r"0: one\.gguf, 1: two\.gguf") as caught:
        require_adapters(CHATS, json.dumps({"lora": lora}).encode(), whose)
    assert why in caught.value.message
    require_adapters(CHATS, b'{"lora": [{"id": 1, "scale": 0.5}, {"id": 0, "scale": 0}]}', whose)
    require_adapters(CHATS, b'{"lora": []}', whose)
    require_adapters(CHATS, json.dumps({"lora": lora}).encode(), model(None))


@pytest.mark.parametrize("name", [b"lora", rb"\u006cora", rb"lor\u0061"])
def test_a_model_without_adapters_says_so(name: bytes) -> None:
    with pytest.raises(LmxdError, match="by the key lora"):
        require_adapters(CHATS, b'{"%b": [{"id": 0, "scale": 1}]}' % name, model([]))


def test_no_adapter_is_left_out_in_silence() -> None:
    whose = model([], settings={"lora": [{"path": "one.gguf"}]})
    with pytest.raises(LmxdError, match="Anthropic"):
        require_adapters("/v1/messages", b'{"lora": [{"id": 0, "scale": 1}]}', whose)


ASKED: dict[str, Any] = {
    "/v1/chat/completions": chats({"type": "image_url", "image_url": {"url": HERE}}),
    "/v1/messages": {"max_tokens": 2, **chats({"type": "image", "source": {"type": "base64", "data": "iVBORw0KGgo="}})},
    "/v1/responses": {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": HERE}]}]},
    "/api/chat": {"messages": [{"role": "user", "content": "What?", "images": ["iVBORw0KGgo="]}]},
    "/api/generate": {"prompt": "What?", "images": ["iVBORw0KGgo="]},
    "/upstream/a/v1/chat/completions": chats({"type": "image_url", "image_url": {"url": HERE}}),
}


def message_of(path: str, text: str) -> str:
    said = json.loads(text)
    return str(said["error"] if path.startswith("/api/") else said["error"]["message"])


async def test_a_model_that_sees_nothing_is_not_started_for_a_picture(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        for path, body in ASKED.items():
            for more in ({}, {"stream": True}):
                answer = await front.ask(path, {"model": "a", **body, **more})
                assert answer.status == 400
                assert "mmproj" in message_of(path, answer.text)
        assert not front.house.state.instances


async def test_a_model_with_a_projector_says_so_and_is_sent_the_picture(tmp_path: Path) -> None:
    async with opened(seeing(tmp_path)) as front:
        for path, body in ASKED.items():
            assert (await front.ask(path, {"model": "a", **body})).status == 200, path
        away = await front.ask("/api/chat", {"model": "a", "messages": [{"content": "x", "images": [AWAY]}]})
        assert (away.status, "not fetched" in away.text) == (400, True)
        shown = json.loads((await front.ask("/api/show", {"model": "a"})).text)
        assert shown["capabilities"] == ["completion", "vision"]
        listed = {x["id"]: x["meta"] for x in json.loads((await front.ask("/v1/models", method="GET")).text)["data"]}
        assert listed["a"]["capabilities"] == ["completion", "vision"]
        assert listed["a"]["media"] == ["image"]
        assert listed["b"]["media"] == []


async def test_an_administrator_may_let_engines_fetch(tmp_path: Path) -> None:
    asked = {"model": "a", **chats({"type": "image_url", "image_url": {"url": AWAY}})}
    async with opened(seeing(tmp_path), remote_media=True) as front:
        assert (await front.ask("/v1/chat/completions", asked)).status == 200


async def test_a_raw_prompt_has_no_pictures(tmp_path: Path) -> None:
    async with opened(seeing(tmp_path)) as front:
        body = {"model": "a", "prompt": "x", "raw": True, "images": ["iVBORw0KGgo="]}
        answer = await front.ask("/api/generate", body)
        assert (answer.status, "images" in answer.text) == (400, True)


def seeing(tmp_path: Path) -> Any:
    """A house whose model ``a`` has a projector, of as many bytes as are declared."""
    beside = vision.projector(tmp_path / "mmproj.gguf", 64)
    return house(tmp_path, a={"estimated_memory_gb": 1, "mmproj": str(beside)}, b={"estimated_memory_gb": 1})
