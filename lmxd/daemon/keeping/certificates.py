"""Certificates: the rows that instances carry in their environments. A process shows there whatever it likes.

So do rows of a ledger that somebody else could write. Nothing is taken but what this daemon would have written itself.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Set
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from lmxd.config.names import is_name
from lmxd.core.words import Phase
from lmxd.daemon.keeping.records import ASKS, OPTIONS
from lmxd.daemon.launching.launched import STARTS, Start, as_json
from lmxd.daemon.launching.prompts import PromptCaches
from lmxd.daemon.launching.startup import CERTIFICATE
from lmxd.daemon.places import Places
from lmxd.engines.launching import key_path, socket_path
from lmxd.files import file_name
from lmxd.instances import proc
from lmxd.instances.orphans import impostors, orphans
from lmxd.instances.ports import listening_port
from lmxd.instances.silent import silent
from lmxd.store.rows import InstanceRow

log = logging.getLogger(__name__)

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
"""The end of an instance's id, which begins with the name of a profile."""
_CACHE: Final = re.compile(r"[0-9a-f]{32}")
"""The name of a prompt cache's directory."""
_LONGEST: Final = 256 * 1024
"""Characters of a certificate. Ours have a few thousand."""
_MOST: Final = 1024
"""Certificates that are taken; no machine runs so many instances."""
_LARGEST: Final = 2**46
"""Bytes of an instance on one device, 64 TiB: no device has so many."""
_GREATEST: Final = 2**63 - 1
"""The greatest number anywhere in a row, as in SQLite. The core and timers reckon with them."""
_ROWS: Final = TypeAdapter(InstanceRow)
_TOLD: Final = 16
"""Certificates that were not taken, of which each is told."""


def start_of(row: InstanceRow, where: Places) -> Start:
    """The start of an instance's row. ValueError if this daemon would never have written such a row."""
    profile, _, number = row.id.rpartition("#")
    if not (is_name(profile) and _NUMBER.fullmatch(number)):
        raise ValueError("its id is none of ours")
    for text in (row.start or "", row.ask, row.option):
        _require_numbers(text)
    start, ask = STARTS.validate_json(row.start or ""), ASKS.validate_json(row.ask)
    option = OPTIONS.validate_json(row.option)
    if start.plan.instance != row.id or start.plan.home != where.home or ask.profile != profile:
        raise ValueError("it is about another instance, or another lmxd")
    address = start.address
    if address is not None:
        if not _is_in(address.key_file, where.home, key_path(where.home, row.id).name):
            raise ValueError("its key is not in our directory")
        sockets = (socket_path(where.home, row.id), where.home / f"{row.id}.sock")  # the second as lmxd once made it
        if address.socket is not None and address.socket not in sockets:
            raise ValueError("its socket is not in our directory")
        if not (address.health.startswith("/") and address.health.isprintable() and address.health.isascii()):
            raise ValueError("its health path is none")
        if address.port is not None and not 0 < address.port < 2**16:
            raise ValueError("its port is none")
    caches, kept = where.state / "prompts", start.kept
    if start.plan.prompts is not None and not _is_in(
        start.plan.prompts, caches, PromptCaches(caches, 0).door(row.id).name
    ):
        raise ValueError("its prompts are not in our directory")
    if kept is not None and not (_CACHE.fullmatch(kept.name) and _is_in(kept, caches, kept.name)):
        raise ValueError("its prompt cache is not in our directory")
    asked = [x for each in (ask.sleeps, *(o.demand for o in ask.options)) for x in each.values()]
    _require_figures(row, [*option.demand.values(), *asked])
    return start


def _is_in(path: Path, directory: Path, name: str) -> bool:
    """Returns whether it is that very path, by a way without links."""
    return path == directory / name and not path.is_symlink() and not directory.is_symlink()


def _require_numbers(text: str) -> None:
    """ValueError if JSON has a number that is none, or too great for anything that is to be stored or waited for."""

    def number(written: str) -> float:
        if not abs(found := float(written)) <= _GREATEST:  # also not if it is NaN
            raise ValueError("its figures are none")
        return found

    json.loads(text, parse_int=number, parse_float=number, parse_constant=number)


def _require_figures(row: InstanceRow, sizes: list[int]) -> None:
    figures = (row.started_at, row.active_at, row.work, row.prompted, 0.0 if row.ready_at is None else row.ready_at)
    if not all(isinstance(x, int | float) and 0 <= x <= _GREATEST for x in figures):
        raise ValueError("its figures are none")
    if not all(0 <= size <= _LARGEST for size in sizes):
        raise ValueError("its bytes are more than any device has")


def users(rows: Iterable[InstanceRow], where: Places) -> frozenset[int]:
    """The users that engines of a ledger's rows were started as, beside our own: ``engine.user`` may be another now."""
    found = set()
    for row in rows:
        with suppress(ValueError):
            if row.start is not None and (uid := start_of(row, where).uid) is not None:
                found.add(uid)
    return frozenset(found)


def found(where: Places, engines: Set[int]) -> list[InstanceRow]:
    """Rows made from the processes themselves, of our own user and of those that ``engines`` run as."""
    rows: dict[str, InstanceRow] = {}
    refused: list[tuple[int, str]] = []
    for pid, env in sorted(orphans(where.home, engines).items(), key=lambda item: proc.born(item[0]) or math.inf):
        if CERTIFICATE not in env or len(rows) >= _MOST:
            continue
        try:
            row = _row_of_session(pid, env[CERTIFICATE], where)
        except Exception as error:  # whatever it shows, it stops no start
            refused.append((pid, reason(error)))
            continue
        rows.setdefault(row.id, row)  # its children carry the same
    refused += [(pid, "it is another user's process") for pid in impostors(where.home, engines)]
    for pid, why in refused[:_TOLD]:
        log.warning("pid %d has a certificate that is not taken: %s", pid, why)
    if len(refused) > _TOLD:
        log.warning("%d more have certificates that are not taken", len(refused) - _TOLD)
    return list(rows.values())


def _row_of_session(pid: int, certificate: str, where: Places) -> InstanceRow:
    """The row that a process carries, of the process that began its session, which may have hidden its own.

    Raises as ``row_of``. That other process is believed to be the instance's if it writes to the instance's log.
    """
    leader = proc.session_of(pid) or pid
    row = row_of(leader, certificate, where)
    if leader != pid and silent(where.logs, {}, [leader]).get(leader) != file_name(row.id):
        raise ValueError("it is not the process that lmxd started")
    return row


def reason(error: Exception) -> str:
    """The reason why something is not taken, with nothing in it of what somebody else wrote."""
    foreign = isinstance(error, ValidationError | json.JSONDecodeError | TypeError | RecursionError)
    return "it is none that lmxd writes" if foreign else ascii(str(error))[1:-1]


def row_of(pid: int, certificate: str, where: Places) -> InstanceRow:
    """The row that a process carries, with its pid as it is now. Raises what reading raises, if it carries none."""
    if len(certificate) > _LONGEST:
        raise ValueError("it is too long")
    fresh: dict[str, Any] = json.loads(certificate)
    if not isinstance(fresh, dict) or fresh.keys() != {f.name for f in fields(InstanceRow)}:
        raise ValueError("it has other fields than a row has")
    row = _ROWS.validate_json(certificate, strict=True)
    start = start_of(row, where)
    if start.uid is not None and proc.uids(pid) != {start.uid}:
        raise ValueError("it runs as another user than it says")
    address = start.address
    if address is not None and address.socket is None and address.port is None:
        start = replace(start, address=replace(address, port=listening_port(proc.tree(pid))))
    born = proc.born(pid)
    return replace(row, pid=pid, born=born, phase=Phase.READY, ready_at=row.started_at, start=as_json(start))
