"""``lmxd setup`` where others, accidents and odd names are in the way."""

from __future__ import annotations

import os
import re
import site
import subprocess
import sys
from pathlib import Path

import pytest
from house import fake_engine, model
from setup.test_setup import ROOT, SYSTEMD, Newcomer, said
from waiting import wait_until


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a model."""
    model(tmp_path, "small")
    return tmp_path


@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "nowhere", "itself"])
def test_a_configuration_that_is_no_file_is_an_error_at_once(directory: Path, kind: str) -> None:
    """A pipe could be waited for without an end; and root could put a file in the place of /dev/null."""
    with Newcomer() as newcomer:
        fake_engine(newcomer.bin)
        newcomer.config.parent.mkdir(parents=True)
        if kind == "pipe":
            os.mkfifo(newcomer.config)
        elif kind == "directory":
            newcomer.config.mkdir()
        else:
            place = {"device": Path(os.devnull), "nowhere": directory / "none", "itself": newcomer.config}[kind]
            newcomer.config.symlink_to(place)
        before = newcomer.config.lstat()[:3]
        done = newcomer.run("setup", "--user", "--yes", directory)
        assert done.returncode == 78, done.stdout + done.stderr
        assert f"{newcomer.config}: cannot be read" in done.stderr
        assert newcomer.config.lstat()[:3] == before
        assert not (directory / "none").exists()
        added = newcomer.run("init", directory, "-o", newcomer.config)
        assert (added.returncode, newcomer.config.lstat()[:3]) == (78, before), added.stderr
        if kind != "nowhere":
            anew = newcomer.run("init", "--force", directory, "-o", newcomer.config)
            assert (anew.returncode, newcomer.config.lstat()[:3]) == (78, before), anew.stderr


def test_a_unit_that_is_masked_stays_so(directory: Path) -> None:
    with Newcomer(SYSTEMD) as newcomer:
        fake_engine(newcomer.bin)
        unit = newcomer.home / ".config/systemd/user/lmxd.service"
        unit.parent.mkdir(parents=True)
        unit.symlink_to(os.devnull)
        done = newcomer.run("setup", "--user", "--yes", directory, UNITS="1")
        assert done.returncode == 78, done.stdout
        assert "not a regular file" in done.stderr
        assert unit.readlink() == Path(os.devnull)
        assert not newcomer.config.exists(), "it is said before anything is written"


def test_a_program_in_an_odd_directory_has_a_unit_that_starts_it(directory: Path) -> None:
    with Newcomer(SYSTEMD) as newcomer:
        fake_engine(newcomer.bin)
        place = directory / 'a "b" 100%s \\x'
        place.mkdir()
        program = place / "python"
        program.symlink_to(sys.executable)
        env = newcomer.env | {"UNITS": "1", "PYTHONPATH": ":".join([str(ROOT), *site.getsitepackages()])}
        asked = [str(program), "-m", "lmxd", "setup", "--user", "--yes", str(directory)]
        subprocess.run(asked, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=100)
        unit = (newcomer.home / ".config/systemd/user/lmxd.service").read_text()
        written = str(place / "lmxd").replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
        assert f'ExecStart="{written}" --user\n' in unit


def test_directories_that_are_no_absolute_paths_do_not_count(directory: Path) -> None:
    with Newcomer() as newcomer:
        fake_engine(newcomer.bin)
        odd = {"XDG_CONFIG_HOME": "here", "XDG_STATE_HOME": "", "XDG_DATA_HOME": "../x", "XDG_RUNTIME_DIR": "."}
        newcomer.setup(directory, **odd, XDG_CACHE_HOME="cache")
        assert newcomer.config.exists()
        assert {path.name for path in newcomer.home.iterdir()} <= {".config", ".local", ".cache"}


def test_of_several_at_once_one_makes_the_key_and_all_end_well_or_say_why(directory: Path) -> None:
    with Newcomer() as newcomer:
        fake_engine(newcomer.bin)
        asked = [sys.executable, "-m", "lmxd", "setup", "--user", "--yes", str(directory)]
        running = [
            subprocess.Popen(
                asked,
                cwd=newcomer.home,
                env=newcomer.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for _ in range(3)
        ]
        told = [each.communicate(timeout=200)[0] for each in running]
        for words in told:
            if pids := re.search(r"kill -INT ([0-9 ]+)", words):
                newcomer.started += map(int, pids[1].split())
        keys = [key for words in told for key in re.findall(r"^key +(lmxd-\S+)", words, re.M)]
        assert len(keys) == 1, "a second one would have ended the first"
        assert len(newcomer.started) == 2
        for each, words in zip(running, told, strict=True):
            assert each.returncode == 0 or "changed since it was shown" in words
        assert said(newcomer.setup(directory), "base URL")


def test_what_somebody_changes_while_it_is_shown_is_kept(directory: Path) -> None:
    """The question waits for as long as a person does."""
    with Newcomer() as newcomer:
        fake_engine(newcomer.bin)
        newcomer.config.parent.mkdir(parents=True)
        newcomer.config.write_text("models: {}\n")
        outer, inner = os.openpty()
        asked = [sys.executable, "-m", "lmxd", "setup", "--user", str(directory)]
        child = subprocess.Popen(
            asked, env=newcomer.env, stdin=inner, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )
        assert child.stdout is not None
        told = ""
        while "start" not in told:
            line = child.stdout.readline()
            assert line, told
            told += line
        newcomer.config.write_text("# somebody's\nmodels: {}\n")
        os.write(outer, b"y\n")
        told += child.communicate(timeout=100)[0]
        os.close(outer)
        os.close(inner)
        assert child.returncode == 78, told
        assert "changed since it was shown" in told
        assert newcomer.config.read_text() == "# somebody's\nmodels: {}\n"


SERVER = """
import http.server, os, encodings.idna
os.setgid(65534)
os.setuid(65534)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(FILE, "a").write(str(self.headers))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<title>lmxd</title>")
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_no_key_is_sent_to_another_user_who_poses_as_the_gateway(directory: Path) -> None:
    with Newcomer() as newcomer:
        fake_engine(newcomer.bin)
        seen = Path(newcomer.home.parent) / "seen"
        seen.touch()
        script = SERVER.replace("FILE", repr(str(seen)))
        other = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            text=True,
        )
        seen.chmod(0o666)
        newcomer.home.parent.chmod(0o755)
        try:
            assert other.stdout is not None
            port = int(other.stdout.readline())
            newcomer.config.parent.mkdir(parents=True)
            newcomer.config.write_text(f"gateway: {{listen: '127.0.0.1:{port}', keys_file: {newcomer.keys}}}\n")
            done = newcomer.run("setup", "--user", "--yes", directory)
        finally:
            other.terminate()
            wait_until(lambda: other.poll() is not None)
        assert done.returncode == 69, done.stdout
        assert "address already in use" in done.stderr.lower()
        assert seen.read_text() == ""
