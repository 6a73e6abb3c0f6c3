"""The dashboard's page: its markup, style and scripts put together, and the policy that a browser holds it to."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_PARTS: Final = Path(__file__).parent / "page"
_SCRIPTS: Final = (
    "elements",
    "units",
    "devices",
    "history",
    "queue",
    "instances",
    "models",
    "requests",
    "connecting",
    "trying",
    "links",
    "following",
    "live",
)
"""Each may use those before it while it is read, and all others later."""


class WebPage:
    """One document with all that belongs to it, so that nothing is fetched from elsewhere and no build is needed."""

    def __init__(self, document: str = "index.html", scripts: Iterable[str] = _SCRIPTS) -> None:
        self.style = _part("style.css")
        self.script = "\n".join(_part(f"{name}.js") for name in scripts)
        self.body = _part(document).replace("/* style */", self.style).replace("/* script */", self.script)

    @property
    def headers(self) -> Mapping[str, str]:
        return {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": self._policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }

    @property
    def _policy(self) -> str:
        """Its own script and style, known by their hashes, and requests to where it came from."""
        rules = {
            "default-src": ["'none'"],
            "script-src": [_hash(self.script)],
            "style-src": [_hash(self.style)],
            "connect-src": ["'self'"],
            "img-src": ["data:"],
            **{rule: ["'none'"] for rule in ("base-uri", "form-action", "frame-ancestors")},
        }
        return "; ".join(_rule(name, sources) for name, sources in rules.items())


def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


def _rule(name: str, sources: Iterable[str]) -> str:
    return f"{name} {' '.join(sources)}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
