"""Takes over what an instance knew that has ended for another: the new one reads its conversation."""

from __future__ import annotations

import logging
import time

from lmxd.daemon.launching.ends import end, tried
from lmxd.daemon.launching.kept import Kept
from lmxd.daemon.launching.launched import Launched

log = logging.getLogger(__name__)


async def inherit(kept: Kept, launched: Launched) -> None:
    """Have a new instance, whose key nobody has yet, read a kept conversation, if there is one for it."""
    carry = launched.inherits
    if carry is not None:
        await tried(_read(kept, carry.file, launched), f"{launched.instance} begins without what {carry.instance} had")
        kept.let_go(launched.instance)


async def _read(kept: Kept, name: str, launched: Launched) -> None:
    """Raises Uncarried, and OSError for files."""
    begun, (file, tokens) = time.monotonic(), kept.find(name)
    target = await end(launched, launched.instance)
    if target.slots != 1:  # it is of an instance with one slot
        await target.fit(file)
    await target.restore(0, file, tokens)
    log.info("%s: %d tokens read in %.2f s", launched.instance, tokens, time.monotonic() - begun)
