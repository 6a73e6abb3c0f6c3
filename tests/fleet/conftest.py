"""Many processes are started here: a machine with other work takes several times as long as an idle one."""

from __future__ import annotations

from pathlib import Path

import pytest

_SECONDS = 400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hooks see the tests of all rooms."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(_SECONDS))
