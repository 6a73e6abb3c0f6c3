#!/bin/bash
# Inside the machine: installs the package, and sees whether it keeps its promises under systemd. Prints ok and not ok.
# The engine is the fake, because an emulated processor lacks what builds of llama-server take for granted.
cd /try || exit 1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LMXD_SOCKET=/run/lmxd/lmxd.sock

check() { # check TEXT COMMAND...
    local text=$1
    shift
    if "$@" >/try/last 2>&1; then echo "ok - $text"; else
        echo "not ok - $text"
        sed 's/^/# /' /try/last | tail -n 12
    fi
}
until_ok() { # until_ok SECONDS COMMAND...
    local left=$1
    shift
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 1
    done
}
same() { [ "$1" = "$2" ] || { echo "$1 is not $2"; return 1; }; }
servers() { pgrep -f fake_llama_server | sort | tr '\n' ' '; }
has_servers() { same "$(servers)" "$1"; }
active() { systemctl is-active --quiet "$1"; }
inactive() { ! systemctl is-active --quiet "$1"; }
main_pid() { systemctl show -p MainPID --value lmxd; }
restarted() { active lmxd && [ "$(main_pid)" != "$1" ] && lmxctl status >/dev/null; }
book() { lmxctl ps --json | python3 -c 'import json, sys
for i in json.load(sys.stdin)["instances"]:
    print(i["instance"], i["pid"], i["promised"], i["charged"], sorted(x["lease"] for x in i["leases"]))'; }
as() { setpriv --reuid "$1" --regid "$1" --init-groups "${@:2}"; }

echo "# $(systemctl --version | head -n 1), Linux $(uname -r), pid 1 is $(cat /proc/1/comm)"
check "the package installs" dpkg -i lmxd_0.1.0_amd64.deb
check "the service runs" until_ok 60 active lmxd.service
cp model.gguf /var/lib/lmxd/models/smollm2.gguf
ln /var/lib/lmxd/models/smollm2.gguf /var/lib/lmxd/models/tight.gguf
echo '{"token_seconds": 0.5}' >/var/lib/lmxd/models/smollm2.json
echo '{"allocate_mb": 200}' >/var/lib/lmxd/models/tight.json
printf '#!/bin/sh\nexec /usr/bin/python3 -S -E /try/fake_llama_server.py "$@"\n' >llama-server
chmod 755 llama-server
cat >/etc/lmxd/config.yaml <<'YAML'
gpu: {device: host, max_memory_gb: 1, margin_gb: 0.2}
engine: {path: /try/llama-server, load_timeout: 100}
models:
  smollm2: {context_length: 512, memory_max_gb: 0.9}
  tight: {context_length: 512, memory_max_gb: 0.08}
YAML
check "it reloads" systemctl reload lmxd
check "root leases a model" lmxctl request smollm2
lease=$(lmxctl ps --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["instances"][0]["leases"][0]["lease"])')
before=$(book)
server=$(servers)
echo "# $before"
group=/sys/fs/cgroup/system.slice/lmxd.service
echo "# $(ls -ld $group | cut -c1-30) $(python3 -c "import os; print({x: os.getxattr(\"$group\", x) for x in os.listxattr(\"$group\")})") $(cat $group/cgroup.controllers)"
check "the instance has a group of its own" grep -qx "${server% }" "$group/i-smollm2#1/cgroup.procs"
check "the group is bounded" same "$(cat "$group/i-smollm2#1/memory.max")" 966365184
check "the daemon has another" grep -qx "$(main_pid)" "$group/lmxd/cgroup.procs"

cat >stream.py <<'PY'
import http.client, json, socket, subprocess, sys
granted = json.loads(subprocess.run(["lmxctl", "request", "smollm2", "--json"], capture_output=True, text=True, check=True).stdout)
body = {"prompt": "Once", "n_predict": int(sys.argv[1]), "stream": True, "ignore_eos": True}
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(granted["socket"])
connection.request("POST", "/completion", json.dumps(body),
    {"Content-Type": "application/json", "Authorization": "Bearer " + granted["api_key"]})
count = 0
with connection.getresponse() as answer:
    for line in answer:
        count += line.startswith(b"data: ")
        if count == 3:
            print("streaming", flush=True)
print("chunks", count)
subprocess.run(["lmxctl", "release", granted["lease"]])
PY
lmxctl release "$lease"
python3 stream.py 240 >stream.log 2>&1 &
stream=$!
check "a stream begins" until_ok 300 grep -q streaming stream.log
before=$(book)
old=$(main_pid)
check "systemctl restart lmxd" systemctl restart lmxd
check "another daemon runs" restarted "$old"
check "the ledger is the same" same "$(book)" "$before"
check "the server is the same" has_servers "$server"
old=$(main_pid)
check "the daemon is killed" systemctl kill --kill-whom=main -s KILL lmxd
check "systemd starts it again" until_ok 60 restarted "$old"
check "the ledger is the same" same "$(book)" "$before"
check "the bound on the group stands" same "$(cat "$group/i-smollm2#1/memory.max")" 966365184
wait $stream
check "the stream was not cut" grep -qE 'chunks 240' stream.log
cat stream.log | sed 's/^/# /'

lease=$(lmxctl request smollm2 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["lease"])')
before=$(book)
systemctl stop lmxd.service
check "stopped, the server goes on" has_servers "$server"
check "a request starts lmxd by its socket" lmxctl touch "$lease"
check "the ledger is the same" same "$(book)" "$before"

mkdir -p /etc/systemd/system/lmxd.service.d
printf '[Service]\nWatchdogSec=8\n' >/etc/systemd/system/lmxd.service.d/try.conf
systemctl daemon-reload
systemctl restart lmxd
old=$(main_pid)
kill -STOP "$old"
check "a daemon that hangs is replaced by the watchdog" until_ok 90 restarted "$old"
check "the ledger is the same" same "$(book)" "$before"

check "too little RAM for a group ends its instance" bash -c '! lmxctl request tight'
sed 's/^/# /' last | head -n 1
cp last said
check "and says so" grep -q memory_max_gb said

useradd -m member && usermod -aG lmxd member
useradd -m chief && usermod -aG lmxd-admin chief
useradd -m stranger
check "a member of lmxd may lease" as member lmxctl request smollm2 --no-wait --hold ttl --ttl 1
check "a member may not stop" bash -c 'setpriv --reuid member --regid member --init-groups lmxctl stop "smollm2#1"; [ $? = 77 ]'
check "a stranger may not connect" bash -c 'setpriv --reuid stranger --regid stranger --init-groups lmxctl status; [ $? = 77 ]'
check "an administrator who is no member may drain" as chief lmxctl drain --no-wait
check "and end that" as chief lmxctl drain --end
check "the audit log has it" bash -c 'journalctl -u lmxd | grep -q "done: drain lmxd"'

server=$(servers)
check "an upgrade installs, asking nothing" dpkg -i lmxd_0.1.1_amd64.deb
check "the configuration is the same" grep -q tight: /etc/lmxd/config.yaml
check "the new one runs" until_ok 60 restarted "$old"
check "the ledger is the same" bash -c "lmxctl touch $lease"
check "the server is the same" has_servers "$server"
systemd-analyze security lmxd.service | tail -n 1 | sed 's/^/# /'
check "stop-all ends everything" systemctl start lmxd-stop-all
check "no server is left" has_servers ""
check "the daemon has ended" inactive lmxd.service
check "and can be started again" systemctl start lmxd.socket lmxd.service
check "and serves" lmxctl request smollm2 --hold ttl --ttl 1

ask() { # ask STATUS KEY PATH [BODY]: whether the gateway answers with that status
    python3 - "$@" <<'PY'
import sys, urllib.error, urllib.request
status, key, path, *body = sys.argv[1:]
request = urllib.request.Request("http://127.0.0.1:8080" + path, body[0].encode() if body else None,
                                 {"Authorization": "Bearer " + key})
try:
    got = urllib.request.urlopen(request, timeout=100)
except urllib.error.HTTPError as error:
    got = error
print(got.status, got.read()[:300])
sys.exit(str(got.status) != status)
PY
}
check "without a configuration the gateway does not start" bash -c '! systemctl start lmxd-gateway'
systemctl stop lmxd-gateway
printf 'gateway: {listen: "127.0.0.1:8080", keys_file: /etc/lmxd/gateway.keys}\n' >>/etc/lmxd/config.yaml
key=$(lmxd key me --admin)
check "with one it does" systemctl start lmxd-gateway
pid=$(systemctl show -p MainPID --value lmxd-gateway)
check "as a user of its own" same "$(stat -c %U "/proc/$pid")" lmxd-gateway
check "nobody comes in without a key" ask 401 none /v1/models
check "it lists models" ask 200 "$key" /v1/models
chat='{"model": "smollm2", "messages": []}'
check "a model answers through it" ask 200 "$key" /v1/chat/completions "$chat"
check "and through ollama's API" ask 200 "$key" /api/chat '{"model": "smollm2", "stream": false, "messages": [{"role": "user", "content": "hi"}]}'
check "it shows the page" ask 200 none /
check "it is no administrator" ask 403 "$key" /lmxd/stop '{"instance": "smollm2#1"}'
mkdir -p /etc/systemd/system/lmxd-gateway.service.d
printf '[Service]\nSupplementaryGroups=lmxd lmxd-admin\n' >/etc/systemd/system/lmxd-gateway.service.d/try.conf
systemctl daemon-reload
systemctl restart lmxd-gateway
running=$(lmxctl ps --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["instances"][0]["instance"])')
check "unless it is made one" ask 200 "$key" /lmxd/pin "{\"instance\": \"$running\"}"
check "a restart of lmxd does not disturb it" systemctl restart lmxd
check "it answers" ask 200 "$key" /v1/chat/completions "$chat"
other=$(lmxd key you)
check "a new key is not known" ask 401 "$other" /v1/models
check "before it reloads" systemctl reload lmxd-gateway
check "and then is" ask 200 "$other" /v1/models
systemd-analyze security lmxd-gateway.service | tail -n 1 | sed 's/^/# /'
rm -rf /etc/systemd/system/lmxd-gateway.service.d

systemctl disable --now lmxd-gateway >/dev/null 2>&1
systemctl start lmxd-stop-all
printf 'gpu: {device: host, max_memory_gb: 1, margin_gb: 0.2}\nengine: {path: /try/llama-server, load_timeout: 100}\n' |
    tee /etc/lmxd/config.yaml >own.yaml
rm -f /etc/lmxd/gateway.keys
units="lmxd.socket lmxd.service lmxd-gateway.service"
check "setup leads from nothing to an answer" lmxd setup --yes /var/lib/lmxd/models
key=$(sed -n 's/^key  *//p' last)
check "its key is good" ask 200 "$key" /v1/models
check "its units start with the machine" systemctl is-enabled $units
check "it may be run again" lmxd setup --yes /var/lib/lmxd/models
check "and changes nothing" ask 200 "$key" /v1/models
uid=$(id -u member)
mine="env HOME=/home/member XDG_RUNTIME_DIR=/run/user/$uid"
install -D -o member -g member own.yaml /home/member/.config/lmxd/config.yaml
chown -R member:member /home/member/.config
check "a user has a systemd" systemctl start "user@$uid"
check "setup leads the user to an answer" as member $mine lmxd setup --user --yes /var/lib/lmxd/models
sed -n '/^base URL/p; /^end/p' last | sed 's/^/# /'
check "its units start with the user" as member $mine systemctl --user is-enabled $units
check "the user's lmxd answers" as member $mine lmxctl --socket "/run/user/$uid/lmxd.sock" ps
check "it may be run again" as member $mine lmxd setup --user --yes /var/lib/lmxd/models
as member $mine lmxctl --socket "/run/user/$uid/lmxd.sock" drain --now
systemctl stop "user@$uid"
check "the package is removed" dpkg -r lmxd
check "no server is left" has_servers ""
check "nothing of it but configuration, models and logs" same "$(find /usr /opt -path '*lmxd*' | head -n 3)" ""
check "it is purged" dpkg -P lmxd
check "only the model is left" same "$(find / -xdev \( -path /proc -o -path /sys -o -path /try -o -path /etc/systemd/system/lmxd.service.d \) -prune -o -path '*lmxd*' -print | grep -v '^/home' | sort | tr '\n' ' ')" "/var/lib/lmxd /var/lib/lmxd/models $(echo /var/lib/lmxd/models/{smollm2.gguf,smollm2.json,tight.gguf,tight.json}) "
echo "--- all done"
