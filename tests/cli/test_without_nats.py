"""Commands of a fleet where the packages of lmxd[fleet] are not installed: the remedy is said, by each of them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from groups import commands_of

from lmxd.cli.fleet.commands import fleet

_WITHOUT = """
import sys
for name in ("nats", "msgspec", "cryptography"):
    sys.modules[name] = None
from lmxd.cli.main import main
main(sys.argv[1:])
"""
ARGUMENTS = {"plan": ["m"], "drain": ["n1"], "copy": ["m", "n1"]}


@pytest.mark.parametrize("name", commands_of(fleet))
def test_a_command_says_what_is_to_be_installed(name: str) -> None:
    command = [sys.executable, "-c", _WITHOUT, "fleet", name, *ARGUMENTS.get(name, [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, "install 'lmxd[fleet]'" in done.stderr) == (78, True), done.stderr
