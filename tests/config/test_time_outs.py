"""How long an instance may take to load and to end: as its profile says, else its engine, else all engines."""

from __future__ import annotations

from pathlib import Path

from lmxd.config.file import parse
from lmxd.migrate import large_model_proxy, llama_server, llama_swap

CONFIG = """
engine: {load_timeout: 100, stop_timeout: 9}
engines: {slow: {kind: vllm, load_timeout: 20m}}
models:
  plain: {}
  slow: {engine: slow}
  slower: {engine: slow, load_timeout: 1h, stop_timeout: 2m}
  other: {command: [/x/e, "{socket}"], estimated_memory_gb: 1, load_timeout: 5}
"""


def test_a_profile_overrides_its_engine_and_that_all_engines() -> None:
    config = parse(CONFIG, "test")
    found = config.engines_of_models()
    assert {name: (each.load_timeout, each.stop_timeout) for name, each in found.items()} == {
        "plain": (100, 9),
        "slow": (1200, 9),
        "slower": (3600, 120),
        "other": (5, 9),
    }


def test_instances_with_other_time_outs_are_interchangeable() -> None:
    config = parse(CONFIG, "test")
    found = config.engines_of_models()
    slow, slower = (config.models[name].variant(found[name]) for name in ("slow", "slower"))
    assert slow == slower


def test_what_other_programs_say_of_one_model_is_carried_over(tmp_path: Path) -> None:
    swap, proxy, ini = tmp_path / "config.yaml", tmp_path / "config.json", tmp_path / "models.ini"
    swap.write_text("models: {m: {cmd: llama-server -m /m.gguf, unloadTimeout: 45}}")
    proxy.write_text(
        '{"Services": [{"Name": "m", "Command": "llama-server", "Args": "-m /m.gguf",'
        ' "StartupTimeoutMilliseconds": 90000}]}'
    )
    ini.write_text("[m]\nmodel = /m.gguf\nstop-timeout = 30\n[n]\nmodel = /n.gguf\nstop-timeout = x\n")
    assert llama_swap.read(swap).by_name()["m"].settings["stop_timeout"] == 45
    assert large_model_proxy.read(proxy).by_name()["m"].settings["load_timeout"] == 90
    found = llama_server.read(ini)
    assert found.by_name()["m"].settings["stop_timeout"] == 30
    assert "stop_timeout" not in found.by_name()["n"].settings
