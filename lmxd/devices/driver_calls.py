"""Calls that drivers answer, each in a thread of its own: one that hangs keeps nobody waiting but for its own device.

A thread that is inside of a driver can be neither ended nor joined. It is a daemon thread, so that the process ends
without it, and its device is not asked again until it comes back: no device ever has more than one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

DEADLINE: Final = 2.0
"""Seconds that a driver has for an answer. It takes milliseconds; of a card that has to wake up, about a second."""
PATIENT: Final = 15.0
"""The same for a program that looks only once: opening NVML takes a second for each card that nothing keeps awake."""
_AFTER: Final = 1.0
"""Seconds for a device that was late last time: a driver that is slow, not dead, must not hold up every look."""


class DriverCalls:
    """The calls under way, by the device that is asked: its address, or a name for what is no device's alone."""

    def __init__(self, deadline: float = DEADLINE) -> None:
        self.deadline = deadline
        self._turn = threading.Lock()
        self._running: dict[str, _Call[Any]] = {}
        """The last call to each device that was late last time; it may be done by now."""

    def late(self, who: str = "the driver") -> str:
        """The reason why a device has no figures of which a call was late."""
        return f"{who} has not answered for {self.deadline:g} s"

    @property
    def hanging(self) -> bool:
        """Returns whether a call that was late has not come back yet."""
        return any(not call.done.is_set() for call in list(self._running.values()))

    def ask(self, jobs: Mapping[str, Callable[[], T]]) -> dict[str, T]:
        """Ask all devices at once; the answers of those that give one in time. A job's exception is raised here.

        A device with a call that has not come back is not asked. What comes back late is thrown away: it may be old.
        """
        with self._turn:  # a reload asks from another thread than looks do
            begun = {key: self._begun(job) for key, job in jobs.items() if not self._hangs(key)}
            since, answers = time.monotonic(), {}
            for key, call in begun.items():
                patience = min(_AFTER, self.deadline) if key in self._running else self.deadline
                if call.done.wait(max(0.0, since + patience - time.monotonic())):
                    self._running.pop(key, None)
                    answers[key] = call
                else:
                    self._running[key] = call
        return {key: call.answer() for key, call in answers.items()}

    def _hangs(self, key: str) -> bool:
        running = self._running.get(key)
        return running is not None and not running.done.is_set()

    def _begun(self, job: Callable[[], T]) -> _Call[T]:
        call = _Call(job)
        threading.Thread(target=call.run, name="lmxd-driver", daemon=True).start()
        return call


class CallRound:
    """One look by way of several questions. A device that was ``late`` once is not asked again: its figures would be of
    two moments.
    """

    def __init__(self, calls: DriverCalls) -> None:
        self._calls = calls
        self.late: set[str] = set()

    def ask(self, jobs: Mapping[str, Callable[[], T]]) -> dict[str, T]:
        """The answers of the devices that gave one to this question and all before."""
        answers = self._calls.ask({key: job for key, job in jobs.items() if key not in self.late})
        self.late |= jobs.keys() - answers.keys()
        return answers


class _Call(Generic[T]):
    """One call, with its answer or its exception when it is ``done``."""

    def __init__(self, job: Callable[[], T]) -> None:
        self._job = job
        self._answers: list[T] = []
        self._error: BaseException | None = None
        self.done = threading.Event()

    def run(self) -> None:
        try:
            self._answers.append(self._job())
        except BaseException as error:  # it is raised where the answer is wanted
            self._error = error
        finally:
            self.done.set()

    def answer(self) -> T:
        if self._error is not None:
            raise self._error
        return self._answers[0]
