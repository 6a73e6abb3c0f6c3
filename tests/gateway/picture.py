"""Draws docs/dashboard.png: the real dashboard, daemon and gateway, over a pretended card and the fake engine.

cd tests && python -m gateway.picture. The hour behind it is scripted, for nobody wants to wait for it.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Literal

from devices.fake_nvml import Card, FakeNvml
from house import House, model
from playwright.async_api import async_playwright

from gateway.front import Front, read_until
from lmxd.gateway.board.board import Board
from lmxd.rpc.books import Device

GIB = 2**30
MODELS = {
    "llama-3.1-8b": {"estimated_memory_gb": 5.4, "slots": 4, "context_length": 8192},
    "qwen3-14b": {"estimated_memory_gb": 9.8, "context_length": 16384},
    "nomic-embed": {"estimated_memory_gb": 0.7, "slots": 8, "context_length": 2048, "pin": True},
    "qwen3-30b": {"estimated_memory_gb": 17.6, "context_length": 8192},
}
HOUR = (
    # minute, GiB of models, GiB of others
    (0, 0.6, 0.9), (4, 6.0, 0.9), (14, 15.8, 0.9), (22, 15.8, 3.1), (30, 6.0, 3.1), (33, 18.2, 0.9), (46, 18.2, 0.9),
    (48, 0.6, 0.9), (52, 6.0, 1.4), (56, 15.8, 1.4),
)  # fmt: skip


def hour(board: Board, card: Card) -> None:
    now = time.time()
    for number in range(358):
        _, charged, foreign = [step for step in HOUR if step[0] * 6 <= number][-1]
        sizes = {"charged": int(charged * GIB), "foreign": int(foreign * GIB), "reclaiming": 0, "margin": 2 * GIB}
        unused = {"ref": "0", "kind": "gpu", "name": card.name, "capacity": card.total, "reserved": 0, "limit": None}
        device = Device(id=card.uuid, used=0, headroom=0, **sizes, **unused)
        board.timeline.note(now - (358 - number) * 10, [device])


async def main() -> None:
    place = Path(tempfile.mkdtemp())
    sleeper = place / "Xorg"
    shutil.copy("/bin/sleep", sleeper)
    other = subprocess.Popen([str(sleeper), "60"])
    card = Card("GPU-8a1f3c52-77", 24 * GIB, name="A card of 24 GiB", processes={other.pid: int(1.4 * GIB)})
    for name in MODELS:
        model(place, name, token_seconds=0.02)
    house = House(place, FakeNvml(card), models=MODELS)
    async with house.open(), Front(house).open() as front:
        hour(front.board, card)
        await front.chat("nomic-embed")
        async with front.stream("llama-3.1-8b", 5000) as x, front.stream("llama-3.1-8b", 5000) as y:
            await read_until(x, "data:")
            await read_until(y, "data:")
            async with front.stream("qwen3-14b", 5000) as z, front.stream("qwen3-30b", 5) as waiting:
                await read_until(z, "data:")
                await read_until(waiting, "queued")
                for name, i in house.state.instances.items():
                    launched = house.daemon.launches.get(name)
                    assert launched is not None
                    assert launched.process is not None
                    assert card.processes is not None
                    card.processes[launched.process.pid] = sum(i.demand.values()) - 40 * 2**20
                await pictures(front)
    other.kill()
    shutil.rmtree(place)


PICTURES: tuple[tuple[str, Literal["light", "dark"], int], ...] = (
    ("dashboard", "light", 1200),
    ("dashboard-phone", "dark", 390),
)


async def pictures(front: Front) -> None:
    docs = Path(__file__).parent.parent.parent / "docs"
    async with async_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        for name, scheme, width in PICTURES:
            context = await browser.new_context(viewport={"width": width, "height": 700}, color_scheme=scheme)
            page = await context.new_page()
            await page.goto(front.url)
            await page.get_by_label("API key").fill(front.admin)
            await page.keyboard.press("Enter")
            await page.locator("#queue-rows").get_by_text("qwen3-30b", exact=True).wait_for()
            await page.wait_for_timeout(4000)
            await page.screenshot(path=docs / f"{name}.png", full_page=True)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
