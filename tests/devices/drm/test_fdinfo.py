"""The parsers of the kernel's files: whatever is in them, figures are counts or are left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from drm_trees import GIB, Machine, fdinfo
from hypothesis import given
from hypothesis import strategies as st

from lmxd.devices.driver_calls import CallRound, DriverCalls
from lmxd.devices.drm.client_scan import ClientScan, SeenClients
from lmxd.devices.drm.fdinfo import parse
from lmxd.devices.drm.ioctls import decode_i915, decode_xe
from lmxd.devices.drm.kernel_files import number

AT = "0000:03:00.0"


@pytest.mark.parametrize(
    ("keys", "held"),
    [
        ({"resident_vram": "3 KiB", "memory_vram": "4 KiB", "total_vram": "5 KiB"}, 3 * 2**10),
        ({"memory_vram": "4 MiB", "total_vram": "5 KiB"}, 4 * 2**20),
        ({"total_vram": "5 GiB"}, 5 * 2**30),
        ({"total_vram": "7"}, 7),
        ({"resident_vram": "-3 KiB", "memory_vram": "4 KiB"}, 4 * 2**10),
        ({"resident_vram": "18446744073709551612 KiB", "memory_vram": "4 KiB"}, 4 * 2**10),
        ({"resident_vram": "3 parsecs"}, 0),
        ({"resident_vram": ""}, 0),
        ({"resident_vram": "0", "total_vram": "9 GiB"}, 0),
    ],
)
def test_the_best_figure_counts_in_its_unit(keys: dict[str, str], held: int) -> None:
    client = parse(fdinfo("amdgpu", AT, 1, **keys))
    assert client is not None
    assert client.held(("vram",)) == held


def test_what_is_no_gpus_is_none() -> None:
    assert parse("") is None
    assert parse("pos:\t0\nflags:\t02\npasid:\t3") is None


@given(st.text())
def test_any_text_is_a_client_or_none(content: str) -> None:
    client = parse(content)
    assert client is None or all(0 <= size <= 2**50 for size in client.resident.values())


_WORDS = st.sampled_from(["drm-driver", "drm-client-id", "drm-pdev", "pasid", "drm-resident-vram", "drm-shared-vram"])


@given(st.lists(st.tuples(_WORDS, st.text(alphabet="0123456789-.: KiMBGxe²\n", max_size=24))))
def test_any_values_are_counts_or_left_out(lines: list[tuple[str, str]]) -> None:
    client = parse("\n".join(f"{key}:\t{value}" for key, value in lines))
    if client is not None:
        assert client.shared.get("vram", 0) <= client.held(("vram",)) <= 2**50


@given(st.binary(max_size=600))
def test_any_answer_of_a_driver_is_regions(answer: bytes) -> None:
    for region in (*decode_xe(answer), *decode_i915(answer)):
        assert 0 <= region.used <= region.total


@given(st.text(max_size=30))
def test_a_number_is_a_count_or_refused(word: str) -> None:
    try:
        assert 0 <= number(word) <= 2**50
    except ValueError:
        assert not (word.isascii() and word.isdecimal()) or int(word) > 2**50


def test_fdinfo_is_read_where_links_may_not_be(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.process(42, ("/dev/null", "pos:\t0"), ("/dev/dri/renderD128", fdinfo("xe", AT, 1, resident_vram0="1 GiB")))
    (tmp_path / "proc/42/fd").rename(tmp_path / "proc/42/elsewhere")
    scan, driver = ClientScan(machine.roots), CallRound(DriverCalls())
    assert [holder.client.held(("vram0",)) for holder in scan.of({42}, {}, driver).holders] == [GIB]
    assert scan.of({43}, {}, driver) == SeenClients(())
