"""The relay that ``lmxctl run`` has for a program with an elastic lease: what others see of it, and what is left."""

from __future__ import annotations

import json
from pathlib import Path

from house import fake_engine, model
from lmxd_process import Lmxd

PEEK = """
printf '%s\\n' "$OPENAI_API_KEY" "$LMXD_ENDPOINT_SOCKET" "$(stat -c %a "${LMXD_ENDPOINT_SOCKET%/*}")"
tr '\\0' ' ' < /proc/$PPID/cmdline; env | grep -c "$OPENAI_API_KEY"
"""


def test_a_relay_is_for_its_program_alone_and_goes_with_it(tmp_path: Path) -> None:
    model(tmp_path, "m", counts=True)
    profile = {"context_length": 2048, "estimated_memory_gb": 0.1, "elastic": {"start": 512}}
    config = {"gpu": {"device": "host", "max_memory_gb": 2}, "engine": {"path": str(fake_engine(tmp_path))}}
    places = {"XDG_RUNTIME_DIR": "", "TMPDIR": str(tmp_path / "t")}
    (tmp_path / "t").mkdir()
    with Lmxd(tmp_path, config | {"model_dir": str(tmp_path), "models": {"m": profile}}, places) as lmxd:
        done = lmxd.lmxctl("run", "m", "--json", "--", "sh", "-c", PEEK)
        assert done.returncode == 0, done.stderr
        key, socket, mode, argv = done.stdout.splitlines()[:4]
        assert (mode, key in argv, key in done.stderr, key in lmxd.log.read_text()) == ("700", False, False, False)
        assert json.loads(done.stderr)["api_key"] != key
        assert not list((tmp_path / "t").glob("lmxd-run-*"))
        assert socket.startswith(places["TMPDIR"])
        long = tmp_path / ("t" * 80)
        long.mkdir()
        lmxd.env["TMPDIR"] = str(long)
        done = lmxd.lmxctl("run", "m", "--", "true")
        assert done.returncode == 78
        assert "TMPDIR" in done.stderr
        lmxd.until(lambda: not any(i.leases for i in lmxd.instances().values()))
