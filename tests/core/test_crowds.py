"""Crowds that ask, withdraw and leave while instances die: the invariants hold after each event of all of them."""

from __future__ import annotations

import random

import pytest
from core.clients import Clients
from core.world import GIB, Gpu, World

from lmxd.core.words import Failure, Phase

_DIED = Failure(code="exited", message="it died")


class Crowd:
    """``seed``: which of them."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        cards = chance.choice([1, 1, 2])
        self.world = World({f"gpu{n}": Gpu(capacity=24 * GIB) for n in range(cards)}, queue_depth=500)
        models = {
            f"m{n}": (chance.uniform(0.2, 6), chance.uniform(0.05, 2), chance.choice([8, 12, 16, 22]))
            for n in range(chance.randint(2, 5))
        }
        loads, works = ({name: model[n] for name, model in models.items()} for n in (0, 1))
        self.clients = Clients(self.world, loads=loads | {"z": 1.0}, works=works | {"z": 0.1})
        for n in range(chance.randint(2, 8)):
            model = chance.choice(list(models))
            for _ in range(chance.randint(1, 2)):
                wants = [model] if chance.random() < 0.7 else chance.sample(list(models), 2)
                self.clients.loop(
                    f"c{n}",
                    wants,
                    max(models[each][2] for each in wants),
                    pause=chance.choice([0.001, 0.1, 1, 5]),
                    max_instances=chance.choice([1, 1, None]),
                    spread=chance.choice([1, 2, 4]) if len(wants) == 1 else 1,
                    variant=str(chance.randint(0, 1)) if chance.random() < 0.1 else "v",
                    context=chance.choice([4096, 4096, 8192]),
                )
        self.clients.after(3, self.disturb)

    def disturb(self) -> None:
        chance, what = self.chance, self.chance.random()
        if what < 0.3 and len(self.world.state.queue):
            self.withdraw(chance.choice(list(self.world.state.queue)).id)
        elif what < 0.5:
            ready = [i.id for i in self.world.state.instances.values() if i.phase is Phase.READY]
            if ready:
                self.world.exited(chance.choice(ready), _DIED)
                self.world.measure()
        elif what < 0.6:
            self.come_and_leave(chance.choice([4, 20]), chance.choice([0.1, 30, 60]))
        self.clients.carry_out()
        self.clients.after(chance.uniform(1, 20), self.disturb)

    def withdraw(self, ticket: str) -> None:
        """And ask again at once."""
        if ticket in self.clients.asked:
            *_, then = self.clients.asked.pop(ticket)
            self.world.cancel(ticket)
            self.clients.after(0.001, then)

    def come_and_leave(self, gib: float, seconds: float) -> None:
        connection = 100_000 + len(self.world.asked)
        self.world.ask("z", gib, connection=connection)

        def leave() -> None:
            self.world.leave(connection)

        self.clients.after(seconds, leave)


@pytest.mark.parametrize("seed", range(50))
def test_whatever_a_crowd_does_the_invariants_hold(seed: int) -> None:
    Crowd(seed).clients.run(240)
