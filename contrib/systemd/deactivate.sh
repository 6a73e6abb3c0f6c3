#!/bin/sh
# Before the files go: end what runs, models included. Configuration, models and logs stay.
set -eu
if [ -d "${RUN:-/run}/systemd/system" ]; then
    systemctl disable --now lmxd-gateway.service 2>/dev/null || true
    systemctl start lmxd-stop-all.service 2>/dev/null || true
    systemctl disable --now lmxd.service lmxd.socket 2>/dev/null || true
fi
