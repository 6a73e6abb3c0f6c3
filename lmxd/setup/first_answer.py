"""The daemon that was set up, and the first question to a model of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lmxd.cli.conversation import answered
from lmxd.cli.wishes import WaitBar
from lmxd.errors import LmxdError
from lmxd.rpc.client import Client
from lmxd.terminal import say

QUESTION: Final = "Say hello in one short sentence."
_TOKENS: Final = 200
"""The most of an answer: a model that thinks first needs some."""


def daemon_answers(path: Path) -> bool:
    """Whether a daemon answers on a socket."""
    try:
        with Client(path) as client:
            client.status()
    except LmxdError:
        return False
    return True


def reload(path: Path) -> None:
    """Have a daemon that runs read its configuration. LmxdError."""
    with Client(path) as client:
        client.reload()


def ask_smallest(path: Path) -> str:
    """Ask the smallest model that can be asked, and show its answer as it comes. Its name.

    LmxdError if there is none, or none of the three smallest answers.
    """
    with Client(path) as client:
        known = client.models().models
        able = sorted((m for m in known if m.problem is None), key=lambda m: sum(m.bytes.values()))
        if not able:
            problems = "; ".join(f"{m.model}: {m.problem}" for m in known[:3])
            raise LmxdError("never_fits", f"no model can be asked: {problems or 'there is none'}", "lmxctl models")
        for number, model in enumerate(able[:3], start=1):
            say(f"{model.model}> {QUESTION}")
            try:
                with WaitBar() as progress:
                    lease = client.request(model.model, on_progress=progress.show)
                with lease:
                    answered(lease, [{"role": "user", "content": QUESTION}], _TOKENS, shown=True)
                return model.model
            except LmxdError as error:  # a model of embeddings, for example, answers nobody
                if number == len(able[:3]):
                    raise
                say(f"{error}", err=True)
    raise AssertionError("there is one at least")
