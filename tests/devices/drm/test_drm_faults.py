"""Cards that fail, vanish or lie: a look never fails, and the healthy card beside them stays as it is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from drm_trees import GIB, MIB, Clock, Drivers, Machine, fdinfo
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from lmxd.devices.drm.probe import DrmProbe

BAD, GOOD, ARC = "0000:03:00.0", "0000:0a:00.0", "0000:0b:00.0"
SAYINGS = st.sampled_from(["", "-1", "0", "18446744073709551615", "0x", "garbage", "ÿ", "1 2", "9" * 30, "12\n34"])


@contextmanager
def machine() -> Iterator[Machine]:
    """Two cards of AMD's and one of Intel's, with a process on each."""
    with tempfile.TemporaryDirectory() as folder:
        its = Machine(Path(folder))
        its.amd(1, BAD, serial="a1", vram_total=16 * GIB, vram_used=GIB, gtt_total=8 * GIB, gtt_used=0)
        its.amd(2, GOOD, serial="b2", vram_total=24 * GIB, vram_used=2 * GIB, gtt_total=8 * GIB, gtt_used=0)
        its.card(3, ARC, "xe", "0xe20b", 130)
        its.kfd(1, BAD, 16 * GIB)
        its.kfd(2, GOOD, 24 * GIB)
        for pid, address, driver, region in ((41, BAD, "amdgpu", "vram"), (42, GOOD, "amdgpu", "vram")):
            content = fdinfo(driver, address, pid, **{f"resident_{region}": "300 MiB"})
            its.process(pid, (f"/dev/dri/renderD{pid + 87}", content))
        yield its


def of_the_bad_card(its: Machine) -> list[Path]:
    """The files that only it has."""
    places = (
        "sys/class/drm/card1/device",
        "sys/class/drm/renderD128/device",
        "sys/class/kfd/kfd/topology/nodes/1",
        "proc/41",
    )
    return sorted(path for place in places for path in (its.root / place).rglob("*") if path.is_file())


@settings(max_examples=examples(15))
@given(st.data())
def test_a_card_whose_files_are_wrong_spoils_no_other(data: st.DataObject) -> None:
    with machine() as its:
        looking = DrmProbe(None, roots=its.roots, ioctl=Drivers({"renderD130": [(1, GIB, MIB)]}), clock=Clock())
        for _ in range(data.draw(st.integers(1, 3))):
            for path in data.draw(st.lists(st.sampled_from(of_the_bad_card(its)), max_size=6, unique=True)):
                said = data.draw(SAYINGS | st.none())
                if said is None:
                    path.unlink(missing_ok=True)
                elif path.exists():
                    path.write_text(said)
            found = {m.pci: m for m in looking.measure({41, 42})}
            good = found[GOOD]
            assert (good.id, good.unavailable) == ("GPU-00000000000000b2", None)
            assert (good.capacity, good.used, good.pool) == (24 * GIB, 2 * GIB, None)
            assert good.processes is not None
            assert good.processes[42].total == 300 * MIB
            assert (found[ARC].capacity, found[ARC].used) == (GIB, MIB)
            if BAD in found and found[BAD].unavailable is None:
                assert 0 <= found[BAD].used <= found[BAD].capacity


def test_cards_that_go_in_the_middle_of_a_look(tmp_path: Path) -> None:
    """Intel's is asked after AMD's were found, and before their processes are looked at again."""
    with machine() as its:

        class Unplugging(Drivers):
            def __call__(self, descriptor: int, request: int, argument: bytearray) -> int:
                shutil.rmtree(its.root / "sys/class/drm/card1", ignore_errors=True)
                shutil.rmtree(its.root / "proc/41", ignore_errors=True)
                return super().__call__(descriptor, request, argument)

        looking = DrmProbe(None, roots=its.roots, ioctl=Unplugging({"renderD130": [(1, GIB, MIB)]}), clock=Clock())
        looking.measure({41, 42})
        found = {m.pci: m for m in looking.measure({41, 42})}
        assert found[BAD].unavailable == f"the card {BAD} is gone"
        assert found[GOOD].unavailable is None


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), OSError(19, "No such device")])
def test_a_driver_that_fails_for_a_while_keeps_the_cards_name(tmp_path: Path, fault: OSError) -> None:
    with machine() as its:

        class Failing(Drivers):
            fails = False

            def __call__(self, descriptor: int, request: int, argument: bytearray) -> int:
                if self.fails:
                    raise fault
                return super().__call__(descriptor, request, argument)

        drivers = Failing({"renderD130": [(1, GIB, MIB)]})
        looking = DrmProbe({"2": ARC}, roots=its.roots, ioctl=drivers, clock=Clock())
        for drivers.fails in (False, True, False):
            (found,) = looking.measure(set())
            assert (found.id, found.ref) == (ARC, "2")
            assert (found.unavailable is not None) == drivers.fails
