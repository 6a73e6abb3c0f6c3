"""Leases, end to end in one process: asked over the socket, carried by fake engines, ended in every way."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from house import House, http, model
from waiting import until

from lmxd.core.words import InstanceId
from lmxd.errors import LmxdError
from lmxd.rpc.notifications import Notification, Progress

HALF = {"estimated_memory_gb": 0.4}
ROOM_FOR_TWO: dict[str, Any] = {"gpu": {"device": "host", "max_memory_gb": 1}}


def house(tmp_path: Path, **sections: Any) -> House:
    return House(tmp_path, **({"models": {"a": HALF, "b": HALF, "c": HALF}} | ROOM_FOR_TWO | sections))


async def test_a_lease_has_a_working_endpoint(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        assert (await http(lease, "/v1/chat/completions", b"{}")).status == 200
        assert lease.devices == {"host": int(0.4 * 2**30)}
        assert (lease.basis, lease.ctx, lease.slots) == ("declared", 4096, 1)


async def test_an_endpoint_is_closed_to_who_has_no_key(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        stranger = lease.model_copy(update={"api_key": "guess"})
        assert (await http(stranger, "/v1/chat/completions", b"{}")).status == 401
        launched = h.launched(lease.instance)
        assert launched is not None
        assert lease.api_key not in " ".join(h.argv(launched))
        assert (h.where.home / f"{lease.instance}.key").stat().st_mode & 0o777 == 0o600


async def test_a_unix_socket_endpoint(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        assert lease.socket == str(h.where.home / "a#1/s.sock")
        assert [i.socket for i in (await lmxd.instances()).instances] == [lease.socket]
        assert (await http(lease, "/v1/chat/completions", b"{}")).status == 200
        await lmxd.stop("a#1")
        await h.until(lambda: not h.phases())
        assert not Path(lease.socket).parent.exists(), "nothing is left of it"


async def test_three_agents_and_room_for_two(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as one, h.client() as two, h.client() as three:
        first, _ = await asyncio.gather(one.request("a"), two.request("b"))
        told: list[Progress] = []
        third = asyncio.create_task(three.request("c", on_progress=told.append))
        await h.until(lambda: bool(told))
        assert (told[0].state, told[0].position) == ("queued", 1)
        assert {x.name for x in told[0].shortfalls[0].holders} >= {"a#1", "b#1"}
        await first.release()
        lease = await asyncio.wait_for(third, 10)
        assert lease.instance == "c#1"
        assert told[-1].state == "starting"


async def test_a_client_that_dies_frees_its_lease_and_its_place_in_the_queue(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as two, h.client() as alive:
        async with h.client() as one:
            await one.request("a")
            await two.request("b")
            async with h.client() as dead:
                waits = asyncio.create_task(dead.request("c"))
                await h.until(lambda: len(h.state.queue) == 1)
            with pytest.raises(LmxdError, match="closed the connection"):
                await waits
            await h.until(lambda: not h.state.queue)
            request = asyncio.create_task(alive.request("c"))
            await h.until(lambda: len(h.state.queue) == 1)
        assert (await asyncio.wait_for(request, 10)).instance == "c#1", "one is gone, and its instance was evicted"


async def test_a_killed_engine_is_noticed_and_its_bytes_return(tmp_path: Path) -> None:
    ended: list[tuple[str, dict[str, str]]] = []
    async with house(tmp_path).open() as h, h.client(on_notification=lambda n, p: ended.append((n, p))) as lmxd:
        lease = await lmxd.request("a")
        pid = h.daemon.launches.pids()[InstanceId("a#1")]
        os.kill(pid, signal.SIGKILL)
        await h.until(lambda: not h.phases())
        assert h.state.ledger.accounts["host"].reservations == {}
        ((method, params),) = ended
        assert method == Notification.LEASE_ENDED
        assert (params["lease"], params["reason"]) == (lease.lease, "instance_exited")
        assert "killed" in params["detail"]


async def test_idle_instances_are_reaped_and_leases_told(tmp_path: Path) -> None:
    ended: list[tuple[str, dict[str, str]]] = []
    async with (
        house(tmp_path, idle_timeout=0.5).open() as h,
        h.client(on_notification=lambda n, p: ended.append((n, p))) as lmxd,
    ):
        lease = await lmxd.request("a")
        await h.until(lambda: bool(ended))
        assert ended[0][1]["reason"] == "idle_timeout"
        await h.until(lambda: not h.phases())
        with pytest.raises(LmxdError) as caught:
            await lmxd.renew(lease.lease)
        assert caught.value.code == "lease_ended"
        assert caught.value.data["reason"] == "idle_timeout"
        assert (await lmxd.request("a")).instance == "a#2", "a new request brings it back"


async def test_use_of_the_endpoint_and_touch_keep_an_instance(tmp_path: Path) -> None:
    small = {name: {"estimated_memory_gb": 0.3} for name in "abc"}
    async with house(tmp_path, models=small, idle_timeout=1.5).open() as h, h.client() as lmxd:
        used, touched, _ = await lmxd.request("a"), await lmxd.request("b"), await lmxd.request("c")

        async def only_the_unused_is_gone() -> bool:
            await http(used, "/v1/chat/completions", b"{}")
            await lmxd.renew(touched.lease)
            return h.phases() == {"a#1": "ready", "b#1": "ready"}

        await until(only_the_unused_is_gone)


async def test_a_busy_instance_is_not_reaped(tmp_path: Path) -> None:
    async with house(tmp_path, idle_timeout=0.5).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        await http(lease, "/fake/busy", b"1")
        await lmxd.request("b")
        await h.until(lambda: "b#1" not in h.phases())
        assert h.phases() == {"a#1": "ready"}, "its timeout was over before"
        await http(lease, "/fake/busy", b"0")
        await h.until(lambda: not h.phases())


async def test_an_idle_instance_makes_way_and_a_busy_one_does_not(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as other:
        busy, idle = await lmxd.request("a"), await lmxd.request("b")
        await http(busy, "/fake/busy", b"1")
        await busy.release()
        await idle.release()
        lease = await asyncio.wait_for(other.request("c"), 10)
        assert lease.instance == "c#1"
        assert h.phases()["a#1"] == "ready", "it was idle for longer, but somebody talks to it"


async def test_a_request_that_never_fits_is_refused_without_a_launch(tmp_path: Path) -> None:
    models = {"huge": {"estimated_memory_gb": 5000}, "wide": {"context_length": 32768, "slots": 256}}
    async with house(tmp_path, models=models).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError) as caught:
            await lmxd.request("huge")
        assert caught.value.code == "never_fits"
        assert "5000.00 GiB on host; there is never more than 1.00 GiB" in caught.value.message
        with pytest.raises(LmxdError) as caught:
            await lmxd.request("wide")
        assert "tokens would fit" in caught.value.remedy
        fits = caught.value.data["fits"]["ctx"]
        assert f"a context of {fits} tokens would fit" in caught.value.remedy
        assert h.phases() == {}
        assert await lmxd.request("wide", ctx=fits), "what was said to fit does fit"


async def test_who_cannot_hold_bytes_is_told_of_bytes_and_of_no_context(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as other:
        with pytest.raises(LmxdError) as caught:
            await lmxd.hold(5000 * 2**30)
        assert (caught.value.code, caught.value.remedy) == ("never_fits", "hold less, or raise max_memory_gb")
        assert "there is never more than 1.00 GiB" in caught.value.message
        await lmxd.request("a")
        with pytest.raises(LmxdError) as caught:
            await other.hold(int(0.9 * 2**30), wait=0)
        assert caught.value.code == "no_capacity"
        assert caught.value.remedy == "ask again later, wait longer (--wait, or Prefer: wait), or hold less"


async def test_no_wait_and_wait_and_the_queues_depth(tmp_path: Path) -> None:
    async with house(tmp_path, admission_control={"queue_depth": 1}).open() as h, h.client() as lmxd:
        await asyncio.gather(lmxd.request("a"), lmxd.request("b"))
        with pytest.raises(LmxdError) as caught:
            await lmxd.request("c", wait=0)
        assert caught.value.code == "no_capacity"
        assert "held by" in caught.value.message
        waiting = asyncio.create_task(lmxd.request("c", wait=0.5))
        await h.until(lambda: len(h.state.queue) == 1)
        with pytest.raises(LmxdError) as caught:
            await lmxd.request("c")
        assert caught.value.code == "queue_full"
        with pytest.raises(LmxdError) as caught:
            await waiting
        assert caught.value.code == "wait_expired"


async def test_cancel_takes_a_request_out_of_the_queue(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        await asyncio.gather(lmxd.request("a"), lmxd.request("b"))
        waiting = asyncio.create_task(lmxd.request("c"))
        await h.until(lambda: len(h.state.queue) == 1)
        (ticket,) = [t.ticket for t in (await lmxd.queue()).tickets]
        assert ticket is not None
        await lmxd.cancel(ticket=ticket)
        with pytest.raises(LmxdError) as caught:
            await waiting
        assert caught.value.code == "cancelled"


async def test_a_ttl_lease_outlives_its_connection_but_not_its_ttl(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        async with h.client() as asks:
            lease = await asks.request("a", hold="ttl", ttl=0.6)
        assert (await lmxd.renew(lease.lease)).expires_in == pytest.approx(0.6, abs=0.1)
        await h.until(lambda: not list(h.state.leases))
        with pytest.raises(LmxdError) as caught:
            await lmxd.release(lease.lease)
        assert caught.value.data["reason"] == "ttl_expired"


async def test_an_explicit_lease_lasts_until_release(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        async with h.client() as asks:
            lease = await asks.request("a", hold="explicit")
        assert [x.lease for i in (await lmxd.instances()).instances for x in i.leases] == [lease.lease]
        await lmxd.release(lease.lease)
        assert list(h.state.leases) == []


FAILURES: dict[str, dict[str, Any]] = {
    "out_of_memory": {"exit": {"status": 1, "lines": ["0.00.1 E ggml: cudaMalloc failed: out of memory"]}},
    "bad_model": {"exit": {"status": 1, "lines": ["0.00.1 E llama_model_load: error loading model: broken"]}},
    "bad_flag": {"exit": {"status": 1, "lines": ["error: invalid argument: --frob"]}},
    "exited": {"exit": {"status": 3, "lines": ["I give up"]}},
    "crashed": {"signal": int(signal.SIGABRT)},
    "killed": {"signal": int(signal.SIGKILL)},
    "load_timeout": {"silent": True},
}


@pytest.mark.parametrize("code", FAILURES)
async def test_a_failed_launch_says_why_and_gives_the_bytes_back(tmp_path: Path, code: str) -> None:
    model(tmp_path, "a", **FAILURES[code])
    async with house(tmp_path, engine={"load_timeout": 1}).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError) as caught:
            await lmxd.request("a")
        assert caught.value.code == "launch_failed"
        assert caught.value.data["failure"]["code"] == code
        assert caught.value.data["failure"]["log"][0].startswith("started with") or code == "load_timeout"
        await h.until(lambda: not h.phases())
        assert (await lmxd.request("b")).instance == "b#1"


async def test_a_stop_that_hangs_is_escalated(tmp_path: Path) -> None:
    model(tmp_path, "a", ignore_sigterm=True)
    async with house(tmp_path, engine={"stop_timeout": 0.4}).open() as h, h.client() as lmxd:
        await lmxd.request("a")
        await lmxd.stop("a#1")
        assert h.phases() == {"a#1": "stopping"}
        await h.until(lambda: not h.phases())


async def test_leases_share_an_instance_up_to_its_slots(tmp_path: Path) -> None:
    async with house(tmp_path, models={"a": HALF | {"slots": 2}}).open() as h, h.client() as lmxd:
        leases = await asyncio.gather(*(lmxd.request("a") for _ in range(3)))
        assert sorted(x.instance for x in leases) == ["a#1", "a#1", "a#2"]
        assert len(h.state.instances) == 2


async def test_a_log_that_floods_is_cut(tmp_path: Path) -> None:
    model(tmp_path, "a", flood_mb=3)
    async with house(tmp_path, engine={"log_max_mb": 1}, idle_timeout=5).open() as h, h.client() as lmxd:
        await lmxd.request("a")
        path = h.daemon.launches.log_path(InstanceId("a#1"))
        await h.until(lambda: path.stat().st_size < 2**20 and "cut by lmxd" in path.read_text())


async def test_a_log_that_floods_while_it_loads_is_cut(tmp_path: Path) -> None:
    """It is never ready, so that nobody asks it anything; it writes all the same."""
    model(tmp_path, "a", chatter=True)
    async with house(tmp_path, engine={"log_max_mb": 1}, idle_timeout=5).open() as h, h.client() as lmxd:
        asking = asyncio.create_task(lmxd.request("a"))
        await h.until(lambda: bool(h.daemon.launches.pids()))
        ((name, pid),) = h.daemon.launches.pids().items()
        await h.until(lambda: _written(pid) > 100 * 2**20)
        path = h.daemon.launches.log_path(name)
        assert path.stat().st_size < 50 * 2**20
        h.daemon.launches.stop(name)
        await h.until(lambda: h.daemon.launches.get(name) is None)
        assert path.stat().st_size <= 2**20
        asking.cancel()


def _written(pid: int) -> int:
    """Bytes that a process has written, wherever to."""
    return int(Path(f"/proc/{pid}/io").read_text().split("wchar: ")[1].split()[0])


async def test_doing_nothing_costs_nothing(tmp_path: Path) -> None:
    """With nothing running and nobody waiting, the daemon does not even look at the devices."""
    async with house(tmp_path, idle_timeout=1).open() as h, h.client() as lmxd:
        assert h.daemon.measuring.period() is None
        assert h.daemon.loop.asleep
        await (await lmxd.request("a")).release()
        assert h.daemon.measuring.period() == 1.0
        (instance,) = h.state.instances.values()
        instance.active_at -= 60
        assert h.daemon.measuring.period() == 5.0, "what nobody uses is hardly looked at"
        await h.until(lambda: not h.phases())
        assert h.daemon.measuring.period() is None
        assert h.daemon.loop.asleep


async def test_a_failure_of_our_own_ends_the_instance_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:

        def broken(*_: object) -> str | None:
            raise ZeroDivisionError

        monkeypatch.setattr(h.daemon.present.servers["llama.cpp"], "misplaced", broken)
        with pytest.raises(LmxdError, match="ZeroDivisionError") as caught:
            await lmxd.request("a")
        assert caught.value.data["failure"]["code"] == "internal"
        await h.until(lambda: not h.phases())
        assert h.daemon.launches.pids() == {}


async def test_what_runs_is_leased_though_its_file_and_its_engine_are_gone(tmp_path: Path) -> None:
    """It promises no bytes, and so needs neither."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        await (await lmxd.request("a")).release()
        (tmp_path / "llama-server").rename(tmp_path / "engine.away")
        lease = await lmxd.request("a")
        assert lease.instance == "a#1"
        with pytest.raises(LmxdError, match="not an executable"):
            await lmxd.request("a")
        (tmp_path / "engine.away").rename(tmp_path / "llama-server")
        (tmp_path / "a.gguf").unlink()
        with pytest.raises(LmxdError) as refused:
            await lmxd.request("a")
        assert refused.value.code == "model_file_missing"
        await lease.release()
        assert (await lmxd.request("a")).instance == "a#1"


async def test_a_reload_changes_what_a_request_comes_to(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        assert (await lmxd.request("a")).ctx == 4096
        await (await lmxd.request("a")).release()
        h.write(models={"a": HALF | {"context_length": 8192}})
        await lmxd.reload()
        assert (await lmxd.request("a", wait=5)).ctx == 8192, "an instance of before is too small"


async def test_who_uses_leases_again_is_told_when_somebody_waits(tmp_path: Path) -> None:
    told: list[str] = []
    async with (
        house(tmp_path).open() as h,
        h.client(on_notification=lambda name, _: told.append(name)) as reusing,
        h.client(on_notification=lambda name, _: told.append(name)) as another,
    ):
        first = await reusing.request("a", reuse=True)
        assert not first.wanted
        waiting = asyncio.create_task(another.request("a", exclusive=True, max_instances=1))
        await h.until(lambda: bool(told))
        assert told == [Notification.WANTED], "once, and to who asked for it alone"
        await reusing.release(first.lease)
        await waiting
        assert not (await reusing.request("b", reuse=True)).wanted, "nobody waits any longer"


async def test_nothing_is_kept_of_who_used_leases_again_and_has_left(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h:
        for _ in range(3):
            async with h.client() as lmxd:
                await lmxd.request("a", reuse=True)
                assert len(h.daemon.answers.reusing) == 1
            await h.until(lambda: not h.state.leases)
        assert not h.daemon.answers.reusing
