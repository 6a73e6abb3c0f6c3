"""A node fetches a model from another node's door: estimated first, gone on with, compared, and served."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import synthetic
import vision
import yaml
from adapters import adapter
from aiohttp import web
from fleet_home import box
from house import House
from waiting import until

from lmxd.cli.fleet.copying import profile
from lmxd.config.copied import allowed
from lmxd.config.file import load
from lmxd.config.profile import Profile
from lmxd.errors import LmxdError
from lmxd.fleet import home
from lmxd.fleet.authority.certificates import Authority
from lmxd.fleet.calls import Copying, CopyParams
from lmxd.fleet.copying import offering
from lmxd.fleet.copying.copies import Copies, OwnLmxd
from lmxd.fleet.copying.offering import Offering
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole
from lmxd.fleet.tls import server_context
from lmxd.gateway.requests import failures
from lmxd.gateway.requests.failures import ErrorFormat

NODE = MemberRole.NODE
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Pair:
    """Two nodes, of which ``n1`` has models and a door, and ``n2`` fetches them.

    ``ranges``: what was asked for; ``asked``: the same, each behind the name of its file.
    """

    def __init__(self, directory: Path, authority: Authority, models: dict[str, dict[str, object]]) -> None:
        for name in ("n1", "n2"):
            (directory / name).mkdir(exist_ok=True)
        self.here, self.there = House(directory / "n1", models=models), House(directory / "n2", models={})
        self.homes = [box(authority, directory / f"fleet-{name}", name, [NODE]) for name in ("n1", "n2")]
        self.ranges: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.lies: Callable[[dict[str, Any]], object] = lambda manifest: None
        """Changes what ``n1`` says of a model."""
        self.asks = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Pair]:
        async with self.here.open(), self.there.open(), self.here.client() as client:
            app = web.Application(middlewares=[self._guarded])
            app.add_routes(Offering(client, self.here.config_path).routes())
            running = web.AppRunner(app)
            await running.setup()
            site = web.TCPSite(running, "127.0.0.1", 0, ssl_context=server_context(self.homes[0], NODE))
            await site.start()
            self.address = f"127.0.0.1:{running.addresses[0][1]}"
            own = OwnLmxd(config=self.there.config_path, socket=self.there.where.socket, user=True)
            self.copies = Copies(self.homes[1], own)
            try:
                yield self
            finally:
                await self.copies.close()
                await running.cleanup()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if "Range" in request.headers:
            self.ranges.append(request.headers["Range"])
            self.asked.append((request.match_info.get("file", ""), request.headers["Range"]))
        try:
            answer = await handler(request)
            if isinstance(answer, web.Response) and answer.content_type == "application/json":
                manifest = json.loads(answer.text or "")
                self.lies(manifest)
                answer.text = json.dumps(manifest)
            return answer
        except LmxdError as error:
            return failures.response(error, failures.status_of(error), ErrorFormat.OPENAI)

    async def copied(self, model: str, *, peer: str = "n1") -> Copying:
        """A copy to its end."""
        self.asks += 1
        params = CopyParams(id=f"c{self.asks}", model=model, peer=peer, address=self.address)
        steps: list[Copying] = []

        async def ended() -> bool:
            steps.append(await self.copies.copy(params))
            return steps[-1].finished

        await until(ended)
        return steps[-1]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new("home")


async def test_a_model_is_copied_and_served_at_once(tmp_path: Path, authority: Authority) -> None:
    async with Pair(tmp_path, authority, {"a": {"path": "a.gguf"}}).open() as pair:
        done = await pair.copied("a")
        original = pair.here.directory / "a.gguf"
        assert (done.node, done.peer, done.done) == ("n2", "n1", original.stat().st_size)
        assert (pair.there.directory / "a.gguf").read_bytes() == original.read_bytes()
        assert load(pair.there.config_path).models.keys() == {"a"}
        async with pair.there.client() as client:
            assert [x.model for x in (await client.models()).models] == ["a"], "lmxd has read its configuration again"


async def test_all_parts_and_what_is_beside_a_model_are_copied(tmp_path: Path, authority: Authority) -> None:
    """With the settings of its profile that count on any box; the checksum of each file is compared."""
    (tmp_path / "n1").mkdir()
    parts = synthetic.decoder(
        "llama", layers=2, embedding=64, heads=4, kv_heads=2, feed_forward=128, vocabulary=100, head=32, context=32768
    )
    names = split(tmp_path / "n1", "big", *parts)
    vision.projector(tmp_path / "n1/eyes.gguf", 64)
    adapter(tmp_path / "n1/words.gguf", 64)
    profile = {
        "path": names[0],
        "mmproj": str(tmp_path / "n1/eyes.gguf"),
        "lora": [{"path": str(tmp_path / "n1/words.gguf"), "scale": 0.5}],
        "context_length": 2048,
        "slots": 3,
        "cache_type_k": "q8_0",
        "aliases": ["large"],
        "engine_flags": ["--temp", "0.1"],
        "gpu_layers": 1,
        "priority": 7,
    }
    async with Pair(tmp_path, authority, {"m": profile}).open() as pair:
        done = await pair.copied("m")
        there = pair.there.directory
        files = {
            "m-00001-of-00002.gguf": names[0],
            "m-00002-of-00002.gguf": names[1],
            "mmproj-m.gguf": "eyes.gguf",
            "lora1-m.gguf": "words.gguf",
        }
        for copy, original in files.items():
            assert (there / copy).read_bytes() == (pair.here.directory / original).read_bytes()
        assert done.done == done.total == sum((there / copy).stat().st_size for copy in files)
        copied = load(pair.there.config_path).models["m"]
    assert (copied.path, copied.mmproj) == (there / "m-00001-of-00002.gguf", there / "mmproj-m.gguf")
    assert [(x.path, x.scale) for x in copied.lora] == [(there / "lora1-m.gguf", 0.5)]
    assert (copied.context_length, copied.slots, copied.cache_type_k, copied.aliases) == (2048, 3, "q8_0", ("large",))
    assert copied.engine_flags == ("--temp", "0.1")
    assert (copied.gpu_layers, copied.priority) == (Profile().gpu_layers, Profile().priority), "they are of a box"


def split(directory: Path, name: str, metadata: Mapping[str, Any], tensors: Sequence[synthetic.Shape]) -> list[str]:
    """A model in two parts; their names."""
    half = len(tensors) // 2
    names = [f"{name}-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, (file, some) in enumerate(zip(names, (tensors[:half], tensors[half:]), strict=True)):
        about = {"split.no": number, "split.count": 2, "split.tensors.count": len(tensors)}
        synthetic.write(directory / file, (dict(metadata) if number == 0 else {}) | about, some)
    return names


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        pytest.param({"path": "/etc/shadow", "env": {"A": "b"}, "command": "x", "slots": 2}, {"slots": 2}, id="others"),
        pytest.param({"draft": {"path": "/x", "tokens": 4}}, {"draft": {"tokens": 4}}, id="the path of a draft"),
        pytest.param({"lora": [{"path": "/x", "scale": 2}]}, {"lora": [{"scale": 2}]}, id="that of an adapter"),
        pytest.param({"lora": "/x", "draft": "/x", "chat_template_file": "/x"}, {}, id="paths alone"),
    ],
)
def test_a_peer_names_neither_paths_nor_programs(settings: dict[str, Any], kept: dict[str, Any]) -> None:
    assert allowed(settings) == kept


async def test_a_size_that_does_not_fit_there_is_left_out(tmp_path: Path, authority: Authority) -> None:
    """69 GiB of cache, for a model of some MiB."""
    (tmp_path / "n1").mkdir()
    parts = synthetic.decoder(
        "llama", layers=8, embedding=64, heads=32, kv_heads=32, feed_forward=64, vocabulary=100, head=128, context=32768
    )
    synthetic.write(tmp_path / "n1/wide.gguf", *parts)
    profile = {"path": "wide.gguf", "context_length": 32768, "slots": 16, "reasoning": "off"}
    async with Pair(tmp_path, authority, {"wide": profile}).open() as pair:
        await pair.copied("wide")
        copied = load(pair.there.config_path).models["wide"]
    assert (copied.context_length, copied.slots, copied.reasoning) == (None, 1, "off")


async def test_what_was_broken_off_is_gone_on_with(tmp_path: Path, authority: Authority) -> None:
    async with Pair(tmp_path, authority, {"a": {"path": "a.gguf"}}).open() as pair:
        whole = (pair.here.directory / "a.gguf").read_bytes()
        (pair.there.directory / "a.gguf.part").write_bytes(whole[:1000])
        await pair.copied("a")
        assert "bytes=1000-" in pair.ranges
        assert (pair.there.directory / "a.gguf").read_bytes() == whole


async def test_what_is_not_the_same_is_thrown_away(tmp_path: Path, authority: Authority) -> None:
    async with Pair(tmp_path, authority, {"a": {"path": "a.gguf"}}).open() as pair:
        (pair.there.directory / "a.gguf.part").write_bytes(b"x" * 1000)
        with pytest.raises(LmxdError, match="SHA-256 is another") as raised:
            await pair.copied("a")
        assert raised.value.code == "bad_model_file"
        assert not list(pair.there.directory.glob("a.gguf*"))
        assert (await pair.copied("a")).finished, "the next copy begins anew"


@pytest.mark.parametrize(
    ("lie", "code", "why"),
    [
        ({"size": 5000}, "bad_model_file", "longer than the 5000 bytes that were said"),
        ({"size": 2**60}, "config", "has not room for it"),
        ({"file": "a-00001-of-00900.gguf"}, "invalid_params", "--size is not said of a-00002-of-00900.gguf"),
    ],
    ids=["longer", "the disk", "parts without end"],
)
async def test_a_peer_fills_no_disk(
    tmp_path: Path, authority: Authority, lie: dict[str, Any], code: str, why: str
) -> None:
    """Nothing comes that it did not say before, and all that it said has room."""
    async with Pair(tmp_path, authority, {"a": {"path": "a.gguf"}}).open() as pair:
        pair.lies = lambda manifest: manifest["files"][0].update(lie)
        with pytest.raises(LmxdError, match=why) as raised:
            await pair.copied("a")
        assert raised.value.code == code
        assert sum(path.stat().st_blocks for path in pair.there.directory.glob("a*")) == 0


async def test_a_model_has_more_files_than_one_packet_names(tmp_path: Path, authority: Authority) -> None:
    async with Pair(tmp_path, authority, {"a": {"path": "a.gguf"}}).open() as pair:
        pair.lies = lambda manifest: manifest.update(settings={"x": "y" * 2**20})
        with pytest.raises(LmxdError, match="n1 says more than 1 MiB about its model") as raised:
            await pair.copied("a")
        assert raised.value.code == "bad_answer"
        pair.lies = lambda manifest: manifest.update(settings={"x": "y" * 700_000})
        assert (await pair.copied("a")).finished


@pytest.mark.parametrize("served", ["as a profile", "from its directory"])
async def test_a_file_of_another_model_is_not_replaced(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, served: str
) -> None:
    """The other node says what its files are called."""
    monkeypatch.setattr(offering, "file_name", lambda *_: "mine.gguf")
    async with Pair(tmp_path, authority, {"a": {"path": "a.gguf"}}).open() as pair:
        file = pair.there.directory / "mine.gguf"
        file.write_bytes((pair.here.directory / "a.gguf").read_bytes() + b"mine")
        before = file.read_bytes()
        if served == "as a profile":
            pair.there.write(models={"b": {"path": "mine.gguf"}})
        else:
            pair.there.write(models_from=[str(pair.there.directory)])
        with pytest.raises(LmxdError, match=r"is a file of (b|mine), whose place") as raised:
            await pair.copied("a")
        assert (raised.value.code, file.read_bytes()) == ("config", before)


async def test_what_does_not_fit_is_not_fetched(tmp_path: Path, authority: Authority) -> None:
    """A header of 400 GB, whose weights are a hole in its file: nobody reads them for it."""
    async with Pair(tmp_path, authority, {"huge": {"path": "huge.gguf", "estimated_memory_gb": 1}}).open() as pair:
        parts = synthetic.decoder(
            "llama",
            layers=100,
            embedding=16384,
            heads=128,
            kv_heads=8,
            feed_forward=53248,
            vocabulary=100,
            head=128,
            context=8192,
            kind="q8_0",
        )
        header, size = synthetic.header(*parts)
        with (pair.here.directory / "huge.gguf").open("wb") as file:
            file.write(header)
            file.truncate(size)
        with pytest.raises(LmxdError, match="does not fit") as raised:
            await pair.copied("huge")
        assert raised.value.code == "never_fits"
        assert not list(pair.there.directory.glob("huge*"))


async def test_a_slash_in_a_name_is_none_of_the_path(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "n1/org").mkdir(parents=True)
    async with Pair(tmp_path, authority, {"a": {"path": "a.gguf"}, "org/b:Q4": {"path": "a.gguf"}}).open() as pair:
        await pair.copied("org/b:Q4")
        assert load(pair.there.config_path).models.keys() == {"org/b:Q4"}
        assert (pair.there.directory / "a.gguf").exists()


@pytest.mark.parametrize(
    ("model", "peer", "code"),
    [
        pytest.param("unknown", "n1", "unknown_model", id="no such model"),
        pytest.param("../a", "n1", "unknown_model", id="a path"),
        pytest.param("gone", "n1", "model_file_missing", id="its file is gone"),
        pytest.param("a", "n9", "daemon_unavailable", id="another node answers at that address"),
    ],
)
async def test_what_cannot_be_copied_is_said(
    tmp_path: Path, authority: Authority, model: str, peer: str, code: str
) -> None:
    models = {name: {"path": f"{name}.gguf", "estimated_memory_gb": 1} for name in ("a", "gone")}
    async with Pair(tmp_path, authority, models).open() as pair:
        (pair.here.directory / "gone.gguf").unlink()
        with pytest.raises(LmxdError) as raised:
            await pair.copied(model, peer=peer)
        assert raised.value.code == code


@pytest.mark.parametrize(
    "said", ["[]", '{"error": "no"}', '{"error": [1]}', '{"error": {}}', '{"error":' + "[" * 100_000], ids=range(5)
)
async def test_a_peer_s_error_that_is_none_is_told_of(tmp_path: Path, authority: Authority, said: str) -> None:
    def refuse(_: object) -> None:
        raise web.HTTPNotFound(text=said)

    async with Pair(tmp_path, authority, {"a": {"path": "a.gguf", "estimated_memory_gb": 1}}).open() as pair:
        pair.lies = refuse
        with pytest.raises(LmxdError, match="n1 answered with something else") as raised:
            await pair.copied("a")
        assert raised.value.code == "bad_answer"


def of_the_system(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory, which its lmxd serves, into which the second node copies from now on as the system's does."""
    copies = pair.there.directory / "copies"
    monkeypatch.setattr(home, "SYSTEM_STATE", pair.homes[1].state)
    monkeypatch.setattr(home, "SYSTEM_COPIES", copies)
    pair.there.write(models_from=[str(copies)])
    return copies


async def test_the_system_s_copies_are_served_from_a_directory_of_their_own(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node may write neither the configuration nor its model_dir; engines run as another user."""
    async with Pair(tmp_path, authority, {"a": {"path": "a.gguf"}}).open() as pair:
        copies = of_the_system(pair, monkeypatch)
        async with pair.there.client() as client:
            await client.reload()
            before = pair.there.config_path.read_text()
            await pair.copied("a")
            assert pair.there.config_path.read_text() == before

            async def served() -> list[str]:
                return [x.model for x in (await client.models()).models]

            await until(served)  # lmxd looks at its directories now and then
            assert await served() == ["a"]
        assert (copies / "a.gguf").stat().st_mode & 0o777 == 0o644


async def test_settings_that_the_system_s_node_cannot_write_are_shown_and_count_once_they_are_written(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "n1").mkdir()
    adapter(tmp_path / "n1/words.gguf", 64)
    words = [{"path": str(tmp_path / "n1/words.gguf"), "scale": 0.5}]
    given = {"path": "a.gguf", "context_length": 2048, "slots": 3, "lora": words, "gpu_layers": 1}
    async with Pair(tmp_path, authority, {"a": given}).open() as pair:
        copies = of_the_system(pair, monkeypatch)
        async with pair.there.client() as client:
            await client.reload()
            done = await pair.copied("a")
            shown = yaml.safe_load("\n".join(profile(done)))
            adapters = [{"path": str(copies / "lora1-a.gguf"), "scale": 0.5}]
            assert shown == {
                "a": {"path": str(copies / "a.gguf"), "context_length": 2048, "slots": 3, "lora": adapters}
            }
            pair.there.write(models_from=[str(copies)], models=shown)
            await client.reload()
            (listed,) = (await client.models()).models
            assert (listed.model, listed.ctx, listed.slots) == ("a", 2048, 3)


async def test_a_stranger_gets_no_file(tmp_path: Path, authority: Authority) -> None:
    """One whose certificate another authority signed, though it has the same names."""
    async with Pair(tmp_path, authority, {"a": {"path": "a.gguf"}}).open() as pair:
        rogue: FleetHome = box(Authority.new("home"), tmp_path / "rogue", "n2", [NODE])
        rogue.ca.write_bytes(pair.homes[0].ca.read_bytes())
        pair.copies = Copies(rogue, OwnLmxd(config=pair.there.config_path, socket=pair.there.where.socket, user=True))
        with pytest.raises(LmxdError, match="not reached"):
            await pair.copied("a")
        assert pair.ranges == []


async def test_parts_that_are_whole_are_not_fetched_again(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "n1").mkdir()
    parts = synthetic.decoder(
        "llama", layers=2, embedding=64, heads=4, kv_heads=2, feed_forward=128, vocabulary=100, head=32, context=32768
    )
    first, second = split(tmp_path / "n1", "m", *parts)
    async with Pair(tmp_path, authority, {"m": {"path": first}}).open() as pair:
        here, there = pair.here.directory, pair.there.directory
        (there / first).write_bytes((here / first).read_bytes())
        (there / second).write_bytes(b"x" * (here / second).stat().st_size)
        done = await pair.copied("m")
        assert done.done == done.total
        assert [name for name, wanted in pair.asked if wanted == "bytes=0-" and ".sha256" not in name] == [second]
        assert (there / second).read_bytes() == (here / second).read_bytes()
