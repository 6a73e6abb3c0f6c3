"""The list of models that the gateway keeps: never old, and nobody waits for the next one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from waiting import turns

from lmxd.errors import LmxdError
from lmxd.gateway.leasing.models import KnownModels, meanings_of
from lmxd.rpc.books import ModelInfo, Models, VariantInfo
from lmxd.rpc.client import AsyncClient

FEW: dict[str, Any] = {"aliases": [], "ctx": 1, "slots": 1, "bytes": {}, "running": 0}


@dataclass
class Lists:
    """A daemon whose lists have the number of the call, and come when they are let."""

    asked: int = 0
    answers: list[asyncio.Future[Models]] = field(default_factory=list)
    now: float = 100.0

    async def models(self) -> Models:
        self.asked += 1
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    def clock(self) -> float:
        return self.now

    def answer(self) -> None:
        self.answers[-1].set_result(Models(models=[ModelInfo(model=f"list {self.asked}", **FEW)]))


def known(lists: Lists) -> KnownModels:
    return KnownModels(cast(AsyncClient, lists), lists.clock)


async def first(models: KnownModels) -> str:
    return (await models.all())[0].model


async def with_one_list(lists: Lists) -> KnownModels:
    """Models of which the first list has come."""
    models = known(lists)
    waiting = asyncio.create_task(first(models))
    await turns(2)
    lists.answer()
    assert await waiting == "list 1"
    return models


async def test_those_who_come_together_ask_but_once() -> None:
    lists = Lists()
    models = known(lists)
    all = [asyncio.create_task(first(models)) for _ in range(5)]
    await turns(2)
    lists.answer()
    assert await asyncio.gather(*all) == ["list 1"] * 5
    assert lists.asked == 1


async def test_while_the_next_is_made_the_last_one_answers_unless_it_is_old() -> None:
    lists = Lists()
    models = await with_one_list(lists)
    lists.now += 0.6
    assert await first(models) == "list 1"
    await turns(2)
    assert lists.asked == 2
    assert await first(models) == "list 1", "nobody waits for it"
    lists.now += 0.6
    late = asyncio.create_task(first(models))
    await turns(2)
    assert not late.done(), "it is too old by now"
    lists.answer()
    assert await late == "list 2"


async def test_a_daemon_that_is_away_is_an_error_only_once_the_list_is_old() -> None:
    lists = Lists()
    models = await with_one_list(lists)
    lists.now += 0.6
    assert await first(models) == "list 1"
    await turns(2)
    lists.answers[-1].set_exception(LmxdError("daemon_unavailable", "gone", ""))
    await turns(2)
    assert await first(models) == "list 1"
    lists.now += 0.6
    waiting = asyncio.create_task(first(models))
    await turns(2)
    lists.answers[-1].set_exception(LmxdError("daemon_unavailable", "gone", ""))
    with pytest.raises(LmxdError):
        await waiting


async def test_a_list_that_was_asked_for_before_a_model_came_is_not_kept() -> None:
    lists = Lists()
    models = known(lists)
    before = asyncio.create_task(first(models))
    await turns(2)
    models.forget()
    after = asyncio.create_task(first(models))
    await turns(2)
    assert lists.asked == 2
    for answer in lists.answers:
        answer.set_result(Models(models=[ModelInfo(model=f"list {lists.answers.index(answer) + 1}", **FEW)]))
    assert (await before, await after) == ("list 1", "list 2")
    assert await first(models) == "list 2"
    assert lists.asked == 2


def test_a_name_of_ones_own_means_oneself_whatever_others_are_called_beside() -> None:
    variant = VariantInfo(name="c:big", aliases=["a"])
    models = [
        ModelInfo(model="a", **FEW),
        ModelInfo(model="b", **FEW | {"aliases": ["a", "c:big", "x"]}),
        ModelInfo(model="c", variants=[variant], **FEW | {"aliases": ["b", "x"]}),
    ]
    found = meanings_of(models)
    means = {"a": "a", "a:latest": "a", "b": "b", "c": "c", "x": "b", "c:big": "b"}
    assert {name: found[name].model.model for name in means} == means
    assert all(found[name].variant is None for name in means)
