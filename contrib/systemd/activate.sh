#!/bin/sh
# After the files are in place: make the user, the groups and the directories, and tell systemd.
set -eu
! command -v systemd-sysusers >/dev/null || systemd-sysusers lmxd.conf
! command -v systemd-tmpfiles >/dev/null || systemd-tmpfiles --create lmxd.conf
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    echo "now: systemctl enable --now lmxd.socket lmxd.service"
fi
