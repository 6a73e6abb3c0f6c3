"""The daemon and its commands as programs, on a machine whose driver is of no use yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lmxd_process import Lmxd

REPOSITORY = Path(__file__).parent.parent.parent
NVML = """
import os
from pathlib import Path
from devices.fake_nvml import Card, FakeNvml
_nvml = FakeNvml(Card("GPU-a", 24 * 2**30))
def __getattr__(name):
    _nvml.init_fault = int(Path(os.environ["NVML_FAULT"]).read_text()) or None
    return getattr(_nvml, name)
"""


@pytest.mark.parametrize(
    ("code", "remedy"), [(18, "reload the nvidia modules"), (9, "modprobe nvidia"), (4, "let lmxd open")]
)
def test_a_driver_that_is_of_no_use_is_told_with_its_remedy_until_it_is(tmp_path: Path, code: int, remedy: str) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake/pynvml.py").write_text(NVML)
    fault = tmp_path / "fault"
    fault.write_text(str(code))
    paths = (tmp_path / "fake", REPOSITORY, REPOSITORY / "tests")
    env = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "NVML_FAULT": str(fault)}
    with Lmxd(tmp_path, {"gpu": {"device": 0}}, env) as lmxd:
        for words in (("status",), ("devices",), ("why", "0")):
            shown = lmxd.lmxctl(*words).stdout
            assert "unavailable" in shown
            assert remedy in " ".join(shown.split())
        assert lmxd.log.read_text().count(remedy) == 1
        fault.write_text("0")
        lmxd.until(lambda: lmxd.json("devices")["devices"][0]["unavailable"] is None)
        assert lmxd.json("devices")["devices"][0]["id"] == "GPU-a"
        assert remedy not in lmxd.lmxctl("status").stdout
