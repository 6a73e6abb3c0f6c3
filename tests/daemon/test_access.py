"""Who may do what and see what, which files are opened, and what an engine is told of its surroundings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import House, Registered, model
from sleeping_vllm import DEVICES, sleepy, sleepy_card

from lmxd.catalog.catalog import Catalog
from lmxd.config.file import parse
from lmxd.daemon.answering.access import Access
from lmxd.errors import LmxdError
from lmxd.rpc import server
from lmxd.rpc.books import LeaseInfo
from lmxd.rpc.methods import METHODS
from lmxd.rpc.peer import Peer

HALF = {"estimated_memory_gb": 0.4, "slots": 2}
ANNA, BEN, CHIEF, STRANGER, GATEWAY = 2001, 2002, 2003, 2004, 2005
MEMBERS, ADMINS, STUDENTS = 3001, 3002, 3003
Become = Callable[..., None]


def house(tmp_path: Path, **sections: Any) -> House:
    rooms: dict[str, Any] = {"gpu": {"device": "host", "max_memory_gb": 1}, "models": {"a": HALF, "b": HALF, "c": HALF}}
    return House(tmp_path, **(rooms | sections))


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Become:
    """From here on, who connects is somebody else to the daemon: what the kernel would say of another process."""

    def become(uid: int, *gids: int) -> None:
        monkeypatch.setattr(server, "peer_of", lambda sock: Peer(os.getpid(), uid, uid, frozenset((uid, *gids))))

    return become


def system_wide(h: House) -> None:
    """As if it were the system's daemon, with its two groups."""
    access = h.daemon.access
    access.shared = True
    access.members, access.admins = MEMBERS, ADMINS
    access.users = Registered()


async def test_only_members_may_connect_and_only_administrators_may_govern(tmp_path: Path, become: Become) -> None:
    async with house(tmp_path).open() as h:
        system_wide(h)
        become(STRANGER)
        async with h.client(patience=0) as lmxd:
            with pytest.raises(LmxdError):
                await lmxd.status()
        become(ANNA, MEMBERS)
        async with h.client() as anna:
            lease = await anna.request("a", hold="explicit")
            governing = [method for method in METHODS.values() if method.admin]
            assert {method.name for method in governing} >= {*"stop pin drain reload yield unyield forget".split()}
            for method in governing:
                fields = [field for field in method.params.model_fields.values() if field.is_required()]
                params = [1 if field.annotation is int else lease.instance for field in fields]
                with pytest.raises(LmxdError) as refused:
                    await getattr(anna, method.attribute)(*params)
                assert (refused.value.code, refused.value.exit_status) == ("not_permitted", 77), method
        become(CHIEF, ADMINS)
        async with h.client() as chief:
            assert (await chief.drain()).leases == 1
            assert not (await chief.drain(end=True)).draining
            assert (await chief.stop(lease.instance)).instance == lease.instance


def test_the_user_that_a_system_daemon_runs_as_is_nobody_special() -> None:
    """Its engines run as that user, too."""
    mine = Peer(1, 4242, 4242, frozenset((4242,)))
    access = Access(shared=True)
    access.members, access.admins = MEMBERS, ADMINS
    assert not access.admits(mine)
    assert access.admits(Peer(1, 0, 0, frozenset((0,))))
    assert not Access(shared=False).admits(mine)
    assert Access(shared=False).is_admin(Peer(1, os.getuid(), 0, frozenset()))


async def test_of_other_users_leases_only_the_bytes_are_seen(tmp_path: Path, become: Become) -> None:
    async with house(tmp_path).open() as h:
        system_wide(h)
        become(ANNA, MEMBERS)
        async with h.client() as anna:
            hers = await anna.request("a")
            alone = await anna.request("b")
            become(BEN, MEMBERS)
            seen: list[dict[str, object]] = []
            async with h.client(on_notification=lambda _, params: seen.append(params)) as ben:
                await ben.watch()
                his = await ben.request("a")
                assert his.instance == hers.instance
                found = {i.instance: i for i in (await ben.instances()).instances}
                shared, other = found[his.instance], found[alone.instance]
                assert [x.lease for x in shared.leases] == [None, his.lease]
                assert shared.leases[0] == LeaseInfo(bytes=int(0.4 * 2**30) // 2, slots=1)
                assert shared.pid is not None
                assert (other.pid, other.endpoint) == (None, None)
                assert other.charged == {"host": int(0.4 * 2**30)}
                for lease in (hers.lease, alone.lease):
                    for act in (ben.release, ben.renew):
                        with pytest.raises(LmxdError, match="belongs to another user"):
                            await act(lease)
                with pytest.raises(LmxdError, match="belongs to another user"):
                    await ben.explain(hers.lease)
                steps = (await ben.explain(his.instance)).steps
                assert any(his.lease in step.text for step in steps)
                assert not any(hers.lease in step.text for step in steps)
                seen.clear()
                await anna.release(hers.lease)
                await h.until(lambda: any(event.get("event") == "EndLease" for event in seen))
                assert hers.lease not in str(seen)


async def test_nobody_is_told_the_ids_of_other_users_requests_and_leases(tmp_path: Path, become: Become) -> None:
    """Neither in a decision that has no owner, such as a start, nor in the reason of one's own."""
    twice = {"estimated_memory_gb": 0.9, "slots": 1}
    async with house(
        tmp_path, models={"a": twice, "b": twice}, admission_control={"preempt": True, "grace": 1}
    ).open() as h:
        system_wide(h)
        become(BEN, MEMBERS)
        seen: list[dict[str, object]] = []
        async with h.client(on_notification=lambda _, params: seen.append(params)) as ben:
            his = await ben.request("b")
            await ben.watch()
            await ben.release(his.lease)
            become(ANNA, MEMBERS)
            async with h.client() as anna:
                hers = await anna.request("a")
                ids = {*re.findall(r"t-[0-9a-f]{8}", str(h.daemon.journal.get(hers.lease))), hers.lease}
                assert len(ids) > 1
                await h.until(lambda: any(x.get("event") == "GrantLease" for x in seen))
                assert {x.get("event") for x in seen} >= {"StopInstance", "StartInstance", "GrantLease"}
                for step in (await ben.explain(his.instance)).steps:
                    assert not any(name in step.text for name in ids), step
                await anna.release(hers.lease)
                await h.until(lambda: sum(x.get("event") == "EndLease" for x in seen) == 2)
            assert not any(name in str(seen) for name in ids)
            assert "another user's request" in str(seen)


async def test_a_holder_that_is_to_yield_is_not_told_for_whom(tmp_path: Path, become: Become) -> None:
    twice = {"estimated_memory_gb": 0.9, "slots": 1}
    rules = {"admission_control": {"preempt": True, "grace": 60}, "users": {str(ANNA): {"max_priority": 50}}}
    async with house(tmp_path, models={"a": twice, "b": twice}, **rules).open() as h:
        system_wide(h)
        become(BEN, MEMBERS)
        seen: list[tuple[str, dict[str, object]]] = []
        async with h.client(on_notification=lambda name, params: seen.append((name, params))) as ben:
            await ben.request("b")
            become(ANNA, MEMBERS)
            async with h.client() as anna:
                asked = asyncio.create_task(anna.request("a", priority=50))
                await h.until(lambda: any(name == "lmxd.yield" for name, _ in seen))
                (ticket,) = h.state.tickets
                assert ticket not in str(seen)
                asked.cancel()


async def test_a_user_watches_with_so_many_connections(tmp_path: Path, become: Become) -> None:
    async with house(tmp_path).open() as h:
        system_wide(h)
        become(ANNA, MEMBERS)
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(h.client()) for _ in range(33)]
            for client in clients[:32]:
                assert (await client.watch()).watching
            assert (await clients[0].watch()).watching, "which it does already"
            with pytest.raises(LmxdError) as refused:
                await clients[32].watch()
            assert refused.value.code == "too_many"
            become(BEN, MEMBERS)
            async with h.client() as ben:
                assert (await ben.watch()).watching


async def test_of_other_users_requests_only_place_and_bytes_are_seen(tmp_path: Path, become: Become) -> None:
    async with house(tmp_path).open() as h:
        system_wide(h)
        become(ANNA, MEMBERS)
        async with h.client() as anna:
            for name in "ab":
                await anna.request(name)
            third = asyncio.create_task(anna.request("c"))
            await h.until(lambda: len(h.state.queue) == 1)
            become(BEN, MEMBERS)
            async with h.client() as ben:
                (ticket,) = (await ben.queue()).tickets
                assert (ticket.ticket, ticket.model, ticket.uid, ticket.pid, ticket.waits_for) == (None,) * 4 + ([],)
                assert (ticket.position, ticket.bytes) == (1, int(0.4 * 2**30))
                (name,) = h.state.tickets
                with pytest.raises(LmxdError, match="belongs to another user"):
                    await ben.cancel(ticket=name)
            third.cancel()


async def test_only_the_gateway_and_administrators_say_whom_they_ask_for(tmp_path: Path, become: Become) -> None:
    async with house(tmp_path).open() as h:
        async with h.client() as own:
            lease = await own.request("a", user="anna")
            assert lease.instance == "a#1", "a daemon of one's own"
            await lease.release()
        system_wide(h)
        h.daemon.access.gateway = GATEWAY
        for uid, group in ((GATEWAY, MEMBERS), (CHIEF, ADMINS), (0, 0)):
            become(uid, group)
            async with h.client() as asking:
                await asking.request("a", user="anna")
                (instance,) = (await asking.instances()).instances
                assert [(x.uid, x.user) for x in instance.leases] == [(uid, "anna")]
            await h.until(lambda: not h.state.leases)
        become(ANNA, MEMBERS)
        async with h.client() as anna:
            with pytest.raises(LmxdError, match=f"uid {ANNA} may not ask for ben") as refused:
                await anna.request("a", user="ben")
            assert refused.value.code == "not_permitted"
            assert (await anna.request("a")).instance == "a#1"


async def test_only_the_gateway_and_administrators_say_how_long_it_waited(tmp_path: Path, become: Become) -> None:
    async with house(tmp_path).open() as h:
        system_wide(h)
        h.daemon.access.gateway = GATEWAY
        become(GATEWAY, MEMBERS)
        async with h.client() as gateway:
            assert (await gateway.request("a", user="anna", waited=20)).instance == "a#1"
        await h.until(lambda: not h.state.leases)
        become(ANNA, MEMBERS)
        async with h.client() as anna:
            with pytest.raises(LmxdError, match=f"uid {ANNA} may not say that it waited 20 s elsewhere") as refused:
                await anna.request("a", waited=20)
            assert refused.value.code == "not_permitted"
            assert refused.value.remedy.startswith("leave waited out; ")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("used_elsewhere", 0.0, "used 0 byte-seconds"),
        ("used_elsewhere", 5e9, r"used 5e\+09 byte-seconds"),
        ("weight", 3.0, "weighs 3"),
    ],
)
async def test_only_the_gateway_and_administrators_speak_for_a_fleet(
    tmp_path: Path, become: Become, key: str, value: float, said: str
) -> None:
    async with house(tmp_path).open() as h:
        system_wide(h)
        h.daemon.access.gateway = GATEWAY
        become(GATEWAY, MEMBERS)
        async with h.client() as gateway:
            await gateway.request("a", user="anna", used_elsewhere=7e9, weight=2.0)
            assert h.state.shares.by_user[GATEWAY, "anna"].weight == 2
            assert h.state.shares.by_user[GATEWAY, "anna"].elsewhere == pytest.approx(7e9, rel=0.01)
            (had,) = (await gateway.status()).users
            assert (had.user, had.leases, had.waiting) == ("anna", 1, 0)
            assert had.use < 7e9, "what it used elsewhere is not said again"
        await h.until(lambda: not h.state.leases)
        become(ANNA, MEMBERS)
        async with h.client() as anna:
            assert (await anna.status()).users == []
            with pytest.raises(LmxdError, match=f"uid {ANNA} may not say that it {said} elsewhere") as refused:
                await anna.request("a", **{key: value})  # type: ignore[arg-type]
            assert refused.value.code == "not_permitted"
            assert refused.value.remedy.startswith(f"leave {key} out; ")


async def test_only_the_gateway_and_administrators_reach_a_model_that_sleeps(tmp_path: Path, become: Become) -> None:
    """Its engine puts to sleep whoever's it is for everybody who reaches its socket."""
    models = {"v": sleepy(tmp_path, "v"), "a": HALF}
    async with House(tmp_path, sleepy_card(tmp_path), models=models, gpu=DEVICES).open() as h:
        system_wide(h)
        h.daemon.access.gateway = GATEWAY
        become(ANNA, MEMBERS)
        async with h.client() as anna:
            for call in (anna.request, anna.plan):
                with pytest.raises(LmxdError, match=f"uid {ANNA} may not lease v: it has sleep: true") as refused:
                    await call("v")
                assert refused.value.code == "not_permitted"
                assert "ask the gateway" in refused.value.remedy
            assert not h.state.instances
            assert (await anna.request("a")).instance == "a#1"
        for uid, group in ((GATEWAY, MEMBERS), (CHIEF, ADMINS), (0, 0)):
            become(uid, group)
            async with h.client() as asking:
                assert (await asking.request("v")).instance == "v#1"
                assert (await asking.plan("v")).outcome


async def test_who_waits_for_a_model_that_a_reload_lets_sleep_does_not_get_it(tmp_path: Path, become: Become) -> None:
    awake = {key: value for key, value in sleepy(tmp_path, "v").items() if key != "sleep"}
    models = {"v": awake, "w": sleepy(tmp_path, "w") | {"sleep": False}}
    async with House(tmp_path, sleepy_card(tmp_path), models=models, gpu=DEVICES).open() as h:
        system_wide(h)
        become(BEN, MEMBERS)
        async with h.client() as ben:
            in_the_way = await ben.request("w")
            become(ANNA, MEMBERS)
            async with h.client() as anna:
                waiting = asyncio.create_task(anna.request("v"))
                await h.until(lambda: len(h.state.queue) == 1)
                h.write(models={**models, "v": awake | {"sleep": True}})
                become(CHIEF, ADMINS)
                async with h.client() as chief:
                    await chief.reload()
                await in_the_way.release()
                with pytest.raises(LmxdError, match="it has sleep: true"):
                    await waiting
                await h.until(lambda: not h.state.leases)


@pytest.mark.parametrize("user", ["", "two words", "a\n", "\x1b[31m", "x" * 65, "<b>", "[red]"])
async def test_whom_one_asks_for_has_a_plain_name(tmp_path: Path, user: str) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError) as refused:
            await lmxd.request("a", user=user)
        assert refused.value.code == "invalid_params"


async def test_the_members_of_a_group_share_its_quota(tmp_path: Path, become: Become) -> None:
    groups = {str(STUDENTS): {"max_leases": 1}}
    async with house(tmp_path, groups=groups).open() as h:
        system_wide(h)
        become(ANNA, MEMBERS, STUDENTS)
        async with h.client() as anna:
            await anna.request("a")
            become(BEN, MEMBERS, STUDENTS)
            async with h.client() as ben:
                with pytest.raises(LmxdError, match=f"group {STUDENTS} has 1 of at most 1 leases") as refused:
                    await ben.request("b", wait=0)
                assert refused.value.code == "over_quota"
            become(CHIEF, MEMBERS)
            async with h.client() as other:
                assert await other.request("b")


class Students(Registered):
    """Users who are all listed as students."""

    async def groups(self, uid: int) -> frozenset[int]:
        return frozenset((STUDENTS,))


async def test_a_process_that_sheds_its_groups_sheds_no_quota(tmp_path: Path, become: Become) -> None:
    async with house(tmp_path, groups={str(STUDENTS): {"max_leases": 1}}).open() as h:
        system_wide(h)
        h.daemon.access.users = Students()
        become(ANNA, MEMBERS)
        async with h.client() as anna:
            await anna.request("a")
            with pytest.raises(LmxdError, match=f"group {STUDENTS} has 1 of at most 1 leases"):
                await anna.request("b", wait=0)


async def test_every_grant_refusal_and_act_is_in_the_log(
    tmp_path: Path, become: Become, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lmxd.audit")
    async with house(tmp_path).open() as h:
        system_wide(h)
        become(ANNA, MEMBERS)
        async with h.client() as anna:
            lease = await anna.request("a")
            with pytest.raises(LmxdError):
                await anna.request("a", ctx=32768, slots=200, wait=0)
            with pytest.raises(LmxdError):
                await anna.request("none\nsuch")
            with pytest.raises(LmxdError):
                await anna.drain()
            become(0)
            async with h.client() as root:
                await root.stop(lease.instance)
                other = await root.request("b", user="ben")
    said = [r.getMessage() for r in caplog.records if r.name == "lmxd.audit"]
    pid = os.getpid()
    assert f"grant {lease.lease} on a#1 to uid {ANNA} pid {pid}" in said
    hers = f"uid {ANNA} pid {pid}"
    assert any(line.startswith(f"{hers} refused (never_fits): lease a: ") for line in said)
    assert any(line.startswith(f"{hers} refused (unknown_model): lease none\nsuch: ") for line in said)
    assert any(line.startswith(f"{hers} refused (not_permitted): drain lmxd") for line in said)
    assert f"grant {other.lease} on b#1 to uid 0 pid {pid} for ben" in said
    assert f"uid 0 pid {pid} done: stop {lease.instance}" in said
    assert lease.api_key not in "".join(said)


def catalog(directory: Path, **sections: Any) -> Catalog:
    return Catalog(parse(str({"model_dir": str(directory)} | sections), "test"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A directory for models, and beside it a model that is in none."""
    (tmp_path / "models").mkdir()
    model(tmp_path, "outside")
    model(tmp_path / "models", "inside")
    return tmp_path / "models"


def refused(found: Catalog, name: str) -> str:
    with pytest.raises(LmxdError) as error:
        found.file(name)
    assert error.value.code == "model_file_forbidden"
    assert error.value.exit_status == 78
    return str(error.value)


def test_a_link_out_of_the_directories_is_not_followed(models: Path) -> None:
    (models / "link.gguf").symlink_to("../outside.gguf")
    message = refused(catalog(models, models={"link": {}}), "link")
    assert f"is {models.parent}/outside.gguf, which is in no directory for models" in message
    assert f"add {models.parent} to model_dirs" in message
    assert catalog(models, models={"link": {}}, model_dirs=[str(models.parent)]).file("link") == models / "link.gguf"


def test_a_link_that_is_turned_later_is_not_followed_either(models: Path) -> None:
    (models / "link.gguf").symlink_to("inside.gguf")
    found = catalog(models, models={"link": {}})
    assert found.file("link") == found.file("link") == models / "link.gguf"
    (models / "link.gguf").unlink()
    (models / "link.gguf").symlink_to("../outside.gguf")
    refused(found, "link")


def test_a_link_within_them_is(models: Path) -> None:
    (models / "link.gguf").symlink_to("inside.gguf")
    assert catalog(models, models={"link": {}}).file("link") == models / "link.gguf"


def test_a_path_cannot_climb_out(models: Path) -> None:
    refused(catalog(models, models={"m": {"path": "../outside.gguf"}}), "m")
    (models / "sub").symlink_to(models.parent)
    refused(catalog(models, models={"m": {"path": "sub/outside.gguf"}}), "m")
    refused(catalog(models, models={"m": {"path": f"{models}/../outside.gguf"}}), "m")
    assert catalog(models, models={"m": {"path": str(models.parent / "outside.gguf")}}).file("m")


def test_a_part_of_a_split_model_is_no_way_out_either(models: Path) -> None:
    model(models, "split-00001-of-00002")
    (models / "split-00002-of-00002.gguf").symlink_to("../outside.gguf")
    assert "a part of" in refused(catalog(models, models={"m": {"path": "split-00001-of-00002.gguf"}}), "m")


def test_what_is_not_a_file_is_not_opened(models: Path) -> None:
    os.mkfifo(models / "pipe.gguf")
    (models / "zero.gguf").symlink_to("/dev/zero")
    (models / "directory.gguf").mkdir()
    found = catalog(models, models={"pipe": {}, "zero": {}, "directory": {}}, model_dirs=["/dev"])
    for name in ("pipe", "zero", "directory"):
        assert "is not a regular file" in refused(found, name)


async def test_a_forbidden_file_is_refused_to_the_client(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/a.gguf").symlink_to("/etc/passwd")  # root's, whoever we are
    async with House(tmp_path, model_dir=str(tmp_path / "models"), models={"a": {}}).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError, match="in no directory for models"):
            await lmxd.request("a")
        assert h.phases() == {}


async def test_an_engine_knows_nothing_of_the_daemons_surroundings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "AWS_SECRET_ACCESS_KEY",
        "LLAMA_ARG_CTX_SIZE",
        "LD_PRELOAD_",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "HF_TOKEN",
    ):
        monkeypatch.setenv(name, "x")
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        env = h.env(h.launched(lease.instance))
        assert not env.keys() & {
            "AWS_SECRET_ACCESS_KEY",
            "LLAMA_ARG_CTX_SIZE",
            "LD_PRELOAD_",
            "NOTIFY_SOCKET",
            "HF_TOKEN",
        }
        assert "LISTEN_FDS" not in env
        assert lease.api_key not in str(env)
