"""Takes over what an instance knew that has ended for another: the new one reads its conversations."""

from __future__ import annotations

import logging
import time

from lmxd.core.moves import Carry
from lmxd.daemon.launching.ends import end, longest, tried
from lmxd.daemon.launching.kept import Kept
from lmxd.daemon.launching.launched import Launched

log = logging.getLogger(__name__)


async def inherit(kept: Kept, launched: Launched) -> None:
    """Have a new instance, whose key nobody has yet, read the kept conversations that are for it, each into a slot."""
    until = longest()
    for slot, carry in enumerate(launched.inherits):
        what = f"{launched.instance} begins without what {carry.instance} had in slot {carry.slot}"
        await tried(_read(kept, carry, launched, slot), what, until)
    kept.let_go(launched.instance)


async def _read(kept: Kept, carry: Carry, launched: Launched, slot: int) -> None:
    """Raises Uncarried, and OSError for files."""
    begun, saved = time.monotonic(), kept.find(carry.file)
    target = await end(launched, launched.instance)
    await target.fit(saved, carry.spread)
    await target.restore(slot, saved)
    log.info(
        "%s: %d tokens read into slot %d in %.2f s", launched.instance, saved.tokens, slot, time.monotonic() - begun
    )
