#!/bin/sh
# Before the files go: end what runs, models included. Configuration, models and logs stay.
set -eu
if [ -d "${RUN:-/run}/systemd/system" ]; then
    for unit in lmxd-fleet-gateway.service lmxd-fleet-node.service lmxd-fleet-broker.service lmxd-gateway.service; do
        systemctl disable --now "$unit" 2>/dev/null || true
    done
    systemctl start lmxd-stop-all.service 2>/dev/null || true
    systemctl disable --now lmxd.service lmxd.socket 2>/dev/null || true
fi
