"""Parts of every engine's launch: its key in a file, and the devices that it may see."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from lmxd.engines.engine import Plan
from lmxd.errors import LmxdError

SOCKET: Final = "s.sock"
"""The name of an instance's socket in its directory. llama-server takes a host for a socket by how it ends."""


def new_key(plan: Plan) -> tuple[str, Path]:
    """An instance's API key, and the file that it was written to for nobody but us to read. LmxdError if it cannot."""
    key, path = secrets.token_urlsafe(32), plan.home / f"{plan.instance}.key"
    try:
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(key + "\n")
    except OSError as error:
        raise LmxdError("internal", f"{path}: {error.strerror}", "check the runtime directory") from error
    return key, path


def new_socket(plan: Plan) -> Path:
    """The place for an instance's socket, in a directory of its own: who runs it need not write into ours.

    LmxdError if the directory cannot be made.
    """
    directory = plan.home / plan.instance
    try:
        directory.mkdir(mode=0o750, exist_ok=True)
        (directory / SOCKET).unlink(missing_ok=True)  # llama-server never removes its socket, nor binds over one
    except OSError as error:
        raise LmxdError("internal", f"{directory}: {error.strerror}", "check the runtime directory") from error
    return directory / SOCKET


def placed(plan: Plan) -> dict[str, str]:
    """Environment: the devices by UUID, none for RAM; and whose child it is, for an lmxd that finds it left behind."""
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(plan.gpus),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "LMXD_INSTANCE": plan.instance,
        "LMXD_HOME": str(plan.home),
    }
