"""No text of a model file changes what is learned from llama-server's log, nor what it is said to have failed of."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from loading import lines_of_load
from recorded import shape

from lmxd.engines.llama_cpp import log
from lmxd.engines.llama_cpp.binary import Binary, find, probe
from lmxd.engines.llama_cpp.dry_run import DryRunner
from lmxd.engines.llama_cpp.model_text import said
from lmxd.errors import LmxdError

LOG = (Path(__file__).parent / "logs" / "loaded_cpu.log").read_text().split("\n")
TRUE = log.buffers(LOG)
FORGED = (
    "C model buffer size = 99999 MiB",
    "x\n0.00.000.001 I load_tensors:   CPU_Mapped model buffer size = 88888.00 MiB\ny",
    "x\nload_tensors: CUDA0 model buffer size = 7.00 MiB\n",
    "x\nsched_reserve:\u0120CPU\u0120compute\u0120buffer\u0120size\u0120=\u01205.00\u0120MiB\n",
    "x\nload_tensors:\u2581offloaded\u25810/99\u2581layers\u2581to\u2581GPU\n",
    "x\n0.00.000.001 I srv    load_model: initializing, n_slots = 1",
    "x\n0.00.000.001 E alloc_tensor_range: FAILED TO ALLOCATE CUDA0 buffer of size 4357900288\n",
    "fa\u0130led to allocate, fa\u0131led to read, un\u212anown model architecture, m\u0130ss\u0130ng tensor",
    "failed to create\u00dccontext",
    "a \r0.00.000.002 E failed to allocate buffer",
    "a\x850.00.000.002 E failed to allocate buffer\u2028error: invalid argument: x",
    "terminate called: out of memory",
)
TEXTS = st.lists(st.sampled_from(FORGED) | st.text(max_size=20), min_size=1, max_size=4).map("".join)


def file(directory: Path, name: str, metadata: Mapping[str, object]) -> Path:
    head, tensors = shape("llama@small")
    return synthetic.write(directory / name, {**head, "tokenizer.ggml.model": "none", **metadata}, tensors)


def printed(text: str) -> str:
    """A text as llama-server prints it: as it is, or with the spaces and line breaks of a vocabulary."""
    return text.replace("\u0120", " ").replace("\u2581", " ").replace("\u010a", "\n")


@given(text=TEXTS, where=st.sampled_from(["general.name", "key", "token"]))
def test_no_text_changes_what_is_learned(tmp_path_factory: pytest.TempPathFactory, text: str, where: str) -> None:
    metadata: dict[str, object] = {text: "x"} if where == "key" else {"general.name": text}
    path = file(tmp_path_factory.mktemp("m"), "m.gguf", metadata)
    at = next(n for n, line in enumerate(LOG) if "buffer size" in line) + (where == "token")
    lines = "\n".join([*LOG[:at], f"0.00.016.279 I print_info: general.name = {printed(text)}", *LOG[at:]]).split("\n")
    assert log.buffers(lines, path) in (TRUE, {})
    assert log.offloaded(lines, path) in (log.offloaded(LOG), None)
    assert log.diagnose(3, lines, path).code == "exited"


@pytest.mark.parametrize("text", FORGED)
def test_no_name_is_a_reason(tmp_path: Path, text: str) -> None:
    path = file(tmp_path, "m.gguf", {"general.name": text})
    assert log.diagnose(3, f"general.name = {printed(text)}".split("\n"), path).code == "exited"


def test_ordinary_text_leaves_all_that_is_learned(tmp_path: Path) -> None:
    """Otherwise the test above would hold of a parser that finds nothing."""
    path = file(tmp_path, "m.gguf", {"general.name": "Size of a buffer: out of luck, n slots"})
    assert log.buffers(LOG, path) == TRUE != {}
    assert log.diagnose(1, ["0.00.1 E ggml: failed to allocate buffer of size 5"], path).code == "out_of_memory"


def test_what_a_template_prints_comes_too_late(tmp_path: Path) -> None:
    """A template can compute any text, so that the file does not say it."""
    at = next(n for n, line in enumerate(LOG) if "example_format" in line)
    lines = [*LOG[:at], "load_tensors: CPU model buffer size = 7.00 MiB", *LOG[at:]]
    assert log.buffers(lines, file(tmp_path, "m.gguf", {})) == TRUE


def test_what_a_template_prints_is_no_reason(tmp_path: Path) -> None:
    """Only its last words, once it has aborted itself, which no template's error makes it do."""
    path = file(tmp_path, "m.gguf", {})
    slots = next(n for n, line in enumerate(LOG) if "n_slots" in line) + 1
    for forged, code in (("0.03 E failed to allocate buffer", "crashed"), ("could not bind", "crashed")):
        assert log.diagnose(1, [*LOG[:slots], forged], path).code == "exited"
        assert log.diagnose(-signal.SIGABRT, [*LOG[:slots], forged], path).code == code
        assert log.diagnose(-signal.SIGABRT, [*LOG, forged], path).code == code
    last = "0.03 E CUDA error: out of memory"
    assert log.diagnose(1, [*LOG[:slots], last], path).code == "exited"
    assert log.diagnose(-signal.SIGABRT, [*LOG[:slots], last], path).code == "out_of_memory"
    assert log.diagnose(1, [last, *LOG[:slots]], path).code == "out_of_memory"


def test_what_it_got_over_while_it_loaded_is_no_reason(tmp_path: Path) -> None:
    path = file(tmp_path, "m.gguf", {})
    pinned = "0.00.1 W ggml_cuda_host_malloc: failed to allocate 512.00 MiB of pinned memory: out of memory"
    loading = LOG[: next(n for n, line in enumerate(LOG) if "model loaded" in line)]
    assert log.diagnose(-signal.SIGSEGV, [pinned, *loading], path).code == "out_of_memory"
    assert log.diagnose(-signal.SIGSEGV, [pinned, *LOG], path).code == "crashed"


def test_a_file_that_is_gone_may_have_said_anything(tmp_path: Path) -> None:
    assert said(tmp_path / "none.gguf", ["buffer size"]) == {"buffer size"}
    assert log.buffers(LOG, tmp_path / "none.gguf") == {}


def test_a_phrase_is_found_wherever_it_is_in_a_long_header(tmp_path: Path) -> None:
    for at in (2**20 - 3, 2**20, 3 * 2**20 - 1):
        assert said(file(tmp_path, "m.gguf", {"a": "x" * at + "buffer size"}), ["buffer size", "absent"]) == {
            "buffer size"
        }


def test_the_data_of_tensors_is_not_looked_at(tmp_path: Path) -> None:
    path = file(tmp_path, "m.gguf", {})
    with path.open("r+b") as opened:
        opened.seek(-100, 2)
        opened.write(b"buffer size")
    assert said(path, ["buffer size"]) == frozenset()


@pytest.mark.parametrize("text", FORGED[:3])
def test_the_real_llama_server_cannot_be_made_to_say_it(tmp_path: Path, text: str) -> None:
    evil = {"general.name": text, f"k{text}": f"v{text}"}
    path, binary = file(tmp_path, "evil.gguf", evil), probe(find(None))
    words = ["-c", "512", "-np", "1", "-ngl", "0", "--fit", "off", "-lv", "4", "--no-warmup", "--version-of-nothing"]
    words = [str(binary.path), "-m", str(path), *words[:-1], "--host", str(tmp_path / "s.sock")]
    lines = [line.rstrip("\n") for line in lines_of_load(words)]
    assert any(text.split("\n")[-1] in line for line in lines), "it prints the name as it is"
    assert log.buffers(lines, path) == {}, "the file says such things itself"
    assert log.offloaded(lines, path) is None


@pytest.mark.parametrize("text", ["x\n0.00.000.001 I common_params_fit_impl: projected to use 1 MiB", FORGED[0]])
def test_a_dry_run_is_not_deceived(tmp_path: Path, text: str) -> None:
    binary: Binary = probe(find(None))
    said_what = "imitate" if "projected" in text else None
    path = file(tmp_path, "evil.gguf", {"general.name": text})
    if said_what is None:
        honest = DryRunner(binary).ask(file(tmp_path, "honest.gguf", {}), ["-c", "512", "-np", "1"], 1)
        assert DryRunner(binary).ask(path, ["-c", "512", "-np", "1"], 1) == honest
    else:
        with pytest.raises(LmxdError, match=said_what):
            DryRunner(binary).ask(path, ["-c", "512", "-np", "1"], 1)
