"""Sleep and wakes of instances: an engine is told, and what came of it is an event."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from lmxd.core.events import Event, InstanceReady, InstanceSlept, SleepFailed
from lmxd.core.words import Failure
from lmxd.daemon.launching.doors import door
from lmxd.daemon.launching.launched import Launched
from lmxd.engines.sleeper import Sleeper
from lmxd.failpoints import hit
from lmxd.failures import FailureCode

log = logging.getLogger(__name__)

LONGEST: Final = 60.0
"""Seconds for an engine to fall asleep: it copies its weights to RAM, and others wait for its bytes."""


async def fall_asleep(launched: Launched) -> Event:
    """Have an instance fall asleep. From now on what it takes says nothing about its launch."""
    hit("sleep_performed")
    launched.rests = True
    slept = await _told(launched, LONGEST, wake=False)
    hit("slept")
    now = time.monotonic()
    if slept:
        return InstanceSlept(at=now, instance=launched.instance)
    return _failed(launched, f"its engine did not fall asleep within {LONGEST:g} s, or says that it cannot")


async def wake(launched: Launched) -> Event:
    """Have an instance wake. It has as long as to load."""
    hit("wake_performed")
    begun, seconds = time.monotonic(), launched.start.limits.load_timeout
    woke = await _told(launched, seconds, wake=True)
    hit("woken")
    now = time.monotonic()
    if woke:
        launched.ready_at, launched.rests = now, False
        return InstanceReady(at=now, instance=launched.instance, loading=now - begun)
    return _failed(launched, f"its engine did not wake within {seconds:g} s, or says that it cannot")


async def _told(launched: Launched, seconds: float, *, wake: bool) -> bool:
    """Whether an engine says that it did as it was told. One that cannot be told has not."""
    engine, endpoint = launched.engine, launched.endpoint
    if not isinstance(engine, Sleeper) or endpoint is None:
        return False
    try:
        async with asyncio.timeout(seconds):
            if not (await door(launched)).own:
                return False
            return await (engine.wake if wake else engine.put_to_sleep)(endpoint, seconds)
    except TimeoutError:
        return False
    except Exception:
        log.exception("%s could not be told to %s", launched.instance, "wake" if wake else "sleep")
        return False


def _failed(launched: Launched, message: str) -> SleepFailed:
    log.warning("%s: %s; it is ended", launched.instance, message)
    failure = Failure(code=FailureCode.SLEEPLESS, message=message)
    return SleepFailed(at=time.monotonic(), instance=launched.instance, failure=failure)
