"""Keys that are pressed while a screen is drawn: each at once, without a line's end, and none is shown."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from types import TracebackType
from typing import Any, Final, Self

END: Final = "end"
_NAMES: Final = {
    b"q": END,
    b"\x1b[A": "up",
    b"k": "up",
    b"\x1b[B": "down",
    b"j": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b" ": "page down",
    b"\x1b[H": "first",
    b"g": "first",
}


class Keyboard:
    """Waits for a time, a key or an interrupt. Without a terminal to read from there are no keys.

    An interrupt is no exception here: that might come while the screen is being taken over, and leave it so.
    """

    def __enter__(self) -> Self:
        self._woken, self._wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = signal.signal(signal.SIGINT, lambda *_: None), signal.set_wakeup_fd(self._wakes)
        self._input = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._modes: list[Any] = []
        if self._input is not None:
            self._modes = termios.tcgetattr(self._input)
            tty.setcbreak(self._input, termios.TCSANOW)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._input is not None:
            termios.tcsetattr(self._input, termios.TCSANOW, self._modes)
        handler, descriptor = self._before
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGINT, handler)
        os.close(self._woken)
        os.close(self._wakes)

    def pressed(self, seconds: float) -> str | None:
        """The key that is pressed within so many seconds, by name; END if it is time to go; None if there is none."""
        descriptors = [self._woken] if self._input is None else [self._woken, self._input]
        ready, _, _ = select.select(descriptors, [], [], seconds)
        if self._woken in ready:
            return END
        if self._input not in ready or self._input is None:
            return None
        typed = os.read(self._input, 8)
        if not typed:
            self._input = None  # the terminal has gone
            return END
        return _NAMES.get(typed)
