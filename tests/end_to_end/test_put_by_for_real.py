"""A growth in place of its instance, on the real llama-server: what lay in the other slot is put by, and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from end_to_end.test_turns_in_slots import Talk, files
from gateway_process import Gateway
from lmxd_process import Lmxd

SIZES = {"first": 1050, "more": 150}


@pytest.mark.timeout(300)
def test_it_is_not_processed_anew_and_says_the_same(tmp_path: Path, smollm2: Path) -> None:
    static = {"path": str(smollm2), "context_length": 2048}
    models = {"static": static, "elastic": static | {"slots": 2, "elastic": {"start": 1280}}}
    lmxd = Lmxd(tmp_path, {"gpu": {"device": "host", "max_memory_gb": 0.3}, "models": models})
    with lmxd, Gateway(lmxd, instances=1) as gateway:
        first, second = (Talk(gateway, "elastic", number, **SIZES) for number in (1, 2))
        for talk in (first, second, first, first):
            talk.turn()
        assert "put by" in lmxd.log.read_text()
        assert len(files(gateway)) == 1
        assert set(lmxd.instances()) == {"elastic#2"}
        second.turn()
        assert [*first.processed[1:], second.processed[1]] == [151, 151, 151]
        alone = Talk(gateway, "static", 2, **SIZES)
        for _ in range(2):
            alone.turn()
        assert second.answers == alone.answers
