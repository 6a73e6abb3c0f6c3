"""Instances that an earlier daemon started: found by their rows, and taken over if they are ours and answer."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.core.words import Failure, Phase
from lmxd.daemon.keeping import certificates
from lmxd.daemon.launching.doors import door
from lmxd.daemon.launching.doorway import Doorway, remove
from lmxd.daemon.launching.launched import Launched, Start
from lmxd.daemon.launching.performer import Performer
from lmxd.daemon.launching.prompts import PromptCache
from lmxd.daemon.places import Places
from lmxd.engines.engine import Endpoint
from lmxd.engines.launching import KEY, record_path
from lmxd.engines.sleeper import Sleeper
from lmxd.failures import FailureCode
from lmxd.files import open_regular
from lmxd.instances import proc
from lmxd.instances.process import Process
from lmxd.instances.shared_memory import SharedMemory
from lmxd.store.rows import InstanceRow

log = logging.getLogger(__name__)

_HEALTH: Final = 3.0
"""Seconds within which an instance must answer to be adopted."""
_KEY_FILE: Final = 44
"""Bytes of a key's file."""
ADOPTED: Final = (Phase.READY, Phase.ASLEEP)
"""The phases in which an instance is taken over: it was neither half started nor half ended."""
_HALF: Final = Failure(code=FailureCode.LOST, message="it was half started, or half ended, when lmxd was started again")
_OTHERWISE: Final = Failure(code=FailureCode.LOST, message="it was not awake or asleep as the ledger says")
_MUTE: Final = Failure(code=FailureCode.LOST, message="it did not answer when lmxd was started again")


def running(performer: Performer, row: InstanceRow, where: Places, engines: Set[int]) -> Launched | None:
    """The process of an instance, if it is still the one that was started, and a row of ours says so."""
    if row.start is None or row.pid is None or row.born is None:
        return None
    try:
        start = certificates.start_of(row, where)
    except ValueError as error:
        log.warning("the row of %a is not taken: %s", row.id, certificates.reason(error))
        return None
    group = performer.launches.groups.find(row.id, start.limits.memory_max)
    process = Process.adopt(row.pid, row.born, group, SharedMemory(record_path(where.home, row.id)))
    if process is None:
        return None
    try:
        if not proc.uids(row.pid) <= {os.geteuid(), *engines}:
            raise ValueError("it is another user's")
        key = "" if start.address is None else _key(start.address.key_file)
    except (OSError, ValueError) as error:  # who has no key file of ours may be anybody that answers
        log.warning("pid %d is not taken over as %a: %s", row.pid, row.id, certificates.reason(error))
        process.let_go()
        return None
    endpoint = None if start.address is None else Endpoint.at(start.address, key)
    return _launched(performer, row, start, key, endpoint, process)


def _key(path: Path) -> str:
    """The key in a file of ours. Raises OSError and ValueError, also for a file that is none of ours."""
    with open(open_regular(path, os.O_RDONLY), "rb") as file:
        found = file.read(_KEY_FILE + 1)
    if not KEY.fullmatch(found):  # who runs the engine may write there what it likes
        raise ValueError("its key is none that lmxd makes")
    return found.decode().strip()


async def wrong(row: InstanceRow, launched: Launched) -> Failure | None:
    """The reason why an instance cannot be taken over; None if it was ready or asleep, is so still, and answers."""
    if row.phase not in ADOPTED:
        return _HALF
    if failure := (await door(launched)).intruder or (None if await _serves(launched) else _MUTE):
        return failure
    return None if await _sleeps(launched) == (row.phase == Phase.ASLEEP) else _OTHERWISE


async def _sleeps(launched: Launched) -> bool:
    """Whether an engine that may sleep says that it does: what the ledger says of it may be of before."""
    if not launched.plan.sleeps or launched.endpoint is None or not isinstance(launched.engine, Sleeper):
        return False
    return bool(await launched.engine.asleep(launched.endpoint))


def _launched(
    performer: Performer, row: InstanceRow, start: Start, key: str, endpoint: Endpoint | None, process: Process
) -> Launched:
    return Launched(
        start=start,
        engine=performer.engine(start.plan),
        log=performer.launches.log_of(start),
        prompts=_prompts(performer, start),
        doorway=_doorway(performer, start),
        process=process,
        key=key,
        endpoint=endpoint,
        ready_at=row.ready_at,
        adopted=True,
        rests=row.phase == Phase.ASLEEP,
        work=row.work,
        prompted=row.prompted,
    )


def _prompts(performer: Performer, start: Start) -> PromptCache | None:
    """The prompt cache of an instance. The directory that an earlier lmxd left open to it is removed."""
    if start.plan.prompts is None or start.plan.carried:
        return None
    if start.kept is None:
        remove(start.plan.prompts)
        return None
    return performer.prompt_caches().reopen(start.kept, start.plan.prompts)


def _doorway(performer: Performer, start: Start) -> Doorway | None:
    """The doorway of an instance whose conversations are carried, shut."""
    if not start.plan.carried:
        return None
    doorway = performer.prompt_caches().doorway(start.plan.instance)
    doorway.shut()
    return doorway


async def _serves(launched: Launched) -> bool:
    deadline = time.monotonic() + _HEALTH
    assert launched.process is not None
    while launched.endpoint is not None and time.monotonic() < deadline:
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEALTH):
                if (await door(launched)).own and await launched.engine.ready(launched.endpoint):
                    return True
        if await launched.process.exits_within(0.1):
            return False
    return False
