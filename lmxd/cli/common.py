"""The parts that all commands share: the connection, --json, and errors that end in the right exit status."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from lmxd.cli import output
from lmxd.errors import LmxdError
from lmxd.rpc.client import Client, default_socket

F = TypeVar("F", bound=Callable[..., Any])
_COMPLETED: Final = re.compile(r"[\w.:@+#/-]+")
"""Names that a shell takes as they are: it would run others, or have the terminal do so."""


def connect() -> Client:
    """A connection to the daemon that --socket, LMXD_SOCKET or convention names."""
    named = click.get_current_context().find_root().params.get("socket_path")
    return Client(named if named is not None else default_socket())


def answers(command: F) -> F:
    """Gives a command --json as ``json_wanted``, and turns its LmxdErrors into messages and exit statuses."""

    @click.option("--json", "json_wanted", is_flag=True, help="Print JSON.")
    @functools.wraps(command)
    def wrapped(*args: Any, json_wanted: bool, **kwargs: Any) -> Any:
        try:
            return command(*args, json_wanted=json_wanted, **kwargs)
        except LmxdError as error:
            output.fail(error, json_wanted=json_wanted)

    return wrapped  # type: ignore[return-value]


def _names(kind: str, incomplete: str) -> list[str]:
    """Names of ``kind`` that the daemon knows, for completion; none if it does not answer."""
    try:
        with Client() as client:
            match kind:
                case "model":
                    names = [name for x in client.models().models for name in (x.model, *x.aliases)]
                case "model or variant":
                    names = [name for x in client.models().models for name in x.names]
                case "instance":
                    names = [x.instance for x in client.instances().instances]
                case "device":
                    names = [name for x in client.devices().devices for name in dict.fromkeys((x.ref, x.id))]
                case "ticket":
                    names = [x.ticket for x in client.queue().tickets if x.ticket]
                case _:
                    names = [x.lease for i in client.instances().instances for x in i.leases if x.lease]
    except LmxdError:
        return []
    return [name for name in names if name.startswith(incomplete) and _COMPLETED.fullmatch(name)]


def completes(kind: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """A shell_complete callback for names of ``kind``."""
    return lambda context, parameter, incomplete: _names(kind, incomplete)
