"""TLS for a server that is not everybody's: the authority that signed for it, and the certificate that it asks for."""

from __future__ import annotations

import ssl
from pathlib import Path

from lmxd.errors import LmxdError


def trusting(ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """Trusts what ``ca`` signed, and nobody else, and shows ``cert``. LmxdError ``config`` if they cannot be used."""
    try:
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        remedy = "they must be PEM files, which this user may read"
        raise LmxdError("config", f"{ca}, {cert} or {key} cannot be used: {reason}", remedy) from error
    return context


def _no_password() -> str:
    """Instead of a question on the terminal."""
    raise ValueError("the key has a password")
