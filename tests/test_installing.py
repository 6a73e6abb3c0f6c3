"""contrib/prepare.sh and make install, with a stand-in for Python: it makes venvs, and installs by copying."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from waiting import wait_until

import lmxd

ROOT = Path(__file__).parent.parent
PYTHON = f"""#!/bin/bash
# python: -m venv, -m pip, a program of the venv, or the real one
here=$(cd "$(dirname "$0")/.." && pwd)
case "$1 $2 $3" in
"-m venv --clear")
    rm -rf "$4"
    mkdir -p "$4/bin"
    cp "$0" "$4/bin/python"
    echo 'home = x' >"$4/pyvenv.cfg"
    echo '#' >"$4/bin/activate" ;;
"-m pip --version") test -e "$here/pyvenv.cfg" ;;
"-m pip "*)
    for word; do
        case $word in
        /*) word=${{word%%[*}}
            echo "$word" >>"$here/installed"
            rm -rf "$here/lmxd"
            cp -R "$word/lmxd" "$here/lmxd"
            mkdir "$word/build"
            for name in lmxd lmxctl; do
                printf '#!%s/bin/python\\n' "$here" >"$here/bin/$name"
                chmod +x "$here/bin/$name"
            done ;;
        esac
    done ;;
"-c import ensurepip "*) test -z "$NO_VENV" ;;
"-I "*) case $2 in */lmxd) module=lmxd ;; */lmxctl) module=lmxd.cli.main ;; esac
    said=$SAID/$module-$4  # every installation has the same words
    if ! test -e "$said"; then
        (cd {ROOT} && {sys.executable} -m $module "${{@:3}}" >"$said.new") && mv "$said.new" "$said"
    fi
    cat "$said" ;;
*) exec {sys.executable} "$@" ;;
esac
"""
TOOLS = """bash sh cat chmod cksum cp cut dirname echo find grep head id install ln ls make mkdir mktemp mv printf rm
    sed sort stat tr uname xargs"""


class Machine:
    """Sources of somebody's, and a machine with a few programs: ``say`` adds one."""

    def __init__(self, directory: Path, said: Path) -> None:
        self.said = said
        self.sources, self.bin = directory / "sources", directory / "bin"
        self.destination, self.venv = directory / "destination", directory / "venv"
        self.bin.mkdir()
        ignored = shutil.ignore_patterns("__pycache__", ".*", "build", "tests", "bench")
        shutil.copytree(ROOT, self.sources, ignore=ignored)
        for tool in TOOLS.split():
            if (found := shutil.which(tool)) is not None:
                (self.bin / tool).symlink_to(found)
        self.say("python3", PYTHON)
        self.say("ldconfig", "#!/bin/sh\necho libgomp.so.1 libatomic.so.1")
        self.say("apt-get", f'#!/bin/sh\necho "$@" >>{directory}/apt\n')
        self.say("apt-cache", f'#!/bin/sh\n! grep -qx "$2" {directory}/unknown\n')
        self.apt, self.unknown = directory / "apt", directory / "unknown"
        self.unknown.touch()

    def say(self, name: str, script: str) -> None:
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def is_of(self, uid: int) -> None:
        self.say("id", f"#!/bin/sh\necho {uid}")

    def run(self, *command: str | Path, umask: int = 0o022, **env: str) -> subprocess.CompletedProcess[str]:
        found = {"PATH": str(self.bin), "HOME": "/nonexistent", "SAID": str(self.said), **env}
        found.setdefault("PYTHON", str(self.bin / "python3"))
        return subprocess.run(
            command, cwd=self.sources, env=found, umask=umask, capture_output=True, text=True, timeout=100
        )

    def prepare(self, extras: str = "", *, umask: int = 0o022, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run("contrib/prepare.sh", self.venv, extras, umask=umask, **env)

    def times(self) -> int:
        """How often it was installed."""
        return len((self.venv / "installed").read_text().splitlines())

    def make_here(self, target: str) -> subprocess.CompletedProcess[str]:
        """Without DESTDIR, as root does it; each place is set, and systemd, which writes down what it is told, runs."""
        root, run = self.destination, self.destination / "run"
        (run / "systemd/system").mkdir(parents=True, exist_ok=True)
        self.say("systemctl", f'#!/bin/sh\necho "$@" >>{run}/told\n')
        usual = {
            "PREFIX": "usr/local",
            "LIBDIR": "opt/lmxd",
            "UNITDIR": "usr/lib/systemd/system",
            "USERUNITDIR": "usr/lib/systemd/user",
            "SYSUSERSDIR": "usr/lib/sysusers.d",
            "TMPFILESDIR": "usr/lib/tmpfiles.d",
            "ETCDIR": "etc/lmxd",
            "FISHDIR": "etc/fish/completions",
            "RUN": "run",
        }
        return self.run("make", target, "EXTRAS=", *(f"{name}={root / place}" for name, place in usual.items()))

    def told(self) -> list[str]:
        """Each command to systemd since the last time."""
        said = self.destination / "run/told"
        lines = said.read_text().splitlines()
        said.unlink()
        return lines

    def install(self, *, umask: int = 0o022, **places: str) -> Path:
        words = [
            f"{name}={value}" for name, value in {"DESTDIR": str(self.destination), "EXTRAS": "", **places}.items()
        ]
        done = self.run("make", "install", *words, umask=umask)
        assert done.returncode == 0, done.stdout + done.stderr
        return self.destination


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The completions that the real programs wrote, by program and shell."""
    return tmp_path_factory.mktemp("said")


@pytest.fixture
def machine(tmp_path: Path, said: Path) -> Machine:
    return Machine(tmp_path, said)


def test_a_change_is_installed_whatever_the_dates_say(machine: Machine) -> None:
    assert machine.prepare().returncode == 0
    changed = machine.sources / "lmxd/__init__.py"
    for text in ('__version__ = "9.9.9"\n', '__version__ = "9.9.9"  # the same version, changed\n'):
        changed.write_text(text)
        os.utime(changed, (0, 0))
        assert machine.prepare().returncode == 0
        assert (machine.venv / "lmxd/__init__.py").read_text() == text
    assert machine.times() == 3
    machine.prepare()
    assert machine.times() == 3, "nothing has changed"


def test_nothing_is_built_in_the_sources(machine: Machine) -> None:
    """Root would leave files there that their owner can neither overwrite nor remove."""
    before = sorted(machine.sources.rglob("*"))
    machine.install()
    assert sorted(machine.sources.rglob("*")) == before


@pytest.mark.parametrize("umask", [0o077, 0o002, 0o027])
def test_all_can_read_what_is_installed_and_its_owner_alone_write(machine: Machine, umask: int) -> None:
    machine.install(umask=umask)
    paths = [path for path in machine.destination.rglob("*") if not path.is_symlink()]
    assert len(paths) > 100
    assert [path for path in paths if path.stat().st_mode & 0o044 != 0o044 or path.stat().st_mode & 0o022] == []


def test_an_installation_that_followed_a_narrow_umask_is_mended(machine: Machine) -> None:
    machine.install()
    (machine.destination / "opt/lmxd").chmod(0o700)
    (machine.sources / "lmxd/__init__.py").write_text('__version__ = "9.9.9"\n')
    machine.install()
    assert (machine.destination / "opt/lmxd").stat().st_mode & 0o777 == 0o755


def test_a_venv_of_a_python_that_is_gone_is_made_anew(machine: Machine) -> None:
    machine.prepare()
    (machine.venv / "pyvenv.cfg").unlink()  # so that its pip does not run
    (machine.venv / "old").touch()
    machine.say("python3", PYTHON.replace("#!/bin/bash", "#!/bin/bash\n# another"))
    (machine.venv / ".installed-").write_text("by the older one")
    assert machine.prepare().returncode == 0
    assert not (machine.venv / "old").exists()


def test_a_user_is_asked_once_for_all_that_is_missing(machine: Machine) -> None:
    machine.is_of(1000)
    machine.say("ldconfig", "#!/bin/sh\n")
    done = machine.prepare("engine,test,model", NO_VENV="1")
    assert done.returncode == 1
    needed, wished = "python3-venv libgomp1 libatomic1 curl", "chromium gcc libc6-dev socat"
    assert f"apt-get install {needed} {wished} libvulkan1 mesa-vulkan-drivers\n" in done.stderr
    assert not machine.apt.exists()
    assert not machine.venv.exists()


def test_a_user_is_not_asked_for_what_only_some_tests_want(machine: Machine) -> None:
    machine.is_of(1000)
    for program in ("curl", "cc"):
        machine.say(program, "#!/bin/sh\n")
    done = machine.prepare("test", PYTHONWARNINGS="")
    assert done.returncode == 0, done.stderr
    wished = "chromium socat libvulkan1 mesa-vulkan-drivers"
    assert f"without {wished} some tests are skipped (as root: apt-get install {wished})\n" in done.stderr


def test_a_user_is_asked_for_nothing_that_the_distribution_has_not(machine: Machine) -> None:
    """apt would then install none of them."""
    machine.is_of(1000)
    machine.unknown.write_text("chromium\nsocat\n")
    done = machine.prepare("test")
    assert done.returncode == 1
    assert "apt-get install curl gcc libc6-dev libvulkan1 mesa-vulkan-drivers\n" in done.stderr


@pytest.mark.parametrize(("unknown", "packages"), [("", "prometheus promtool"), ("promtool\n", "prometheus")])
def test_prometheus_is_taken_out_of_the_packages_that_have_it(machine: Machine, unknown: str, packages: str) -> None:
    machine.is_of(1000)
    machine.say("curl", "#!/bin/sh\n")
    machine.unknown.write_text(unknown)
    assert machine.prepare("test").returncode == 0
    assert machine.apt.read_text() == f"download -q {packages}\n"


def test_for_root_one_that_cannot_be_had_keeps_no_other_away(machine: Machine, tmp_path: Path) -> None:
    machine.is_of(0)
    machine.say("apt-get", f'#!/bin/sh\necho "$@" >>{tmp_path}/apt\ncase $* in *chromium*) exit 100 ;; esac\n')
    done = machine.prepare("test")
    assert done.returncode == 0, done.stderr
    assert "chromium cannot be had: some tests are skipped\n" in done.stderr
    assert "install -y --no-install-recommends socat\n" in machine.apt.read_text()


def test_for_root_all_is_installed_together(machine: Machine) -> None:
    machine.is_of(0)
    machine.say("ldconfig", "#!/bin/sh\n")
    assert machine.prepare("engine", NO_VENV="1").returncode == 0
    assert machine.apt.read_text() == "install -y --no-install-recommends python3-venv libgomp1\n"


@pytest.mark.parametrize(("vendor", "wanted"), [("0x1002", True), ("0x8086", True), ("0x10de", False), ("", False)])
def test_the_driver_of_a_card_comes_with_the_engine_for_it(
    machine: Machine, tmp_path: Path, vendor: str, wanted: bool
) -> None:
    machine.is_of(1000)
    card = tmp_path / "sys/class/drm/card0/device/vendor"
    card.parent.mkdir(parents=True)
    card.write_text(f"{vendor}\n")
    done = machine.prepare("engine", SYSFS=str(tmp_path / "sys"))
    assert ("apt-get install libvulkan1 mesa-vulkan-drivers\n" in done.stderr) is wanted
    assert (done.returncode == 0) is not wanted


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_of_a_venv_that_root_made_a_user_is_told_what_to_do() -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        machine = Machine(Path(place), Path(place))
        machine.prepare()
        (machine.sources / "lmxd/__init__.py").write_text('__version__ = "9.9.9"\n')
        (machine.bin / "setpriv").symlink_to(str(shutil.which("setpriv")))
        user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        done = machine.run(*user, "contrib/prepare.sh", machine.venv)
        assert done.returncode == 1
        assert f"as root, rm -r {machine.venv}" in done.stderr


@pytest.mark.parametrize(
    ("prefix", "zsh", "fish"),
    [
        ("/usr/local", "usr/local/share/zsh/site-functions", "etc/fish/completions"),
        ("/usr", "usr/share/zsh/vendor-completions", "usr/share/fish/vendor_completions.d"),
    ],
)
def test_each_shell_finds_the_words_of_both_programs(machine: Machine, prefix: str, zsh: str, fish: str) -> None:
    root = machine.install(PREFIX=prefix)
    for program in ("lmxd", "lmxctl"):
        variable = f"_{program.upper()}_COMPLETE"
        for path in (
            f"{prefix[1:]}/share/bash-completion/completions/{program}",
            f"{zsh}/_{program}",
            f"{fish}/{program}.fish",
        ):
            assert variable in (root / path).read_text()
    assert (
        (root / "etc/lmxd/config.yaml")
        .read_text()
        .startswith(f"# yaml-language-server: $schema={prefix}/share/lmxd/config.schema.json\n")
    )
    assert f"ExecStart={prefix}/bin/lmxd --user\n" in (root / "usr/lib/systemd/user/lmxd.service").read_text()


def test_what_make_install_brings_make_uninstall_takes(machine: Machine) -> None:
    root = machine.install()
    done = machine.run("make", "uninstall", f"DESTDIR={root}")
    assert done.returncode == 0, done.stderr
    left = [path for path in root.rglob("*") if not path.is_dir()]
    assert left == [root / "etc/lmxd/config.yaml"]


RESTARTED = (
    "lmxd.service lmxd-gateway.service lmxd-fleet-broker.service lmxd-fleet-node.service lmxd-fleet-gateway.service"
)
"""Units that an upgrade has start anew, if they run."""
UNITS = "usr/lib/systemd/system/lmxd.service"
PACKAGED = "#!/bin/sh\necho installed\n"


def test_an_upgrade_has_the_services_start_anew(machine: Machine) -> None:
    for text in ('__version__ = "9.9.8"\n', '__version__ = "9.9.9"\n'):
        (machine.sources / "lmxd/__init__.py").write_text(text)
        done = machine.make_here("install")
        assert done.returncode == 0, done.stderr
        assert (machine.destination / "opt/lmxd/lmxd/__init__.py").read_text() == text
        assert machine.told()[:2] == ["daemon-reload", f"try-restart {RESTARTED}"]


def test_an_uninstallation_ends_the_services_and_has_their_units_forgotten(machine: Machine) -> None:
    machine.make_here("install")
    machine.told()
    done = machine.make_here("uninstall")
    assert done.returncode == 0, done.stderr
    told = machine.told()
    assert told[-2:] == ["disable --now lmxd.service lmxd.socket", "daemon-reload"]
    assert "start lmxd-stop-all.service" in told
    assert not (machine.destination / UNITS).exists()


def test_nothing_is_installed_over_the_package(machine: Machine) -> None:
    machine.say("dpkg-query", PACKAGED)
    done = machine.make_here("install")
    assert done.returncode != 0
    assert "lmxd is installed as a package" in done.stderr
    assert not (machine.destination / "opt").exists()


def test_of_a_package_that_was_installed_over_it_an_uninstallation_takes_nothing(machine: Machine) -> None:
    machine.make_here("install")
    machine.told()
    machine.say("dpkg-query", PACKAGED)
    done = machine.make_here("uninstall")
    assert done.returncode == 0, done.stderr
    assert machine.told() == ["daemon-reload"], "the package's service goes on"
    assert (machine.destination / UNITS).exists()
    assert not (machine.destination / "opt/lmxd").exists()


def test_a_package_brings_a_configuration_once(machine: Machine, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/share/lmxd").mkdir(parents=True)
    (root / "usr/share/lmxd/config.yaml").write_text("first\n")
    for program in ("systemd-sysusers", "systemd-tmpfiles", "systemctl"):
        machine.say(program, "#!/bin/sh\n")
    config = root / "etc/lmxd/config.yaml"
    for text in ("first\n", "mine\n"):
        done = machine.run("sh", "contrib/deb/postinst", "configure", DPKG_ROOT=str(root))
        assert done.returncode == 0, done.stderr
        assert config.read_text() == text
        config.write_text("mine\n")
    assert config.stat().st_mode & 0o777 == 0o644
    assert "comes first on PATH" not in done.stderr
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "usr/local/bin/lmxd").touch()
    done = machine.run("sh", "contrib/deb/postinst", "configure", "0.1.0", DPKG_ROOT=str(root))
    assert "/usr/local/bin/lmxd, which is no part of the package, comes first on PATH" in done.stderr


def test_the_licence_goes_with_it(machine: Machine) -> None:
    root = machine.install()
    assert "Apache License" in (root / "usr/local/share/doc/lmxd/LICENSE").read_text()
    assert "License: Apache-2.0" in (ROOT / "contrib/deb/copyright").read_text()


def builds() -> bool:
    """Whether the setuptools here can build lmxd."""
    try:
        return int(version("setuptools").partition(".")[0]) >= 77
    except PackageNotFoundError:
        return False


def test_a_wheel_brings_every_file_of_the_package() -> None:
    """Python files go by themselves, all others by package-data."""
    data: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["lmxd"]
    brought = {path for pattern in data for path in (ROOT / "lmxd").glob(pattern)}
    others = {path for path in (ROOT / "lmxd").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others == brought


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="these are no sources under git")
def test_all_sources_go_into_the_sdist() -> None:
    """By MANIFEST.in, but for what setuptools takes by itself."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = {word.partition("/")[0] for word in (ROOT / "MANIFEST.in").read_text().split()}
    by_itself = {"LICENSE", "MANIFEST.in", "README.md", "lmxd", "pyproject.toml"}
    assert {path.partition("/")[0] for path in listed.splitlines()} <= named | by_itself


@pytest.mark.skipif(not builds(), reason="setuptools is too old for pyproject.toml")
def test_a_wheel_works_alone(tmp_path: Path) -> None:
    """Its files lie where no sources are, and come first."""
    place = tempfile.mkdtemp(dir="/tmp")  # a short name: sockets lie below
    sources, installed = tmp_path / "sources", Path(place) / "installed"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "build", "tests", "bench", "*.egg-info")
    shutil.copytree(ROOT, sources, ignore=ignored)
    build = f"{sys.executable} -m pip wheel -q --no-deps --no-build-isolation --no-index -w {tmp_path} {sources}"
    subprocess.run(build.split(), check=True, timeout=200)
    (wheel,) = tmp_path.glob("lmxd-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    shutil.rmtree(sources)
    home = {"HOME": place, "XDG_RUNTIME_DIR": place, "PYTHONPATH": str(installed), "PATH": os.environ["PATH"]}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *words], cwd="/", env=home, capture_output=True, text=True, timeout=100
        )

    daemon = subprocess.Popen([sys.executable, "-m", "lmxd", "--user"], cwd="/", env=home, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: run("lmxd.cli.main", "status").returncode == 0)
        versions = run("lmxd.cli.main", "version").stdout
        assert versions.count(lmxd.__version__) == 2, versions
        assert run("lmxd", "completion", "bash").returncode == 0
    finally:
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(30) == 0
        shutil.rmtree(place)


def test_the_newest_changes_are_of_this_version_and_have_a_date() -> None:
    newest = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert re.fullmatch(rf"## {re.escape(lmxd.__version__)} \(\d{{4}}-\d\d-\d\d\)", newest), newest


@pytest.mark.parametrize("page", ["lmxctl.1", "lmxd.8", "lmxd.yaml.5"])
def test_a_manual_page_is_of_this_version(page: str) -> None:
    assert f'"lmxd {lmxd.__version__}"' in (ROOT / "contrib/man" / page).read_text().splitlines()[0]
