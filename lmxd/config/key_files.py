"""The files of the gateway's keys, and whether all users of the machine can get at them."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from lmxd.config.gateway import GatewayConfig


def exposures(config: GatewayConfig) -> Iterator[str]:
    """A warning for each file of which every user can read the private key, or write the keys."""
    name = "tls_cert" if config.tls_key is None else "tls_key"
    private = config.tls_key or config.tls_cert
    if private is not None and _open_to_all(private, stat.S_IROTH):
        yield (
            f"gateway.{name} {private}: every user of this machine can read the private key, and pose as the gateway "
            f"(chmod o-rwx {shlex.quote(str(private))}; the gateway's user must be its owner or in its group)"
        )
    keys = config.keys_file
    if keys is not None and _open_to_all(keys, stat.S_IWOTH):
        yield (
            f"gateway.keys_file {keys}: every user of this machine can write it, so that the gateway refuses it "
            f"(chmod o-w {shlex.quote(str(keys))})"
        )


def _open_to_all(path: Path, right: int) -> bool:
    """Whether a file gives others a right, and every directory above lets them pass."""
    real = Path(os.path.realpath(path.expanduser()))
    try:
        passed = all(above.stat().st_mode & stat.S_IXOTH for above in real.parents)
        return passed and bool(real.stat().st_mode & right)
    except OSError:
        return False  # it is not there, or not to be seen: whoever needs it says so
