"""Directories of model files, laid out as other tools do it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import synthetic
from house import model


def in_hub(hub: Path, repository: str, file: str, revision: str = "abc123", data: bytes | None = None) -> Path:
    """A file in the cache of huggingface_hub: a link in a snapshot leads to its blob."""
    home = hub / f"models--{repository.replace('/', '--')}"
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs/main").write_text("abc123")
    data = data if data is not None else _weights(hub, repository + file)
    blob = home / "blobs" / hashlib.sha256(data).hexdigest()
    blob.write_bytes(data)
    path = home / "snapshots" / revision / file
    path.parent.mkdir(parents=True, exist_ok=True)
    up = "../" * (2 + file.count("/"))
    path.symlink_to(f"{up}blobs/{blob.name}")
    return path


def in_llama_cache(cache: Path, repository: str, file: str, tag: str = "latest") -> Path:
    """A file in the cache that ``llama-server -hf`` fills, with the manifest beside it."""
    cache.mkdir(parents=True, exist_ok=True)
    (cache / f"manifest={repository.replace('/', '=')}={tag}.json").write_text("{}")
    path = cache / f"{repository.replace('/', '_')}_{file}"
    path.write_bytes(_weights(cache, path.name))
    return path


def in_lm_studio(models: Path, repository: str, file: str) -> Path:
    path = models / repository / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_weights(models, str(path)))
    return path


def in_ollama(store: Path, name: str) -> Path:
    """A model in ollama's store: a manifest names its blob. ``name``: registry/namespace/model/tag."""
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    data = _weights(store, name)
    digest = hashlib.sha256(data).hexdigest()
    (store / f"blobs/sha256-{digest}").write_bytes(data)
    manifest = store / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}
    manifest.write_text(json.dumps({"layers": [layer]}))
    return store / f"blobs/sha256-{digest}"


def split(directory: Path, stem: str, count: int) -> list[Path]:
    """The names of a split model's parts, which hold nothing."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def _weights(directory: Path, salt: str) -> bytes:
    """A small model that no other file is the same as."""
    path = model(directory, "salted")
    data = path.read_bytes() + salt.encode()
    path.unlink()
    path.with_suffix(".json").unlink()
    return data


def split_model(directory: Path, stem: str, count: int) -> list[Path]:
    """A whole model in several parts, which can be read."""
    metadata, tensors = synthetic.decoder(
        "llama", layers=2, embedding=64, heads=4, kv_heads=2, feed_forward=128, vocabulary=100, head=32, context=4096
    )
    paths = split(directory, stem, count)
    for number, path in enumerate(paths):
        about = {"split.no": number, "split.count": count, "split.tensors.count": len(tensors)}
        synthetic.write(path, (metadata if number == 0 else {}) | about, tensors[number::count])
    return paths
