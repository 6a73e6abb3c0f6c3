"""Files of others that are made to run something, to read something, or never to end."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from house import model
from hypothesis import example, given
from hypothesis import strategies as st
from migrate.test_imports import ANYTHING, Store, lmxd

from lmxd.config import yaml_text
from lmxd.config.file import load, parse
from lmxd.errors import ConfigError, LmxdError
from lmxd.migrate import large_model_proxy, llama_server, llama_swap, modelfile, ollama, shell_script, systemd_unit
from lmxd.migrate.entries import MOST, Entry, FoundModel, rendered

BREAKS = ["\n", "\r", "\r\n", "\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\0", "\x1b[2J", "\u202e", "\udc85"]
EVIL = "{}  evil: {{command: [sh, -c, reboot], estimated_memory_gb: 0.1}}{}#"
WORDS = st.text(st.sampled_from("".join(BREAKS) + ":#-{}[]&*!|>'\"%@` ä\u200b~x1")) | st.text()


def meaning(text: str) -> Any:
    """By a reader that is none of ours."""
    return yaml.safe_load(io.StringIO(text))


def plain(text: str) -> bool:
    """Every line is one to every reader, and only comments have more than ASCII."""
    return all(x.isprintable() and (x.isascii() or (x.lstrip("# ") and "#" in x[:4])) for x in text.split("\n"))


@given(
    st.lists(st.tuples(WORDS, WORDS, WORDS, st.lists(WORDS, max_size=3), st.booleans()), max_size=4),
    WORDS,
    st.dictionaries(WORDS, ANYTHING, max_size=2),
)
def test_what_is_written_means_what_was_found_and_nothing_else(entries: Any, source: str, settings: Any) -> None:
    found = FoundModel(settings={"engine": settings} if settings else {}, suggested={"engine": {"path": source}})
    for name, comment, path, flags, suggested in entries:
        found.add(Entry(name, {"path": path, "engine_flags": flags}, comment, open=suggested))
    text = rendered(found, source)
    meant = {"models": {e.name: e.settings for e in found.entries if not e.open}}
    assert meaning(text) == found.settings | meant
    assert plain(text)


@pytest.mark.parametrize("end", BREAKS)
def test_no_words_of_llama_swaps_become_a_profile(tmp_path: Path, end: str) -> None:
    path, evil = tmp_path / "config.yaml", EVIL.format(end, end)
    whole = {
        "models": {
            "m": {"cmd": "llama-server -m /x.gguf", "description": evil, "name": evil, "aliases": [evil], evil: 1},
            f"n{evil}": {"cmd": f"other '{evil}'", "description": evil, "ttl": evil},
            "o": {"cmd": f"'/bin/llama-server{evil}' -m '/y{evil}.gguf' --temp '{evil}'"},
        },
        "groups": {evil: {"members": [evil], "persistent": True}},
        evil: evil,
    }
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    text = rendered(llama_swap.read(path), f"{path}{end}gpu: 3")
    assert plain(text)
    made = meaning(text)
    assert made.keys() == {"models", "idle_timeout"}
    assert set(made["models"]) <= {"m", "o"}
    if end in ("\n", "\r\n"):
        assert "o" not in made["models"], "a line that begins with # is a comment, within quotes, too"
    elif end == "\0":
        assert "o" not in made["models"], "no path has that character"
    else:
        assert made["models"]["o"]["path"] == f"/y{evil}.gguf"
    if end not in ("\n", "\r\n"):
        assert "#engine:\n" in text


@pytest.mark.parametrize("end", ["\n", "\x85", "\u2028", "\x1b]0;x\x07"])
def test_a_directory_is_only_a_directory_whatever_its_name(tmp_path: Path, end: str) -> None:
    place = tmp_path / EVIL.format(end, end).replace("/", "")
    place.mkdir()
    model(place, f"small{end}x")
    os.mkfifo(place / "pipe.gguf")
    (place / "loop.gguf").symlink_to("loop.gguf")
    (place / "zero.gguf").symlink_to("/dev/zero")
    for command in (["init", str(place)], ["scan", str(place)]):
        done = lmxd(*command)
        assert done.returncode == 0, done.stderr
        assert plain(done.stdout)
        assert all(line.isprintable() for line in done.stderr.split("\n"))
        made = meaning(done.stdout)
        assert [x["path"] for x in made["models"].values()] == [str(place / f"small{end}x.gguf")]
        assert made.get("model_dir", str(place)) == str(place)
        assert set(made) <= {"gpu", "engine", "admission_control", "idle_timeout", "model_dir", "models"}


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(f'*{a}' for _ in range(10))}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join(f'*{a}' for _ in range(10))}]}}\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
BOMBS = {
    "aliases": (LAUGHS, "aliases filled in"),
    "merged keys": (MERGES, "aliases filled in"),
    "one long text, often": ("a: &a " + "x" * 200_000 + "\nb: [" + "*a," * 9000 + "]", "aliases filled in"),
    "an alias of itself": ("a: &a [*a]", "what it is in"),
    "a key of itself": ("&a {*a : 1}", "what it is in"),
    "depth": ("[" * 100_000, "nested too deeply"),
    "depth in blocks": ("- " * 100_000 + "x", "nested too deeply"),
    "depth in keys": ("? " * 100_000, "nested too deeply"),
    "many": ("[" + "[]," * 100_000 + "]", "too much"),
    "size": ("# " + "x" * 600_000, "more than 512 KiB"),
    "a number": ("a: " + "9" * 5000, "number is too long"),
    "a hexadecimal number": ("a: 0x" + "9" * 50_000, "number is too long"),
    "a sexagesimal number": ("a: 1" + ":1" * 100_000, "number is too long"),
    "a sexagesimal fraction": ("a: 1" + ":1" * 100_000 + ".5", "number is too long"),
    "keys of one hash": ("{" + ",".join(f"{(2**61 - 1) * n + 5}: 1" for n in range(1, 9000)) + "}", "key is too large"),
    "a day that is none": ("a: 2020-99-99", "not of its kind"),
    "a truth that is none": ("a: !!bool x" + "y" * 1000, "not of its kind"),
    "a number that is none": ("a: !!int x", "not of its kind"),
    "an object": ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_wherever_yaml_is_read(tmp_path: Path, name: str) -> None:
    """Each took minutes or gigabytes; the test's own timeout bounds it."""
    text, why = BOMBS[name]
    path = tmp_path / "bomb.yaml"
    path.write_text(text)
    for read in (load, llama_swap.read):
        with pytest.raises(LmxdError, match=why) as refused:
            read(path)
        assert len(str(refused.value)) < 1000


def test_what_never_ends_is_not_read_to_its_end() -> None:
    endless = Path("/dev/zero")
    for read in (load, llama_swap.read, llama_server.read):
        with pytest.raises(LmxdError, match="more than 512 KiB"):
            read(endless)


def test_thousands_of_faults_are_not_all_listed() -> None:
    with pytest.raises(ConfigError, match="and 1950 more problems") as refused:
        parse("{" + ",".join(f"k{n}{'x' * 50}: 1" for n in range(2000)) + "}", "test")
    assert len(refused.value.problems) == 51


MACROS = {f"m{n}": f"${{m{n + 1}}}" * 10 for n in range(9)} | {"m9": "x" * 100}


@pytest.mark.parametrize(
    "whole",
    [
        {"macros": MACROS, "models": {"m": {"cmd": "llama-server ${m0}"}}},
        {"macros": {"a": "x" * 100_000}, "models": {"m": {"cmd": "llama-server " + "${a}" * 50_000}}},
        {"macros": {"a": "${a}${a}"}, "models": {"m": {"cmd": "llama-server " + "${a}" * 1000}}},
        {"models": {"m": {"cmd": "llama-server " + "x " * 100_000}}},
        {"macros": {"a": [["x" * 1000] * 10] * 10}, "models": {"m": {"cmd": "llama-server ${a}"}}},
    ],
)
def test_a_macro_bomb_is_said_and_left_out(tmp_path: Path, whole: Any) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(whole))
    found = llama_swap.read(path)
    assert found.left[0].startswith("m: cmd: ")
    assert "more than 32768 characters" in found.left[0]
    assert meaning(rendered(found, "x"))["models"] == {}


SHARED_BOMBS = {
    "macros of other words": ({"b": "x " * 2000, "a": "${b}" * 7}, "llama-server ${a}"),
    "macros of unknown flags": ({"b": "--temperaturf " * 280, "a": "${b}" * 7}, "llama-server ${a}"),
    "macros that come to too much": ({"b": "x" * 4000, "a": "${b}" * 9}, "llama-server ${a}"),
    "no macros": ({}, "llama-server --temperaturf"),
}


@pytest.mark.parametrize(("macros", "cmd"), SHARED_BOMBS.values(), ids=SHARED_BOMBS)
def test_thousands_of_models_share_one_bound_of_macros(tmp_path: Path, macros: Any, cmd: str) -> None:
    """The time limit is generous: without the bound it takes minutes."""
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"macros": macros, "models": {f"m{n}": {"cmd": cmd} for n in range(9000)}}))
    done = lmxd("import", "llama-swap", str(path))
    assert done.returncode == 0, done.stderr
    assert len(meaning(done.stdout)["models"]) <= MOST
    assert len(done.stderr) < 500 * 600


def test_the_model_at_which_the_room_for_macros_ends_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    models = {f"m{n}": {"cmd": "llama-server -m ${a}"} for n in range(9000)}
    path.write_text(json.dumps({"macros": {"a": "x" * 30_000}, "models": models}))
    found = llama_swap.read(path)
    assert [line for line in found.left if "m70: and what follows is left out" in line]
    assert "m71" not in str(found.left)


@pytest.mark.parametrize(
    "text",
    [
        "[*]\n" + "".join(f"k{n} = {'x' * 500}\n" for n in range(150)) + "".join(f"[s{n}]\n" for n in range(9000)),
        "[*]\n" + "".join(f"k{n} = 1\n" for n in range(9000)) + "".join(f"[s{n}]\n" for n in range(9000)),
        f"[*]\ntemp = {'9' * 300_000}\n" + "".join(f"[s{n}]\n" for n in range(9000)),
        "".join(f"[s{n}]\nc = x\n" for n in range(9000)),
    ],
)
def test_presets_that_multiply_are_cut(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.ini"
    path.write_text(text)
    found = llama_server.read(path)
    assert len(found.entries) <= MOST
    assert sum(map(len, found.left)) < 500 * 600
    assert len(rendered(found, "x")) < 2 * yaml_text.LARGEST


def test_presets_of_faults_alone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.ini"
    path.write_text("[a]\n" + "x\n" * 200_000)
    with pytest.raises(LmxdError, match="more than 20000 lines"):
        llama_server.read(path)
    path.write_text("[a]\n" + "x\n" * 19_000)
    with pytest.raises(LmxdError) as refused:
        llama_server.read(path)
    assert len(str(refused.value)) < 1000


SLOW = {
    "a section without an end": (llama_server.read, "[" + " " * 400_000),
    "keys without a value": (llama_server.read, "a" * 400_000),
    "comments without an end": (large_model_proxy.read, "/*" * 200_000),
    "texts without an end": (large_model_proxy.read, '"' + '\\"' * 200_000),
    "quotes without an end": (modelfile.read, 'A """\n' * 30_000),
    "settings that are taken back": (systemd_unit.read, "A=1\nB=\n" * 20_000),
    "variables of variables": (shell_script.read, "A=xxxx\n" + "A=$A$A\n" * 10_000 + "$A\n" * 10_000),
    "a line without an end": (shell_script.read, "'x" * 100_000),
    "a time without an end": (llama_server.read, "[a]\nmodel = /x.gguf\nc = " + "1" * 400_000),
}


@pytest.mark.parametrize("name", SLOW)
def test_what_is_made_to_be_slow_is_read_at_once(tmp_path: Path, name: str) -> None:
    """Each took minutes, by the square of its length; the test's own timeout bounds it."""
    read, text = SLOW[name]
    path = tmp_path / "x"
    path.write_text(text)
    try:
        found = read(path)
    except LmxdError as refused:
        assert len(str(refused)) < 1000
    else:
        assert sum(map(len, found.left)) < 500 * 600


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def left(store: Store) -> str:
    """All that was said; nothing was imported."""
    found = ollama.read(store.root)
    assert not found.entries
    return "\n".join(found.left)


@pytest.mark.parametrize(
    "digest",
    [
        "/etc/passwd",
        "../secret",
        "sha256:../../secret",
        "sha256:" + "0" * 63,
        "sha256:" + "A" * 64,
        "sha256-" + "0" * 64 + "/../../secret",
        "sha256:" + "0" * 64 + "\n",
        "sha512:" + "0" * 64,
        "",
        "\0",
    ],
)
def test_a_digest_is_no_path(tmp_path: Path, store: Store, digest: str) -> None:
    (tmp_path / "secret").write_text('{"temperature": "the secret"}')
    store.manifest("registry.ollama.ai/library/a/latest", model=digest)
    weights = store.blob(b"GGUF")
    assert "is no digest" in left(store)
    store.manifest("registry.ollama.ai/library/a/latest", model=weights, params=digest)
    (entry,) = ollama.read(store.root).entries
    blob = store.root / "blobs" / weights.replace(":", "-")
    assert entry.settings == {"path": str(blob), "aliases": ["a:latest"]}


def test_links_out_of_the_store_are_not_followed(tmp_path: Path, store: Store) -> None:
    (tmp_path / "secret").write_text('{"temperature": "the secret"}')
    weights, linked = store.blob(b"GGUF"), "0" * 64
    (store.root / f"blobs/sha256-{linked}").symlink_to(tmp_path / "secret")
    store.manifest("registry.ollama.ai/library/a/latest", model=f"sha256:{linked}")
    assert "is a link to elsewhere" in left(store)
    store.manifest("registry.ollama.ai/library/a/latest", model=weights, params=f"sha256:{linked}")
    assert "secret" not in rendered(ollama.read(store.root), "x")
    (store.root / "manifests/registry.ollama.ai/library/b").symlink_to(tmp_path)
    (store.root / "manifests/registry.ollama.ai/library/a/other").symlink_to(tmp_path / "secret")
    (store.root / "manifests/loop").symlink_to(store.root)
    assert [e.name for e in ollama.read(store.root).entries] == ["a"]
    (store.root / "blobs").rename(tmp_path / "elsewhere")
    (store.root / "blobs").symlink_to(tmp_path / "elsewhere")
    assert "is a link to elsewhere" in left(store)


def test_a_store_that_is_reached_by_a_link_is_where_it_leads(tmp_path: Path, store: Store) -> None:
    store.manifest("registry.ollama.ai/library/a/latest", model=store.blob(b"GGUF"))
    (tmp_path / "link").symlink_to(store.root)
    (entry,) = ollama.read(tmp_path / "link").entries
    assert entry.settings["path"].startswith(str(store.root))


def hostile_manifests(root: Path, weights: str) -> dict[str, Callable[[Path], object]]:
    deep = "[" * 100_000
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": weights}
    return {
        "pipe": os.mkfifo,
        "huge": lambda path: path.write_text(json.dumps({"layers": [layer] * 10_000})),
        "deep": lambda path: path.write_text(f'{{"layers": {deep}'),
        "number": lambda path: path.write_text(f'{{"layers": {"9" * 5000}}}'),
        "bytes": lambda path: path.write_bytes(b"\xff\xfe{"),
        "kinds": lambda path: path.write_text('{"layers": {"a": 1}}'),
    }


@pytest.mark.parametrize("name", ["pipe", "huge", "deep", "number", "bytes", "kinds"])
def test_a_manifest_of_any_kind_is_said_and_left_out(store: Store, name: str) -> None:
    path = store.root / "manifests/registry.ollama.ai/library/x/latest"
    path.parent.mkdir(parents=True)
    hostile_manifests(store.root, store.blob(b"GGUF"))[name](path)
    (store.root / "manifests/stray").write_text("{}")
    assert "stray: is left out" in left(store)


def test_parameters_of_any_kind_are_said(store: Store) -> None:
    weights = store.blob(b"GGUF")
    for n, data in enumerate((b"[" * 100_000, b'{"stop": ' + b"[" * 900 + b"]" * 900 + b"}", b"x" * 300_000, b"\xff")):
        store.manifest(f"registry.ollama.ai/library/m{n}/latest", model=weights, params=store.blob(data))
    nested = b'{"num_ctx": ' + b"[" * 900 + b"]" * 900 + b"}"
    store.manifest("registry.ollama.ai/library/nested/latest", model=weights, params=store.blob(nested))
    found = ollama.read(store.root)
    assert {e.name for e in found.entries} == {"m0", "m1", "m2", "m3", "nested"}
    assert any("nested: context_length: " in said for said in found.left)
    assert "context_length" not in meaning(rendered(found, "x"))["models"]["nested"]


def test_a_store_without_end_is_cut(store: Store) -> None:
    place = store.root / "manifests"
    for _ in range(150):
        place /= "d"
    place.mkdir(parents=True)
    (place / "x").write_text("{}")
    many = store.root / "manifests/many"
    many.mkdir()
    for n in range(10_050):
        (many / str(n)).touch()
    found = ollama.read(store.root)
    assert not found.entries
    assert sum(map(len, found.left)) < 500 * 600


@given(st.text(max_size=60))
@example("\u2028")
@example("\ud800")
@example("\x85a: b")
def test_any_text_is_written_as_ascii_and_read_back(text: str) -> None:
    for value in (text, [text], {text: text}, {"a": [{"b": [text]}]}):
        written = yaml_text.dump({"x": value})
        assert written.isascii()
        assert all(line.isprintable() for line in written.split("\n"))
        assert meaning(written) == {"x": value}


def test_what_an_import_says_commands_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "\x1b]0;x\x07.yaml"
    evil = "\\e[2J\\n"
    path.write_text(f'models: {{"{evil}a": {{cmd: "llama-server --{evil} -m /x{evil}"}}, b: "{evil}"}}\n"{evil}c": 1\n')
    for words in ([str(path)], [str(path) + "\x1b[2J"], ["-o", str(tmp_path / "no\x1b[2J"), str(path)]):
        done = subprocess.run(
            [sys.executable, "-m", "lmxd", "import", "llama-swap", *words], capture_output=True, timeout=60
        )
        for said in (done.stdout.decode(), done.stderr.decode()):
            assert all(line.isprintable() for line in said.split("\n"))


def test_the_engine_that_lmxd_finds_by_itself_is_no_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "bin" / "llama-server"
    own.parent.mkdir()
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(own.parent))
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"models": {"m": {"cmd": f"{own} -m /x.gguf"}}}))
    found = llama_swap.read(path)
    assert (found.suggested, found.left) == ({}, [])


@pytest.mark.parametrize("number", ["²", "9" * 5000])
@pytest.mark.parametrize("key", ["ctx-size", "n-gpu-layers", "c", "threads"])
def test_what_is_no_number_in_presets_is_said(tmp_path: Path, key: str, number: str) -> None:
    path = tmp_path / "models.ini"
    path.write_text(f"[a]\nmodel = /x.gguf\n{key} = {number}\n")
    found = llama_server.read(path)
    assert [entry.settings for entry in found.entries] == [{"path": "/x.gguf", "context_length": 0}]
    assert "which is no number" in found.left[0]
