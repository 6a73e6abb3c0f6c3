"""Admission as users meet it: holds, yields, plans, explanations, classes, quotas, splits, spills, kept prompts."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import Card, FakeNvml
from house import House, card, http, model

from lmxd.cli import output
from lmxd.core.words import DeviceId
from lmxd.daemon.launching.holds import Holds
from lmxd.devices.nvml import NvmlProbe
from lmxd.errors import LmxdError
from lmxd.gguf.launch import Launch
from lmxd.rpc.explanations import Planned
from lmxd.rpc.notifications import Notification

GIB = 2**30
ON_GPU = ["load_tensors:      CUDA0 model buffer size =  4155.99 MiB"]
ROOM = {"gpu": {"device": "host", "max_memory_gb": 1}}
HALF = {"estimated_memory_gb": 0.4}
LONG = {"context_length": 32768, "slots": 80}
NO_MARGIN = {"margin_gb": 0}


def house(tmp_path: Path, nvml: FakeNvml | None = None, **sections: object) -> House:
    for name in "abc":
        model(tmp_path, name, buffers=ON_GPU if nvml else [])
    base: dict[str, object] = {"models": {"a": HALF, "b": HALF, "c": HALF}}
    return House(tmp_path, nvml, **(base | ({} if nvml else ROOM) | sections))


async def test_a_hold_is_in_the_ledger_and_ends_with_its_process(tmp_path: Path) -> None:
    nvml = FakeNvml(card(24))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    async with house(tmp_path, nvml).open() as h, h.client() as lmxd:
        held = await lmxd.hold(9 * GIB, name="train", hold="explicit")
        assert (held.devices, held.cuda_visible_devices) == ({"GPU-a": 9 * GIB}, "GPU-a")
        await lmxd.adopt(held.lease, child.pid)
        nvml.cards[0].processes = {child.pid: 11 * GIB}
        why = await lmxd.why("GPU-a")
        assert [(x.instance, x.bytes, x.pid) for x in why.instances] == [("hold#1", 11 * GIB, child.pid)]
        assert why.device.foreign == 0
        nvml.cards[0].processes = {}
        child.communicate(b"\n")
        await h.until(lambda: not h.phases())
        assert (await lmxd.devices()).devices[0].headroom == 22 * GIB


@pytest.mark.parametrize("relation", ["same", "above", "below"])
async def test_a_process_counts_for_one_hold_at_most(tmp_path: Path, relation: str) -> None:
    nested = "import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', 'input()']); print(c.pid, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{nested}; c.wait()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        first, second = {"same": (child, child), "above": (child, parent.pid), "below": (parent.pid, child)}[relation]
        async with house(tmp_path).open() as h, h.client() as lmxd:
            held, other = await lmxd.hold(GIB // 4, hold="explicit"), await lmxd.hold(GIB // 4)
            await lmxd.adopt(held.lease, first)
            await lmxd.adopt(held.lease, first)
            for again in (lmxd.adopt(other.lease, second), lmxd.hold(GIB // 8, pid=second)):
                with pytest.raises(LmxdError, match="counts for another instance or hold") as refused:
                    await again
                assert refused.value.code == "invalid_params"
            await lmxd.release(held.lease)
            await h.until(lambda: len(h.phases()) == 1)
            await lmxd.adopt(other.lease, second)
        parent.communicate("\n")


async def test_the_process_of_an_instance_is_no_holds(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        await lmxd.request("a")
        held, engine = await lmxd.hold(GIB // 4), (await lmxd.instances()).instances[0].pid
        assert engine is not None
        with pytest.raises(LmxdError, match="counts for another instance or hold"):
            await lmxd.adopt(held.lease, engine)


async def test_only_a_process_of_ones_own_is_adopted_and_only_by_a_hold(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        held = await lmxd.hold(GIB // 4)
        with pytest.raises(LmxdError, match="name a running process"):
            await lmxd.adopt(held.lease, 2**22 - 1)
        lease = await lmxd.request("a")
        with pytest.raises(LmxdError, match="is not a hold"):
            await lmxd.adopt(lease.lease, os.getpid())


@pytest.mark.parametrize("failure", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("a fault of lmxd")])
async def test_a_hold_whose_process_cannot_be_watched_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """Its client is told of an error, and knows of no lease to release."""

    def fails(*_: object) -> None:
        raise failure

    monkeypatch.setattr(Holds, "adopt", fails)
    async with house(tmp_path).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError):
            await lmxd.hold(GIB // 4, hold="explicit", pid=os.getpid())
        await h.until(lambda: not h.state.leases and not h.phases())


async def test_a_hold_that_never_fits_is_refused_with_the_figures(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError) as refused:
            await lmxd.hold(3 * GIB)
        assert refused.value.code == "never_fits"
        assert "3.00 GiB" in refused.value.message


async def test_a_yield_makes_room_asks_holders_and_is_taken_back(tmp_path: Path) -> None:
    asked: list[tuple[str, dict[str, object]]] = []
    async with (
        house(tmp_path).open() as h,
        h.client(on_notification=lambda method, params: asked.append((method, params))) as lmxd,
    ):
        lease = await lmxd.request("a")
        await (await lmxd.request("b")).release()
        made = await lmxd.yield_(23 * GIB)
        await h.until(lambda: "b#1" not in h.phases())
        await h.until(lambda: any(method == Notification.YIELD for method, _ in asked))
        ((_, params),) = [x for x in asked if x[0] == Notification.YIELD]
        assert params["lease"] == lease.lease
        assert (await lmxd.devices()).devices[0].headroom < 0
        await lmxd.unyield(made.id)
        await h.until(lambda: asked[-1][1].get("within", 1) is None)
        assert (await lmxd.devices()).devices[0].headroom > 0


async def test_who_waits_for_a_slot_is_not_said_to_lack_bytes(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as other:
        lease = await lmxd.request("a", max_instances=1)
        waiting = asyncio.create_task(other.request("a", max_instances=1))
        await h.until(lambda: len(h.state.queue) > 0)
        (ticket,) = (await lmxd.queue()).tickets
        assert (ticket.waits_for, ticket.shortfalls) == (["a#1"], [])
        assert output.reason(ticket) == "waits for a#1"
        await lease.release()
        await (await waiting).release()


async def test_a_plan_says_what_would_happen_and_changes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:

        async def plan(name: str, **more: Any) -> Planned:
            before = (h.phases(), len(h.state.leases), len(h.state.tickets))
            found = await lmxd.plan(name, **more)
            assert (h.phases(), len(h.state.leases), len(h.state.tickets)) == before
            return found

        assert (await plan("a")).outcome == "start"
        assert (await plan("a")).devices == {"host": int(0.4 * GIB)}
        first = await lmxd.request("a")
        await first.release()
        shared = await plan("a")
        assert (shared.outcome, shared.instance) == ("share", "a#1")
        second = await lmxd.request("b")
        evicting = await plan("c")
        assert (evicting.outcome, evicting.evicts) == ("evict", ["a#1"])
        await lmxd.request("a")
        waiting = await plan("c")
        assert (waiting.outcome, waiting.position) == ("queue", 1)
        assert set(waiting.waits_for) <= {"a#1", "b#1"}
        assert waiting.eta is not None
        never = await plan("c", slots=250, ctx=32768)
        assert (never.outcome, never.code) == ("refuse", "never_fits")
        await second.release()


async def test_a_plan_behind_many_others_has_a_date_and_says_whom_it_waits_for(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as holder, h.client() as crowd, h.client() as lmxd:
        await holder.request("a")
        await holder.request("b")
        waiting = [asyncio.create_task(crowd.request("c")) for _ in range(10)]
        await h.until(lambda: len(h.state.queue) == 10)
        far = await lmxd.plan("c")
        assert (far.outcome, far.position) == ("queue", 11)
        assert far.eta is not None
        assert far.waits_for
        for each in waiting:
            each.cancel()


async def test_explain_tells_the_history_with_its_reasons(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        first = await lmxd.request("a")
        await first.release()
        await lmxd.request("b")
        await lmxd.request("c")
        told = await lmxd.explain("a#1")
        text = "\n".join(step.text for step in told.steps)
        assert "a#1 starts on host" in text
        assert "told to stop (evicted): the cheapest way to make room for" in text
        assert first.lease in told.related
        assert "granted on a#1" in (await lmxd.explain(first.lease)).steps[0].text
        with pytest.raises(LmxdError) as unknown:
            await lmxd.explain("l-nothing")
        assert unknown.value.code == "unknown_id"


async def test_what_failed_to_load_is_remembered_shown_and_forgotten_by_a_reload(tmp_path: Path) -> None:
    bad = {"status": 1, "lines": ["error loading model: missing tensor"]}
    model(tmp_path, "bad", exit=bad)
    async with house(tmp_path, models={"bad": HALF}).open() as h, h.client() as lmxd:
        for _ in range(3):
            with pytest.raises(LmxdError) as refused:
                await lmxd.request("bad")
            assert refused.value.code == "launch_failed"
        assert h.state.counts["instances bad"] == 1, "it was launched once"
        assert refused.value.data["retry_in"] > 0
        (shown,) = (await lmxd.models()).models
        assert shown.failures == 1
        assert shown.retry_in
        assert "missing tensor" in str(shown.problem)
        model(tmp_path, "bad")
        await h.daemon.reload()
        assert (await lmxd.request("bad")).instance == "bad#2"


async def test_a_class_above_ones_own_is_for_administrators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = {"default": {"max_priority": 2}}
    async with house(tmp_path, users=users).open() as h, h.client() as lmxd:
        assert await lmxd.request("a", priority=50)
        monkeypatch.setattr(h.daemon.access, "is_admin", lambda peer: False)
        with pytest.raises(LmxdError, match="may ask for 2 at most") as refused:
            await lmxd.request("b", priority=3)
        assert refused.value.code == "not_permitted"
        assert await lmxd.request("b", priority=2)


async def test_quotas_of_a_user_come_from_the_configuration(tmp_path: Path) -> None:
    users = {str(os.getuid()): {"max_leases": 1, "max_waiting": 0}}
    async with house(tmp_path, users=users).open() as h, h.client() as lmxd:
        await lmxd.request("a")
        with pytest.raises(LmxdError) as refused:
            await lmxd.request("b")
        assert refused.value.code == "too_many_waiting"


async def test_a_deadline_that_cannot_be_met_is_refused_at_once(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        await lmxd.request("a")
        await lmxd.request("b")
        with pytest.raises(LmxdError) as refused:
            await asyncio.wait_for(lmxd.request("c", deadline=2), 1)
        assert refused.value.code == "deadline"
        assert refused.value.data["shortfalls"]


async def test_a_model_larger_than_any_card_is_split_as_the_ledger_says(tmp_path: Path) -> None:
    nvml = FakeNvml(card(2.1, "GPU-a"), card(2.0, "GPU-b"))
    async with house(tmp_path, nvml, models={"a": LONG}, gpu=NO_MARGIN).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        assert list(lease.devices) == ["GPU-a", "GPU-b"]
        launched = h.launched("a#1")
        assert launched is not None
        words = h.argv(launched)
        split = words[words.index("-ts") + 1]
        assert sum(map(int, split.split(","))) == 3, "two layers and the output"
        assert h.env(launched)["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
        assert launched.plan.model is not None
        found = h.daemon.catalog.default.estimator.estimate(
            launched.plan.model,
            Launch(context=32768, slots=80, split=tuple(map(float, split.split(",")))),
            [h.daemon.catalog.default.card(DeviceId(gpu)) for gpu in ("GPU-a", "GPU-b")],
        )
        assert list(lease.devices.values()) == [part.total for part in found.parts.devices]


async def test_a_split_can_be_forbidden(tmp_path: Path) -> None:
    nvml = FakeNvml(card(2.1, "GPU-a"), card(2.0, "GPU-b"))
    models = {"a": LONG | {"split": False}}
    async with house(tmp_path, nvml, models=models, gpu=NO_MARGIN).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError) as refused:
            await lmxd.request("a")
        assert refused.value.code == "never_fits"


async def test_layers_go_to_ram_only_if_that_was_asked_for(tmp_path: Path) -> None:
    async with (
        house(
            tmp_path,
            FakeNvml(card(1.5)),
            models={"a": LONG | {"slots": 40}, "b": LONG | {"slots": 40, "fit": "auto"}},
            gpu=NO_MARGIN,
        ).open() as h,
        h.client() as lmxd,
    ):
        assert [d.id for d in (await lmxd.devices()).devices] == ["GPU-a", "host"], "RAM counts, for it may be used"
        with pytest.raises(LmxdError):
            await lmxd.request("a", wait=0)
        with pytest.raises(LmxdError) as refused:
            await lmxd.request("b", wait=0, min_gpu_layers=3)
        assert refused.value.code == "never_fits"
        lease = await lmxd.request("b")
        launched = h.launched(lease.instance)
        assert launched is not None
        assert h.argv(launched)[h.argv(launched).index("-ngl") + 1] in ("1", "2")


async def test_fewer_layers_on_the_gpu_than_planned_is_a_failed_launch(tmp_path: Path) -> None:
    made = house(tmp_path, FakeNvml(card(24)), models={"a": {"estimated_memory_gb": 4}})
    model(tmp_path, "a", buffers=[*ON_GPU, "load_tensors: offloaded 20/33 layers to GPU"])
    async with made.open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError, match="13 of 33 run in RAM") as refused:
            await lmxd.request("a")
        assert refused.value.data["failure"]["code"] == "misplaced"


async def test_mig_slices_are_devices_and_the_divided_gpu_is_none(tmp_path: Path) -> None:
    nvml = FakeNvml(card(40, "GPU-a"), card(24, "GPU-b"))
    nvml.cards[0].slices = [Card("MIG-1", 20 * GIB), Card("MIG-2", 10 * GIB)]
    assert [m.id for m in NvmlProbe(nvml, None).measure(set())] == ["MIG-1", "MIG-2", "GPU-b"]
    async with house(tmp_path, nvml, models={"a": {"estimated_memory_gb": 7}}).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        assert lease.devices == {"MIG-2": 7 * GIB}, "the best fit is the smallest slice"
        launched = h.launched("a#1")
        assert launched is not None
        assert h.env(launched)["CUDA_VISIBLE_DEVICES"] == "MIG-2"


async def test_a_prompt_cache_is_kept_for_the_same_user_and_settings_within_its_bound(tmp_path: Path) -> None:
    sections: dict[str, Any] = {"models": {"a": HALF | {"suspend": True, "idle_timeout": 300}, "b": HALF, "c": HALF}}
    async with house(tmp_path, engine={"prompt_cache_gb": 0.001}, **sections).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        for _ in range(3):
            await http(lease, "/v1/chat/completions", b"{}")
        await lease.release()
        keep = [await lmxd.request("b"), await lmxd.request("c")]
        assert "a#1" not in h.phases() or h.phases()["a#1"] != "ready", "it was evicted"
        (kept,) = (h.where.state / "prompts").iterdir()
        assert kept.stat().st_mode & 0o077 == 0
        assert all(file.stat().st_mode & 0o077 == 0 for file in kept.iterdir())
        assert {file.name for file in kept.iterdir()} == {"slot-0.bin", "complete"}
        for other in keep:
            await other.release()
        again = await lmxd.request("a")
        assert "llamacpp:prompt_tokens_total 3" in (await http(again, "/metrics")).text, "it was restored"


async def test_a_model_whose_file_is_missing_is_no_matter_for_the_others(tmp_path: Path) -> None:
    models = {"a": HALF | {"path": "gone.gguf", "preload": True}, "b": HALF | {"preload": True}}
    async with house(tmp_path, models=models).open() as h, h.client() as lmxd:
        assert "gone.gguf" in next(warning for warning in h.daemon.present.warnings if "models.a" in warning)
        await h.until(lambda: h.phases() == {"b#1": "ready"})
        missing, there = (await lmxd.models()).models
        assert (missing.ctx, missing.bytes) == (4096, {})
        assert missing.problem is not None
        assert "gone.gguf" in missing.problem
        assert (there.running, there.problem) == (1, None)


async def test_kept_and_preloaded_models_run_when_lmxd_has_begun(tmp_path: Path) -> None:
    models = {"a": HALF | {"keep": 1}, "b": HALF | {"preload": True}, "c": HALF}
    async with house(tmp_path, models=models).open() as h, h.client() as lmxd:
        await h.until(lambda: h.phases() == {"a#1": "ready", "b#1": "ready"})
        assert (await lmxd.request("a")).instance == "a#1"
        lease = await lmxd.request("c")
        assert lease.instance == "c#1"
        assert "b#1" not in h.phases(), "a preloaded one makes way"


async def test_exclusive_has_an_instance_alone(tmp_path: Path) -> None:
    async with house(tmp_path, models={"a": HALF | {"slots": 3}}).open() as h, h.client() as lmxd:
        first, second = await lmxd.request("a"), await lmxd.request("a")
        assert first.instance == second.instance == "a#1"
        assert (await lmxd.request("a", exclusive=True)).instance == "a#2"


async def test_what_was_pinned_comes_back_when_the_game_is_over_though_nothing_else_happens(tmp_path: Path) -> None:
    nvml = FakeNvml(card(24))
    models = {"a": {"estimated_memory_gb": 8, "pin": True, "preload": True}}
    async with house(tmp_path, nvml, models=models).open() as h, h.client() as lmxd:
        await h.until(lambda: h.phases() == {"a#1": "ready"})
        made = await lmxd.yield_(20 * GIB)
        await h.until(lambda: not h.phases())
        nvml.cards[0].processes = {4711: 20 * GIB}
        await lmxd.devices()
        await lmxd.unyield(made.id)
        assert h.phases() == {}, "the game is still there"
        nvml.cards[0].processes = {}
        await h.until(lambda: h.phases() == {"a#2": "ready"})
