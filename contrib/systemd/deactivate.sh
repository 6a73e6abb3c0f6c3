#!/bin/sh
# Before the files go: stop what runs. Configuration, models and logs stay.
set -eu
if [ -d /run/systemd/system ]; then
    systemctl disable --now lmxd.service lmxd.socket 2>/dev/null || true
fi
