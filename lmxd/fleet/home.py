"""The place of a box's part in a fleet: its settings, and the certificate and key of each role that it has."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationError

from lmxd.config import yaml_text
from lmxd.config.gateway import GatewayConfig
from lmxd.config.section import Section
from lmxd.errors import ConfigError, LmxdError
from lmxd.files import read_text
from lmxd.fleet.addresses import host_and_port
from lmxd.fleet.members import Member, MemberRole
from lmxd.fleet.names import NODE
from lmxd.fleet.users import FleetUserConfig, UserName
from lmxd.text import shortened
from lmxd.xdg import own_directory

SYSTEM_CONFIG: Final = Path("/etc/lmxd/fleet/fleet.yaml")
SYSTEM_STATE: Final = Path("/var/lib/lmxd/fleet")
SYSTEM_COPIES: Final = Path("/var/lib/lmxd/copies")


def _named(value: str) -> str:
    if not NODE.fullmatch(value):
        raise ValueError("give a label of DNS: up to 63 of a-z, 0-9 and -, with a letter or digit at both ends")
    return value


def _address(value: str) -> str:
    host_and_port(value)
    return value


def _broker(value: str) -> str:
    if not value.startswith("tls://"):
        raise ValueError("give tls://HOST:PORT, as lmxd fleet join writes it")
    _address(value.removeprefix("tls://"))
    return value


HostPort = Annotated[str, AfterValidator(_address)]
BoxName = Annotated[str, AfterValidator(_named)]


class FleetSettings(Section):
    """The keys of fleet.yaml."""

    fleet: BoxName = Field(description="the name of the fleet")
    node: BoxName = Field(description="the name of this box")
    brokers: tuple[Annotated[str, AfterValidator(_broker)], ...] = Field(
        min_length=1, description="where NATS is: tls://HOST:PORT of each broker"
    )
    authority: HostPort = Field(description="HOST:PORT where members join, and renew their certificates")
    door: HostPort = Field(description="HOST:PORT at which the fleet's gateways reach this node")
    listen: HostPort | None = Field(None, description="HOST:PORT where the door listens, if another leads to it")
    labels: dict[str, str] = Field({}, description="what else is to be known of this node: name -> value")
    users: dict[UserName, FleetUserConfig] = Field(
        {}, description="name of a key, or default -> weight and limits of that user at all nodes together"
    )
    gateway: GatewayConfig = Field(GatewayConfig(), description="the fleet's gateway, if it runs here")


_PARTS: Final[Mapping[str, type[Section]]] = {"gateway": GatewayConfig, "users": FleetUserConfig}


@dataclass(frozen=True)
class FleetHome:
    """A place of a fleet. ``config``: the path of fleet.yaml. ``state``: has a directory for each role."""

    config: Path
    state: Path

    @classmethod
    def at(cls, directory: Path | None, *, user: bool) -> FleetHome:
        """All in one directory if that is named; else the user's own, or the system's."""
        if directory is not None:
            return cls(directory.absolute() / "fleet.yaml", directory.absolute())
        if user:
            config = own_directory("XDG_CONFIG_HOME", ".config") / "lmxd/fleet/fleet.yaml"
            return cls(config, own_directory("XDG_STATE_HOME", ".local/state") / "lmxd/fleet")
        return cls(SYSTEM_CONFIG, SYSTEM_STATE)

    @classmethod
    def of_this_box(cls, directory: Path | None = None) -> FleetHome:
        """The one in the directory, if that is named; else the user's own if there is one; else the system's."""
        return cls.at(directory, user=directory is None and cls.at(None, user=True).config.exists())

    @cached_property
    def settings(self) -> FleetSettings:
        """The values of fleet.yaml. ConfigError with every problem; LmxdError ``config`` if this box is in no fleet."""
        if not self.config.exists():
            remedy = "lmxd fleet init begins one, lmxd fleet join TOKEN joins one; with --user if it is your own"
            raise LmxdError("config", f"there is no {self.config}: this box is in no fleet", remedy)
        try:
            data = yaml_text.load(read_text(self.config, yaml_text.LARGEST, regular=True))
            return FleetSettings.model_validate(data)
        except OSError as error:
            raise ConfigError(str(self.config), [f"cannot be read: {error.strerror}"]) from error
        except (UnicodeDecodeError, yaml_text.BadYaml) as error:
            raise ConfigError(str(self.config), [str(error)]) from error
        except ValidationError as error:
            raise ConfigError(str(self.config), [_problem(x) for x in error.errors(include_url=False)]) from error

    @property
    def copies(self) -> Path | None:
        """The directory that models from other nodes come to; None for that of lmxd's configuration.

        The system's node may write neither that nor the configuration, where ``models_from`` has to name this one.
        """
        return SYSTEM_COPIES if self.state == SYSTEM_STATE else None

    @property
    def ca(self) -> Path:
        """The certificate of the fleet's authority."""
        return self.state / "ca.pem"

    @property
    def authority(self) -> Path:
        """The directory with the authority's key, on the one box that has it."""
        return self.state / "authority"

    def directory(self, role: MemberRole) -> Path:
        """The directory of a role, which belongs to the user that its process runs as."""
        return self.state / role

    def certificate(self, role: MemberRole) -> Path:
        return self.directory(role) / "cert.pem"

    def key(self, role: MemberRole) -> Path:
        """The private key, which never leaves this box."""
        return self.directory(role) / "key.pem"

    def member(self, role: MemberRole) -> Member:
        """This box in a role. Errors as ``settings``."""
        return Member(fleet=self.settings.fleet, role=role, name=self.settings.node)


def _problem(error: Any) -> str:
    """One of pydantic's errors as a sentence: key, value, remedy."""
    where = [shortened(str(part), 200) for part in error["loc"]]
    key = ".".join(where) or "it"
    if error["type"] == "extra_forbidden":
        known = list(_PARTS.get(where[0] if len(where) > 1 else "", FleetSettings).model_fields)
        near = difflib.get_close_matches(where[-1], known, n=1, cutoff=0.4)
        return f"{key}: unknown key; " + (f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}")
    if error["type"] == "missing":
        return f"{key} is missing: it is {FleetSettings.model_fields[where[0]].description}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:] if error["type"] != "value_error" else message
    value = error["input"]
    shown = "" if isinstance(value, dict) else f" is {shortened(repr(value), 200)}"
    return f"{key}{shown}: {message}"
