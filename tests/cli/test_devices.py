"""The table of devices, as wide as a terminal: what it leaves out, and that it adds up."""

from __future__ import annotations

from functools import partial

import pytest
from cli.card import GIB, card
from cli.test_views import drawn

from lmxd.cli import devices, output
from lmxd.devices.diagnostics import fault

UUID = "GPU-01a4c5e8-1111-2222-3333-444455556666"
device = partial(card, id=UUID, name="NVIDIA GeForce RTX 4070 Ti SUPER")


def test_it_fits_80_columns_and_adds_up() -> None:
    heading, row = drawn(output.filled(*devices.table([device()]), "no devices"))
    assert heading.split() == ["DEVICE", "NAME", "(IN", "GiB)", "CAPACITY", "MARGIN", "FOREIGN", "CHARGED", "HEADROOM"]
    assert row.split()[:6] == ["0:", "GPU-01a4c5e8", "RTX", "4070", "Ti", "SUPER"]
    capacity, *taken, headroom = map(float, row.split()[6:])
    assert capacity == sum(taken) + headroom


def test_a_column_is_there_if_one_device_needs_it() -> None:
    columns, rows = devices.table([device(), device(limit=20 * GIB, reclaiming=GIB, yielded=GIB)])
    assert {">LIMIT", ">RECLAIMING", ">YIELDED"} <= set(columns)
    assert [row[columns.index(">LIMIT")] for row in rows] == ["-", "20.0"]


def test_an_unavailable_device_has_no_figures_and_one_sentence() -> None:
    lost = device(capacity=0, margin=0, foreign=0, charged=0, unavailable="NVML: GPU is lost", remedy="reboot")
    _, (row,) = devices.table([lost])
    assert row == ["0: GPU-01a4c5e8", "RTX 4070 Ti SUPER", "-", "-", "0.0", "unavailable"]
    assert fault(lost) == (
        "0: GPU-01a4c5e8, NVIDIA GeForce RTX 4070 Ti SUPER, is unavailable: NVML: GPU is lost; remedy: reboot"
    )


def test_use_that_nobody_tells_is_not_told_as_none() -> None:
    _, (row,) = devices.table([device(lower_bound=True, foreign=0)])
    assert "not known" in row
    _, (row,) = devices.table([device(lower_bound=True)])
    assert "at least 3.0" in row


def test_a_pools_sentence_names_all_that_draw_from_it() -> None:
    def note(*views: str) -> str:
        (said,) = devices.notes([device(id="memory", ref="memory", kind="pool", views=list(views))])
        return said.partition(" draw ")[0]

    assert note(UUID) == "GPU-01a4c5e8 and all programs"
    assert note("0000:c5:00.0", "host") == "0000:c5:00.0 and host"
    assert note("0001:01:00.0", "0002:01:00.0") == "0001:01:00.0, 0002:01:00.0 and all programs"


def test_nothing_is_not_negative() -> None:
    _, (row,) = devices.table([device(headroom=-(2**20))])
    assert row[-1] == "0.0"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 80GB HBM3"),
        ("NVIDIA RTX A2000", "RTX A2000"),
        ("AMD Radeon RX 7900 series", "RX 7900 series"),
        ("AMD Radeon 8060S, 8050S", "Radeon 8060S, 8050S"),
        ("AMD GPU 1002:163f", "AMD GPU 1002:163f"),
        ("Intel Arc A770", "Arc A770"),
        ("Orin (nvgpu)", "Orin (nvgpu)"),
        ("NVIDIA GPU", "NVIDIA GPU"),
        ("RAM", "RAM"),
    ],
)
def test_a_name_is_without_its_maker_where_it_says_enough(name: str, shown: str) -> None:
    _, (row,) = devices.table([device(name=name)])
    assert row[1] == shown
