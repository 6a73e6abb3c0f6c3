#!/bin/sh
# Installs the other engines that docs/recipes.md runs, each in a venv of its own: contrib/other_engines.sh DIRECTORY.
# PYTHON: the interpreter to make them with. What is there stays as it is.
set -eu
place=$1

pip() { "$venv/bin/python" -m pip --disable-pip-version-check -q "$@"; }
# A build for the processor alone is 200 MB instead of 3 GB, where one is to be had.
torch() { pip install 'torch==2.13.0+cpu' 2>/dev/null || pip install torch; }
# One whose installation broke off has no stamp, and is made anew.
is_there() {
    venv=$place/$1
    [ ! -e "$venv/.installed" ] || return 0
    echo "installing $1 into $venv" >&2
    "${PYTHON:-python3}" -m venv --clear "$venv"
    return 1
}
done_() { touch "$venv/.installed"; }

mkdir -p "$place"
is_there infinity || { torch && pip install 'infinity-emb[server,torch]==0.0.78' && done_; }
is_there whisper || { pip install 'faster-whisper-server==0.0.3' && done_; }
is_there transformers || { torch && pip install 'transformers[serving]==5.19.0' accelerate requests && done_; }
