"""Work beside the block of a ``with``, in a thread, until the block ends: what it raises is raised there."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Background(threading.Thread, ABC):
    """``work`` is done until ``_over`` is set. Its error is raised where the block ends."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self._failed: Exception | None = None

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        if self._failed is not None:
            raise self._failed

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:  # it is raised where the block ends
            self._failed = error

    @abstractmethod
    def work(self) -> None: ...
