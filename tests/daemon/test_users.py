"""Who is who: subordinate uids are their owner's, and a user that engines run as is nobody's member."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from house import House
from hypothesis import given, settings
from hypothesis import strategies as st

from lmxd.accounts import engine_account
from lmxd.core.words import ConnectionId
from lmxd.daemon.answering.access import Access, owner_of
from lmxd.daemon.answering.users import Users, subordinate_ranges, subordinate_to
from lmxd.daemon.rules import gid_of, uid_of
from lmxd.errors import LmxdError
from lmxd.rpc.peer import Peer

MEMBERS, ADMINS = 3001, 3002
FIRST, COUNT = 4_000_000, 1000
OWNER = next(user for user in pwd.getpwall() if 0 < user.pw_uid < 65534)
"""Any user of the system but root: its subordinate uids are those of the tests."""
UNKNOWN = next(uid for uid in range(3_900_000_000, 4_000_000_000) if uid not in {u.pw_uid for u in pwd.getpwall()})

names = st.text(st.characters(exclude_characters=":\n"), min_size=1, max_size=8)
ranges = st.lists(st.tuples(names, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=6)
lines = st.one_of(
    st.sampled_from(["", "# none", "anna", "anna:1", "anna:x:5", "anna:1:2:3", ":1:2", "anna:-1:5", "anna:1e3:5"]),
    st.text(st.characters(exclude_characters="\n"), max_size=20),
)


@given(found=ranges, junk=lines, uid=st.integers(0, 2**32 - 1))
@settings(max_examples=examples(200))
def test_a_uid_belongs_to_those_whose_ranges_have_it(found: list[tuple[str, int, int]], junk: str, uid: int) -> None:
    """Whatever else stands in the file: other lines are no ranges, and take none away."""
    text = "\n".join([*(f"{name}:{first}:{count}" for name, first, count in found), junk])
    expected = {name for name, first, count in found if first <= uid < first + count}
    more = {r.owner for r in subordinate_ranges(junk) if r.first <= uid < r.first + r.count}
    assert subordinate_to(text, uid) == expected | more
    for name, first, count in found:
        if count:
            assert name in subordinate_to(text, first)
            assert name in subordinate_to(text, first + count - 1)


@pytest.mark.parametrize("line", ["anna", "anna:1", "anna:x:5", "anna:1:2:3", ":1:2", "anna:-1:5", "anna: 1:5", ""])
def test_a_line_that_is_none_gives_nobody_anything(line: str) -> None:
    assert list(subordinate_ranges(line)) == []


def users(tmp_path: Path, *given: str) -> Users:
    (tmp_path / "subuid").write_text("".join(f"{line}\n" for line in given))
    return Users(tmp_path / "subuid")


async def test_a_user_of_the_system_is_itself_though_a_range_has_it(tmp_path: Path) -> None:
    everything = users(tmp_path, f"{OWNER.pw_name}:0:4294967295")
    for user in pwd.getpwall():
        if user.pw_uid != 65534:
            assert await everything.owner(user.pw_uid) == user.pw_uid
    assert await everything.owner(os.getuid()) == os.getuid()


@pytest.mark.parametrize("owner", [OWNER.pw_name, str(OWNER.pw_uid)])
async def test_a_subordinate_uid_is_its_owners(tmp_path: Path, owner: str) -> None:
    found = users(tmp_path, f"{owner}:{FIRST}:{COUNT}")
    assert await found.owner(FIRST) == OWNER.pw_uid
    assert await found.owner(FIRST + COUNT - 1) == OWNER.pw_uid
    with pytest.raises(LmxdError, match="belongs to no user") as refused:
        await found.owner(FIRST + COUNT)
    assert refused.value.code == "not_permitted"


@pytest.mark.parametrize(
    "given",
    [
        (f"root:{FIRST}:{COUNT}",),
        (f"0:{FIRST}:{COUNT}",),
        (f"root:{FIRST}:{COUNT}", f"{OWNER.pw_name}:{FIRST}:{COUNT}"),
        (f"no-such-user:{FIRST}:{COUNT}",),
        (f"{UNKNOWN}:{FIRST}:{COUNT}",),
        (),
    ],
)
async def test_a_uid_of_roots_or_of_nobodys_is_refused(tmp_path: Path, given: tuple[str, ...]) -> None:
    with pytest.raises(LmxdError) as refused:
        await users(tmp_path, *given).owner(FIRST)
    assert refused.value.code == "not_permitted"
    assert "/etc/subuid" in refused.value.remedy


@pytest.mark.parametrize("name", ["9" * 5000, "²", "٣", "1_0", "-1"])
async def test_odd_numbers_are_nobody(tmp_path: Path, name: str) -> None:
    """Python takes more for numbers than the system does, and fails at those of thousands of digits."""
    assert uid_of(name) is None
    assert gid_of(name) is None
    with pytest.raises(LmxdError, match="no such user"):
        engine_account(name, shared=True)
    with pytest.raises(LmxdError, match="belongs to no user"):
        await users(tmp_path, f"{name}:{FIRST}:{COUNT}").owner(FIRST)


async def test_the_uid_that_stands_for_all_others_is_nobody(tmp_path: Path) -> None:
    overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    with pytest.raises(LmxdError, match="stands for all"):
        await users(tmp_path, f"{OWNER.pw_name}:{overflow}:1").owner(overflow)


async def test_what_was_found_is_looked_up_again_after_a_minute_and_on_reload(tmp_path: Path) -> None:
    now = [1000.0]
    found = Users(tmp_path / "subuid", clock=lambda: now[0])
    (tmp_path / "subuid").write_text(f"{OWNER.pw_name}:{FIRST}:{COUNT}\n")
    assert await found.owner(FIRST) == OWNER.pw_uid
    (tmp_path / "subuid").write_text("")
    assert await found.owner(FIRST) == OWNER.pw_uid
    now[0] += 60
    with pytest.raises(LmxdError):
        await found.owner(FIRST)
    (tmp_path / "subuid").write_text(f"{OWNER.pw_name}:{FIRST}:{COUNT}\n")
    assert await found.owner(FIRST) == OWNER.pw_uid, "a refusal is not remembered"
    (tmp_path / "subuid").write_text("")
    found.forget()
    with pytest.raises(LmxdError):
        await found.owner(FIRST)


def access(tmp_path: Path, owner: str, *, shared: bool = True, engine: int = 4242) -> Access:
    made = Access(shared=shared, engines={engine})
    made.members, made.admins, made.gateway = MEMBERS, ADMINS, OWNER.pw_uid
    made.users = users(tmp_path, f"{owner}:{FIRST}:{COUNT}")
    return made


def peer(uid: int, *groups: int) -> Peer:
    return Peer(1, uid, uid, frozenset((uid, *groups)))


async def test_a_user_that_engines_run_as_is_refused_whatever_its_groups(tmp_path: Path) -> None:
    made = access(tmp_path, OWNER.pw_name, engine=OWNER.pw_uid)
    for groups in ((MEMBERS,), (ADMINS,), (MEMBERS, ADMINS)):
        for uid in (OWNER.pw_uid, FIRST):
            with pytest.raises(LmxdError, match="engines run as") as refused:
                await made.identify(peer(uid, *groups))
            assert refused.value.code == "not_permitted"
        assert not made.admits(peer(OWNER.pw_uid, *groups))
    assert (await made.identify(peer(0))).uid == 0, "root cannot be kept out"
    assert (await access(tmp_path, OWNER.pw_name).identify(peer(OWNER.pw_uid, MEMBERS))).uid == OWNER.pw_uid


async def test_the_daemons_own_user_is_refused_as_a_member_and_as_an_administrator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: OWNER.pw_uid)
    made = access(tmp_path, OWNER.pw_name)
    for group in (MEMBERS, ADMINS):
        with pytest.raises(LmxdError, match="engines run as"):
            await made.identify(peer(OWNER.pw_uid, group))
    own = access(tmp_path, OWNER.pw_name, shared=False)
    assert own.is_admin(await own.identify(peer(OWNER.pw_uid))), "one's own daemon is one's own"


async def test_groups_that_a_process_has_shed_count_for_quotas_and_give_no_rights(tmp_path: Path) -> None:
    """In a user namespace, a process sheds all groups but its primary one."""
    made, listed = access(tmp_path, OWNER.pw_name), set(os.getgrouplist(OWNER.pw_name, OWNER.pw_gid))
    for uid in (OWNER.pw_uid, FIRST):
        found = await made.identify(Peer(1, uid, MEMBERS, frozenset((MEMBERS,))))
        assert found.groups == {MEMBERS}
        assert set(owner_of(found, ConnectionId(1)).gids) == {MEMBERS, *listed}
        made.admins = OWNER.pw_gid
        assert not made.is_admin(found)
        made.admins = ADMINS
    made.members = made.admins = OWNER.pw_gid
    with pytest.raises(LmxdError, match="may not use lmxd"):
        await made.identify(Peer(1, OWNER.pw_uid, MEMBERS, frozenset((MEMBERS,))))


async def test_nobody_gains_by_a_subordinate_uid(tmp_path: Path) -> None:
    made = access(tmp_path, OWNER.pw_name)
    found = await made.identify(peer(FIRST + 5, MEMBERS, ADMINS))
    assert (found.uid, found.subordinate) == (OWNER.pw_uid, FIRST + 5)
    assert not made.is_admin(found)
    with pytest.raises(LmxdError, match="may not ask for ben"):
        made.require_proxy(found, "ask for ben", "user")
    made.require_proxy(await made.identify(peer(OWNER.pw_uid, MEMBERS)), "ask for ben", "user")
    for groups in ((), (ADMINS,)):
        with pytest.raises(LmxdError, match="may not use lmxd"):
            await made.identify(peer(FIRST + 5, *groups))
    with pytest.raises(LmxdError, match="subordinate uid of root"):
        await access(tmp_path, "root").identify(peer(FIRST, MEMBERS, ADMINS))
    assert not made.is_admin(replace(peer(0), subordinate=FIRST))


async def test_the_system_daemon_refuses_the_user_that_root_runs_engines_as(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root runs engines as somebody else")
    h = House(tmp_path, gpu={"device": "host", "max_memory_gb": 1}, models={}, engine={"user": OWNER.pw_name})
    h.where = replace(h.where, shared=True)
    async with h.open():
        h.daemon.access.members = MEMBERS
        with pytest.raises(LmxdError, match="engines run as"):
            await h.daemon.access.identify(peer(OWNER.pw_uid, MEMBERS))
        h.write(engine={"user": "root"})
        await h.daemon.reload()
        with pytest.raises(LmxdError, match="engines run as"):  # what was started before still is
            await h.daemon.access.identify(peer(OWNER.pw_uid, MEMBERS))


CLIENT = """
import ctypes, json, os, socket, sys
path, uid, group, space = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "namespace"
os.setgroups([group])
if space:
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):  # CLONE_NEWUSER
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    print("ready", flush=True)
    sys.stdin.readline()
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
sock = socket.socket(socket.AF_UNIX)
sock.connect(path)
print("connected", flush=True)
stream = sock.makefile("rw")
for line in sys.stdin:
    try:
        stream.write(line)
        stream.flush()
    except OSError:
        pass  # it is refused: why, was said before
    while (answer := stream.readline()) and "id" not in json.loads(answer):
        pass  # a notification
    print(answer, end="", flush=True)
"""


class Foreign:
    """A client that is a process of another user, perhaps in a user namespace, with a supplementary group."""

    def __init__(self, path: Path, uid: int, *, namespace: bool = False) -> None:
        self._command = [sys.executable, "-c", CLIENT, str(path), str(uid), str(MEMBERS)]
        self._namespace = namespace

    async def __aenter__(self) -> Foreign:
        space = "namespace" if self._namespace else "plain"
        self._process = await asyncio.create_subprocess_exec(
            *self._command, space, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if self._namespace:
            if await self._line() != b"ready\n":
                pytest.skip("this kernel lets nobody make user namespaces")
            for kind in ("uid", "gid"):
                Path(f"/proc/{self._process.pid}/{kind}_map").write_text(f"0 {FIRST} {COUNT}\n")
            self._say(b"go")
        assert await self._line() == b"connected\n"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        return await asyncio.wait_for(self._process.stdout.readline(), 20)

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._say(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
        message: dict[str, Any] = json.loads(await self._line())
        return message


@asynccontextmanager
async def open_to_all(**sections: Any) -> AsyncIterator[House]:
    """A house whose socket any user can reach, as the system's daemon with its groups."""
    if os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        directory.chmod(0o755)
        rooms: dict[str, Any] = {
            "gpu": {"device": "host", "max_memory_gb": 1},
            "models": {"a": {"estimated_memory_gb": 0.1}},
        }
        async with House(directory, **(rooms | sections)).open() as h:
            h.where.socket.chmod(0o666)
            found = h.daemon.access
            found.shared, found.members, found.admins = True, MEMBERS, ADMINS
            (directory / "subuid").write_text(f"{OWNER.pw_name}:{FIRST}:{COUNT}\n")
            found.users = Users(directory / "subuid")
            yield h


@pytest.mark.parametrize("namespace", [False, True])
async def test_all_subordinate_uids_share_their_owners_quota(namespace: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Real processes, with the uids that a user namespace gives to a member. The audit log names both."""
    caplog.set_level(logging.INFO, "lmxd.audit")
    async with open_to_all(users={str(OWNER.pw_uid): {"max_leases": 1}}) as h:
        path = h.where.socket
        first, second = (1, 2) if namespace else (FIRST + 1, FIRST + 2)
        async with Foreign(path, first, namespace=namespace) as one, Foreign(path, second, namespace=namespace) as two:
            granted = await one.ask("hold", bytes=2**20)
            assert "result" in granted, granted
            (lease,) = h.state.leases.values()
            assert lease.owner.uid == OWNER.pw_uid
            refused = await two.ask("hold", bytes=2**20, wait=0)
            assert refused["error"]["data"]["code"] == "over_quota"
            governed = await two.ask("drain")
            assert governed["error"]["data"]["code"] == "not_permitted"
    log = [record.getMessage() for record in caplog.records if record.name == "lmxd.audit"]
    for uid in (FIRST + 1, FIRST + 2):
        assert any(line.startswith(f"uid {OWNER.pw_uid} ") and f"subordinate uid {uid}" in line for line in log)


async def test_a_uid_that_nobody_knows_is_refused_with_a_reason() -> None:
    async with open_to_all() as h, Foreign(h.where.socket, FIRST + COUNT) as client:
        refused = await client.ask("hello")
        assert refused["error"]["data"]["code"] == "not_permitted"
        assert "/etc/subuid" in refused["error"]["data"]["remedy"]


async def test_a_process_with_a_subordinate_uid_is_adopted_by_its_owner_alone() -> None:
    command = ("import os, sys; os.setresuid({0}, {0}, {0}); print(flush=True); sys.stdin.read()",)
    processes = []
    async with open_to_all() as h, Foreign(h.where.socket, FIRST + 1) as client:
        held = (await client.ask("hold", bytes=2**20))["result"]["lease"]
        for uid, adopts in ((FIRST + 2, True), (OWNER.pw_uid, True), (FIRST + COUNT, False), (0, False)):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", command[0].format(uid), stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            processes.append(process)
            assert process.stdout is not None
            assert await process.stdout.readline() == b"\n"
            answer = await client.ask("adopt", lease=held, pid=process.pid)
            assert ("result" in answer) == adopts, (uid, answer)
            if not adopts:
                assert answer["error"]["data"]["code"] == "not_permitted"
        for pid in (2**22 + 1, 2**31, 2**63, 10**30):
            answer = await client.ask("adopt", lease=held, pid=pid)
            assert answer["error"]["data"]["code"] == "invalid_params", pid
            answer = await client.ask("hold", bytes=2**20, pid=pid)
            assert answer["error"]["data"]["code"] == "invalid_params", pid
        assert len(h.state.leases) == 1
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
