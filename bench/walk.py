"""The walk of a request's parameters: bench/walk.py [--functions]

A request is made of a whole lmxd, with a fake engine, and all functions are noted that are handed the request, the
model's name, or what is made of them: from the call to LeaseRequested, and from StartInstance to the argv. A file is
stayed in until another is entered; to enter it again is a return. The core and the estimator count as one stay for
each call of them, whatever happens inside.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from devices.fake_nvml import FakeNvml
from house import House, card

import lmxd

PACKAGE = Path(lmxd.__file__).parent
MODEL = "wanted"
HANDED = set(
    """RequestParams Size Profile Formula LlamaSizing DeclaredSizing Resolved Launch Option Ask LeaseRequested
    StartInstance Plan Start""".split()
)
INNER = {"core", "estimate", "gguf"}
FIRST = "daemon/answering/service.py"
DECIDED = "daemon/loop.py"
CARRIED_OUT = "daemon/launching/performer.py"
ARGV = "Command"
"""The way ends where one of these is returned."""


def file_of(frame: FrameType) -> str | None:
    """Its file below lmxd/; None if it is somebody else's."""
    path = Path(frame.f_code.co_filename)
    return str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else None


def callers(frame: FrameType) -> Iterator[FrameType]:
    above = frame.f_back
    while above is not None:
        yield above
        above = above.f_back


def is_handed_it(frame: FrameType) -> bool:
    code = frame.f_code
    given = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
    return any(type(x).__name__ in HANDED or x == MODEL or (isinstance(x, Path) and x.stem == MODEL) for x in given)


class Walk:
    """``steps``: of each of the two ways, (file, function) as they were entered."""

    def __init__(self) -> None:
        self.steps: tuple[list[tuple[str, str]], ...] = ([], [])
        self._way: int | None = None
        self._begun = False
        self._over = False
        self._seen: dict[int, FrameType] = {}
        """Kept, so that a coroutine that goes on is not taken to be called again."""

    def note(self, frame: FrameType, event: str, returned: Any) -> None:
        """For sys.setprofile."""
        if event == "return" and type(returned).__name__ == ARGV:
            self._way, self._over = None, True
        file = file_of(frame) if event == "call" and not self._over else None
        if file is None or id(frame) in self._seen or frame.f_code.co_name.startswith("<"):
            return
        if not is_handed_it(frame):
            return
        self._seen[id(frame)] = frame
        if file == FIRST and not self._begun:
            self._way, self._begun = 0, True
        elif self._way == 0 and file == DECIDED:
            self._way = None
        elif self._way is None and self._begun and file == CARRIED_OUT:
            self._way = 1
        if self._way is None or {(file_of(x) or "").split("/")[0] for x in callers(frame)} & INNER:
            return
        if not isinstance(getattr(type(frame.f_locals.get("self")), frame.f_code.co_name, None), property):
            self.steps[self._way].append((file, frame.f_code.co_qualname))


def room_of(file: str) -> str:
    parts = file.split("/")
    return "/".join(parts[:2]) if parts[0] == "daemon" and len(parts) > 2 else parts[0]


def stays(steps: list[tuple[str, str]], place: Callable[[str], str]) -> list[str]:
    found: list[str] = []
    for file, _ in steps:
        if found[-1:] != [place(file)]:
            found.append(place(file))
    return found


async def walk(directory: Path) -> Walk:
    found = Walk()
    house = House(directory, FakeNvml(card(24)), models={MODEL: {}})
    async with house.open(), house.client() as client:
        sys.setprofile(found.note)
        threading.setprofile(found.note)
        try:
            await client.request(MODEL)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", action="store_true", help="print them, in order")
    functions = parser.parse_args().functions
    with tempfile.TemporaryDirectory() as directory:
        found = asyncio.run(walk(Path(directory)))
    titles = ("from the call to LeaseRequested", "from StartInstance to the argv")
    for title, steps in zip(titles, found.steps, strict=True):
        print(f"{title}: {len(steps)} functions")
        for what, place in (("files", str), ("rooms", room_of)):
            visited = stays(steps, place)
            print(f"  {what}: {len(visited)} stays, {len(visited) - len(set(visited))} returns")
        for file, function in steps if functions else ():
            print(f"    {file:36} {function}")


if __name__ == "__main__":
    main()
