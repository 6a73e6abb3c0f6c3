"""Model directories as people and clients are told of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hf_directory import LLAMA, hf_directory, llama_tensors

from lmxd.catalog.described import capabilities
from lmxd.catalog.described_directory import describe_directory
from lmxd.errors import LmxdError


def test_a_directory_is_described_by_its_configuration_and_its_headers(tmp_path: Path) -> None:
    found = describe_directory(hf_directory(tmp_path / "m", LLAMA, llama_tensors()))
    assert (found.architecture, found.format, found.quantization, found.trained) == (
        "llama",
        "safetensors",
        "BF16",
        32768,
    )
    assert found.parameters == 2 * 512 * 128 + 128 + 2 * (2 * 128 + 2 * 128 * 128 + 2 * 64 * 128 + 3 * 128 * 256)
    assert found.size == sum(path.stat().st_size for path in (tmp_path / "m").glob("*.safetensors"))
    assert found.metadata["hidden_size"] == 128
    assert found.template is not None
    assert "for message in messages" in found.template
    assert capabilities(found, ()) == ["completion"]


def test_its_digest_is_that_of_its_copy_and_of_no_other(tmp_path: Path) -> None:
    one, copy = (describe_directory(hf_directory(tmp_path / name, LLAMA, llama_tensors())) for name in ("a", "b"))
    other = describe_directory(hf_directory(tmp_path / "c", {**LLAMA, "rope_theta": 1.0}, llama_tensors()))
    assert len(one.digest) == 64
    assert one.digest == copy.digest != other.digest


@pytest.mark.parametrize(
    ("name", "content", "template"),
    [
        ("chat_template.jinja", "{{ messages }}", "{{ messages }}"),
        ("chat_template.json", '{"chat_template": "of json"}', "of json"),
        ("chat_template.jinja", b"\xff\xfe", None),
        ("tokenizer_config.json", '{"chat_template": [{"name": "default", "template": "one of two"}]}', "one of two"),
        ("tokenizer_config.json", '{"chat_template": [{"name": "rag", "template": "x"}, 5]}', None),
        ("tokenizer_config.json", '{"chat_template": 5}', None),
        ("tokenizer_config.json", '{"chat_template": [{"name": ["default"], "template": "x"}]}', None),
        ("tokenizer_config.json", '{"chat_template": "half a character: \\ud800"}', None),
        ("tokenizer_config.json", "[" * 100_000, None),
        ("tokenizer_config.json", '{"a": 1}', None),
    ],
)
def test_its_template_is_where_transformers_looks(
    tmp_path: Path, name: str, content: str | bytes, template: str | None
) -> None:
    path = hf_directory(tmp_path / "m", LLAMA, llama_tensors())
    (path / "tokenizer_config.json").unlink()
    (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert describe_directory(path).template == template


def test_one_that_sees_says_so(tmp_path: Path) -> None:
    config = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "text_config": dict(LLAMA)}
    found = describe_directory(hf_directory(tmp_path / "m", config | {"vision_config": {}}, llama_tensors()))
    assert found.media == ("image",)
    assert "vision" in capabilities(found, (), found.media)


@pytest.mark.parametrize("words", [("--runner", "pooling"), ("--convert=embed",), ("--pooler-config", "{}")])
def test_one_that_embeds_says_so_by_its_flags(tmp_path: Path, words: tuple[str, ...]) -> None:
    found = describe_directory(hf_directory(tmp_path / "m", LLAMA, llama_tensors()))
    assert capabilities(found, words) == ["embedding"]


def test_a_directory_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LmxdError) as caught:
        describe_directory(tmp_path)
    assert caught.value.code == "model_file_missing"


def test_many_keys_and_two_of_one_name_are_told_in_time(tmp_path: Path) -> None:
    path = hf_directory(tmp_path / "m", LLAMA, llama_tensors())
    names = [f'"k{n}": 1' for n in range(200_000)]
    (path / "config.json").write_text("{" + ", ".join([*names, names[-1]]) + "}")
    with pytest.raises(LmxdError, match="occurs twice"):
        describe_directory(path)
    assert json.loads((path / "tokenizer_config.json").read_text())["chat_template"]


def test_what_cannot_be_said_in_utf_8_is_left_out(tmp_path: Path) -> None:
    config = {**LLAMA, "note": "\ud800", "\ud800": 1, "author": "Zo\u00eb"}
    found = describe_directory(hf_directory(tmp_path / "m", config, llama_tensors()))
    assert found.metadata["author"] == "Zo\u00eb"
    assert "note" not in found.metadata
    json.dumps(found.metadata, ensure_ascii=False).encode()


def test_a_link_to_a_file_elsewhere_is_no_template(tmp_path: Path) -> None:
    """Who may write into a directory of models would be shown any file that lmxd may read."""
    path, secret = hf_directory(tmp_path / "m", LLAMA, llama_tensors()), tmp_path / "secret"
    secret.write_text("a key")
    (path / "tokenizer_config.json").unlink()
    (path / "chat_template.jinja").symlink_to(secret)
    assert describe_directory(path).template is None


def test_links_into_the_cache_of_a_hub_lead_to_the_template(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--a--b"
    snapshot, blob = hf_directory(repository / "snapshots" / ("0" * 40)), repository / "blobs" / "1"
    hf_directory(snapshot, LLAMA, llama_tensors())
    (snapshot / "tokenizer_config.json").unlink()
    blob.parent.mkdir()
    blob.write_text("{{ messages }}")
    (snapshot / "chat_template.jinja").symlink_to("../../blobs/1")
    assert describe_directory(snapshot).template == "{{ messages }}"
