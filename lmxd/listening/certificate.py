"""The certificate of a listener that speaks TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

from lmxd.errors import LmxdError


class Certificate:
    """A certificate and its private key, which may be renewed while it is in use."""

    def __init__(self, cert: Path, key: Path | None) -> None:
        """LmxdError ``config`` if they cannot be used."""
        self._cert, self._key = cert, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.refresh()

    def refresh(self) -> None:
        """Read the files again, for connections to come. LmxdError ``config``, and what was in force stays so."""
        cert = _readable("tls_cert", self._cert)
        key = None if self._key is None else _readable("tls_key", self._key)
        try:
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            for context in (trial, self.context):
                context.load_cert_chain(cert, key, password=_no_password)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or str(error)
            remedy = "give a PEM certificate in tls_cert, and its own key, without a password, in tls_key"
            raise LmxdError("config", f"gateway.tls_cert {self._cert}: {reason}", remedy) from error


def _readable(key: str, path: Path) -> Path:
    """The path of a file that can be read. LmxdError ``config``."""
    file = path.expanduser()
    try:
        if file.exists() and not file.is_file():
            raise LmxdError("config", f"gateway.{key} {path} is not a regular file", "name a PEM file")
        file.open("rb").close()
    except OSError as error:
        remedy = "it must be there, and readable by the user that the gateway runs as"
        raise LmxdError("config", f"gateway.{key} {path}: {error.strerror}", remedy) from error
    return file


def _no_password() -> str:
    """Instead of a question on the terminal."""
    raise ValueError("its key has a password")
