#!/bin/sh
# After the files are in place: make the user, the groups and the directories, and tell systemd.
set -eu
! command -v systemd-sysusers >/dev/null || systemd-sysusers lmxd.conf
! command -v systemd-tmpfiles >/dev/null || systemd-tmpfiles --create lmxd.conf
if [ -d "${RUN:-/run}/systemd/system" ]; then
    systemctl daemon-reload
    # An upgrade: what ran goes on as the new version, and takes over the models that run.
    systemctl try-restart lmxd.service lmxd-gateway.service lmxd-fleet-broker.service lmxd-fleet-node.service lmxd-fleet-gateway.service
    systemctl is-active --quiet lmxd.service || echo "now: systemctl enable --now lmxd.socket lmxd.service"
fi
