#!/bin/sh
# Whether lmxd's package is installed: in /usr/lib its units are the same files as those of make install.
[ "$(dpkg-query -W -f '${db:Status-Status}' lmxd 2>/dev/null)" = installed ]
