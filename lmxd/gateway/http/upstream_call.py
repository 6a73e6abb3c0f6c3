"""A request as an instance is sent it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmxd.rpc.messages import Granted


@dataclass(frozen=True, kw_only=True, slots=True)
class UpstreamCall:
    """The request that an instance is sent."""

    method: str = "POST"
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})

    @property
    def content_type(self) -> str:
        """The type of its body; empty where it says none."""
        return next((value for header, value in self.headers.items() if header.lower() == "content-type"), "")

    @property
    def is_framed(self) -> bool:
        """Whether engines read all of it and answer all of it, so that another request can follow on its connection.

        Some pass over the body of a GET, which they would take for the next request, or answer a HEAD with a body.
        """
        return self.method == "POST" or (self.method == "GET" and not self.body)

    def to(self, lease: Granted) -> bytes:
        """The head as it goes out, with the instance's own key."""
        return self.head(f"Authorization: Bearer {lease.api_key}")

    def head(self, *more: str) -> bytes:
        """The head with further lines."""
        lines = [
            f"{self.method} {self.path} HTTP/1.1",
            "Host: localhost",
            *more,
            *(() if self.is_framed else ("Connection: close",)),
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join((*lines, "", "")).encode("latin-1", "replace")
