"""Models of a directory are served by all the names that they have where they come from."""

from __future__ import annotations

from pathlib import Path

from model_caches import in_ollama

from lmxd.catalog.served import with_served
from lmxd.config.file import parse


def test_a_model_of_ollama_s_is_served_as_latest_too(tmp_path: Path) -> None:
    blob = in_ollama(tmp_path, "registry.ollama.ai/library/llama3/latest")
    in_ollama(tmp_path, "registry.ollama.ai/library/other/latest")
    text = f"models_from: [{tmp_path}]\nmodels:\n  mine: {{path: /x.gguf, aliases: ['other:latest']}}\n"
    config, unread = with_served(parse(text, "test"))
    assert (config.named("llama3:latest"), config.models["llama3"].path, unread) == ("llama3", blob, [])
    assert (config.named("other:latest"), config.models["other"].aliases) == ("mine", ())
