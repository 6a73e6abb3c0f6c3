"""A service's capabilities are its own, not those of what it starts."""

from __future__ import annotations

import os
import subprocess
import sys

from unit_process import ROOT, interpreter, needs_unit

_SHOW = "print(*[line.split()[1] for line in open('/proc/self/status') if line[:6] in ('CapEff', 'CapAmb')])"
_PARENT = f"""
import subprocess, sys
from lmxd.confinement.capabilities import keep_from_children
keep_from_children()
{_SHOW}
sys.stdout.flush()
subprocess.run([sys.executable, "-c", {_SHOW!r}], check=True)
"""


@needs_unit
def test_an_ambient_capability_is_kept_and_not_passed_on() -> None:
    user = ["--reuid=64999", "--regid=64999", "--clear-groups"]
    given = ["--inh-caps=-all,+perfmon", "--ambient-caps=-all,+perfmon", "--bounding-set=-all,+perfmon"]
    command = ["setpriv", *user, *given, "/usr/bin/env", f"PYTHONPATH={os.pathsep.join((str(ROOT), *sys.path))}"]
    done = subprocess.run([*command, interpreter(), "-c", _PARENT], capture_output=True, text=True, check=True)
    none = "0" * 16
    assert done.stdout.splitlines() == [f"{1 << 38:016x} {none}", f"{none} {none}"]
