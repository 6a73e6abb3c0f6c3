"""The dashboard's page by its source: what only shows when a machine is full of foreign processes."""

from __future__ import annotations

import re

import pytest

from lmxd.gateway.board.web_page import WebPage

PAGE = WebPage()
ENOUGH = 4.5
"""Of WCAG 2.2, for small text."""


def luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_name_of_a_foreign_process_can_be_read_on_its_part_of_the_bar(theme: str) -> None:
    light, *dark = re.findall(r"--foreign: (#\w+)", PAGE.style)
    (text,) = re.findall(rf":root\[data-theme={theme}\] \.bar > span {{ color: (#\w+)", PAGE.style)
    assert dark
    for ground in [light] if theme == "light" else dark:
        assert contrast(text, ground) >= ENOUGH


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_name_of_a_model_can_be_read_on_its_part_of_the_bar(theme: str) -> None:
    found = re.findall(r"--own-(\d+): (#\w+)", PAGE.style)
    per_theme = len(found) // 3
    shades = found[:per_theme] if theme == "light" else found[per_theme:]
    (text,) = re.findall(rf":root\[data-theme={theme}\] \.bar > span {{ color: (#\w+)", PAGE.style)
    assert {number for number, _ in shades} == {str(number) for number in range(12)}
    assert [shade for _, shade in shades if contrast(text, shade) < ENOUGH] == []


def test_it_is_one_document_that_runs_nothing_but_its_own() -> None:
    policy = PAGE.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", PAGE.body)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", PAGE.script)
