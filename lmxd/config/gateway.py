"""The keys of the configuration for HTTP: where the gateway and the metrics listen, and to whom they answer."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lmxd.config.keys import MAKES_ONE
from lmxd.config.section import Section, UsablePath
from lmxd.config.values import duration

_PLACE = re.compile(r"(localhost|[0-9.]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")

_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:\[[0-9A-Fa-f:.]+\]|[^\s/?#:\[\]@]+)(?::[0-9]{1,5})?")


def _host(address: str) -> str | None:
    """The host of ADDRESS:PORT, which is an IP address or localhost; None if it is something else."""
    match = _PLACE.fullmatch(address)
    if match is None or int(match[2]) > 65535:
        return None
    host = match[1].strip("[]")
    try:
        return host if host == "localhost" else str(ip_address(host))
    except ValueError:
        return None


def _is_local(address: str) -> bool:
    """Whether only this machine can connect."""
    host = _host(address)
    return address.startswith("unix:") or host == "localhost" or (host is not None and ip_address(host).is_loopback)


def _place(value: str) -> str:
    if not re.fullmatch(r"unix:/.+", value) and _host(value) is None:
        raise ValueError("give ADDRESS:PORT (127.0.0.1:8080, [::1]:8080; 0.0.0.0:8080 for all networks) or unix:/PATH")
    return value


def _local(value: str) -> str:
    if not _is_local(_place(value)):
        raise ValueError("only 127.0.0.1:PORT, localhost:PORT, [::1]:PORT or unix:/PATH is possible")
    return value


def _origin(value: str) -> str:
    if value != "*" and not _ORIGIN.fullmatch(value):
        raise ValueError('give SCHEME://HOST or SCHEME://HOST:PORT, without a path, or "*"')
    return value


class MetricsConfig(Section):
    """The address at which the daemon answers Prometheus."""

    listen: Annotated[str, AfterValidator(_local)] | None = Field(
        None, description="127.0.0.1:PORT, [::1]:PORT or unix:PATH; off by default"
    )


class GatewayConfig(Section):
    """Settings of ``lmxd gateway``, a process of its own."""

    listen: Annotated[str, AfterValidator(_place)] | None = Field(
        None,
        description="127.0.0.1:PORT, [::1]:PORT or unix:PATH; another ADDRESS:PORT, such as 0.0.0.0:8080, is for other "
        "machines, too, and wants keys; off by default",
    )
    tls_cert: UsablePath | None = Field(None, description="PEM file of the certificate and its chain, for HTTPS")
    tls_key: UsablePath | None = Field(None, description="PEM file of its private key; by default in the same file")
    keys_file: UsablePath | None = Field(None, description="API keys, as `lmxd key NAME` writes them")
    anonymous: bool = Field(False, description="models are for whoever can connect, without a key")
    wait: (
        Annotated[
            float,
            Field(ge=0, le=10**6, allow_inf_nan=False),
            BeforeValidator(duration, json_schema_input_type=float | str),
        ]
        | None
    ) = Field(300, description="seconds that a request may wait in a queue; null for as long as it takes")
    instances: int = Field(1, ge=1, le=64, description="of each model, for the requests of all clients together")
    max_body_mb: Annotated[float, Field(gt=0, le=10_000)] = Field(64, description="size cap of one request")
    max_bodies_mb: Annotated[float, Field(gt=0, le=100_000)] = Field(
        512, description="of all requests together, from their first byte to their answer; one key has at most half"
    )
    remote_media: bool = Field(
        False,
        description="engines fetch pictures and sound that a request names by http:// or https://, from wherever this "
        "machine reaches; otherwise they come in the request",
    )
    origins: tuple[Annotated[str, AfterValidator(_origin)], ...] | None = Field(
        None,
        description='origins whose pages may ask from a browser, such as https://chat.example.org; "*" for all, with '
        "keys; by default those of this machine, http://localhost on any port",
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="further names by which browsers come here without a key, as a proxy's; NAME:PORT if it is unusual",
    )

    capture_prompts: bool = Field(
        False,
        description="the dashboard shows how the prompts of the last 200 requests begin, to administrators and to the "
        "key that sent them; they are kept in memory alone",
    )

    @model_validator(mode="after")
    def _closed(self) -> GatewayConfig:
        if self.listen is not None and self.keys_file is None and not self.anonymous:
            raise ValueError(f"listen: give a keys_file ({MAKES_ONE} adds keys to it), or say anonymous: true")
        if self.listen is not None and self.anonymous and not _is_local(self.listen):
            raise ValueError(
                f"anonymous: {self.listen} is for other machines, too, which need a key: take anonymous: true out, or "
                "listen on 127.0.0.1"
            )
        if self.anonymous and "*" in (self.origins or ()):
            raise ValueError(
                "origins: with anonymous, every page in the web could ask: name the origins, or take it out"
            )
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key: give tls_cert, too")
        return self

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.listen is None or _is_local(self.listen)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for what others on the way may see."""
        if self.is_local or self.tls_cert is not None:
            return ()
        return (
            f"gateway.listen {self.listen} is without TLS: keys, prompts and answers can be read on the way (give "
            "tls_cert, or put a proxy before it: docs/network.md)",
        )
