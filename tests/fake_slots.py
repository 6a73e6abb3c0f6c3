"""The slots of the fake llama-server: a context each, what is in it, and files of it laid out as the real ones.

A token is a byte. An answer follows from the conversation alone, one letter a token, so that it is the same wherever
the conversation lies; how much of a prompt is processed is what the slot did not have of it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

TYPE_CHECKING = False  # as in fake_llama_server.py, which imports this
if TYPE_CHECKING:
    from typing import Any

Tokens = list[int]


class Exceeded(Exception):
    """The error of all requests at hand where one cache has no cells left for one of them."""


class Turn:
    """One answer of a slot: what it says, and what that took. ``cache``: the one that all slots share, if they do."""

    def __init__(self, tokens: Tokens, context: int, processed: int, cache: Slots | None = None) -> None:
        self.tokens = tokens
        self.context = context
        self.cache = cache
        self.failed = False
        self.prompted = len(tokens)
        self.processed = processed
        self.text = ""
        self.stopped = "stop"

    def letters(self, wanted: int | None, likes: int = 16) -> Iterator[str]:
        """Say so many tokens, or have all of the conversation be as many as it likes; none beyond the context.

        Exceeded if the cache that all slots share is full.
        """
        most = self.context - self.prompted
        if wanted is not None or most < likes:
            self.stopped = "length"
        for _ in range(min(most, likes if wanted is None else wanted)):
            if self.cache is not None:
                self.cache.make_room(self, 1)
            letter = chr(ord("a") + (sum(self.tokens) * 31 + len(self.tokens)) % 26)
            self.tokens.append(ord(letter))
            self.text += letter
            yield letter

    def chunk(self, path: str, letter: str) -> dict[str, object]:
        """A part of a stream."""
        if not path.startswith("/v1/"):
            return {"content": letter, "tokens": [ord(letter)], "stop": False}
        return {"choices": [{"index": 0, "finish_reason": None} | _part(path, "delta", letter)]}

    def whole(self, path: str, *, streams: bool) -> dict[str, object]:
        """The answer, or the end of a stream."""
        said, cached = len(self.tokens) - self.prompted, self.prompted - self.processed
        timings = {"prompt_n": self.processed, "cache_n": cached, "predicted_n": said}
        if not path.startswith("/v1/"):
            text = (
                {"content": "", "tokens": []} if streams else {"content": self.text, "tokens": list(self.text.encode())}
            )
            how = {"stop": True, "stop_type": "limit" if self.stopped == "length" else "eos"}
            figures = {"tokens_evaluated": self.prompted, "tokens_predicted": said}
            return {**text, **how, **figures, "truncated": len(self.tokens) == self.context, "timings": timings}
        usage = {"prompt_tokens": self.prompted, "completion_tokens": said, "total_tokens": len(self.tokens)}
        part = _part(path, "delta", "") if streams else _part(path, "message", self.text)
        return {"choices": [{"index": 0, "finish_reason": self.stopped} | part], "usage": usage, "timings": timings}


def _part(path: str, where: str, text: str) -> dict[str, object]:
    """Where an API has its text."""
    if path == "/v1/completions":
        return {"text": text}
    return {where: {"role": "assistant", "content": text} if where == "message" else {"content": text} if text else {}}


class Slots:
    """``context`` tokens for each of ``count`` slots, or, ``unified``, for all of them together."""

    def __init__(self, count: int, context: int, *, unified: bool = False) -> None:
        self.context = context
        self.unified = unified
        self.purged = 0
        self.tokens: list[Tokens] = [[] for _ in range(count)]
        self.busy = [0] * count
        self.turns: list[Turn | None] = [None] * count
        self.tasks = [0] * count
        self.lock = threading.Lock()

    @property
    def streams(self) -> int:
        """Caches beside each other, as files have them."""
        return 1 if self.unified else len(self.tokens)

    @classmethod
    def of_flags(cls, words: list[str]) -> Slots:
        """As many, and as large, as llama-server's flags say."""
        given = dict(itertools.pairwise(words))
        count = int(given.get("-np", 1))
        unified = "--kv-unified" in words
        return cls(count, int(given.get("-c", 0)) // (1 if unified else count), unified=unified)

    def described(self, busy: int) -> list[dict[str, object]]:
        """What GET /slots says. ``busy``: of requests in flight, of which no slot is known."""
        return [
            {
                "id": n,
                "n_ctx": self.context,
                "is_processing": self.busy[n] > 0 or n < busy - sum(self.busy),
                "id_task": self.tasks[n],
                "n_prompt_tokens": len(tokens),
                "n_prompt_tokens_processed": 0 if turn is None else turn.processed,
                "next_token": [{"n_decoded": 0 if turn is None else len(tokens) - turn.prompted}],
            }
            for n, (tokens, turn) in enumerate(zip(self.tokens, self.turns, strict=True))
        ]

    def chosen(self, prompt: Tokens, wanted: int | None) -> int:
        """The slot for a prompt: the one that is wanted, else an idle one that has most of it."""
        if wanted is not None and 0 <= wanted < len(self.tokens):
            return wanted
        idle = [n for n, busy in enumerate(self.busy) if not busy] or range(len(self.tokens))
        return max(idle, key=lambda n: (common(self.tokens[n], prompt), -len(self.tokens[n])))

    @contextlib.contextmanager
    def of(self, prompt: Tokens, wanted: int | None) -> Iterator[Turn]:
        """Have a prompt in a slot, which is busy until its answer is said."""
        with self.lock:
            slot = self.chosen(prompt, wanted)
            self.busy[slot] += 1
            had = max(0, min(common(self.tokens[slot], prompt), len(prompt) - 1))
            tokens = self.tokens[slot] = list(prompt)
            turn = self.turns[slot] = Turn(tokens, self.context, len(prompt) - had, self if self.unified else None)
            self.tasks[slot] = sum(self.tasks) + 1
        try:
            yield turn
        except Exceeded:
            self.tokens[slot] = []
            raise
        finally:
            self.busy[slot] -= 1

    def make_room(self, turn: Turn, cells: int) -> None:
        """Have the one cache have so many cells left: the idle slot with the lowest number loses what it has.

        Where all are busy every request at hand ends. Exceeded.
        """
        with self.lock:
            while not turn.failed and sum(map(len, self.tokens)) + cells > self.context:
                idle = [n for n, tokens in enumerate(self.tokens) if tokens and not self.busy[n]]
                if idle:
                    self.purged += len(self.tokens[idle[0]])
                    self.tokens[idle[0]] = []
                    continue
                for each, busy in zip(self.turns, self.busy, strict=True):
                    if each is not None and busy:
                        each.failed = True
            if turn.failed:
                raise Exceeded

    def save(self, slot: int, file: Path, version: int = 2) -> int:
        """Write a slot to a file that there is: the header, its tokens, and a byte for each of its cells' two rows."""
        tokens, count, at = self.tokens[slot], self.streams, 0 if self.unified else slot
        cells = struct.pack("<I", len(tokens)) + b"".join(struct.pack("<iIi", n, 1, slot) for n in range(len(tokens)))
        row = struct.pack("<iQ", 0, 1) + bytes(len(tokens))
        streams = bytes(4 * at) + cells + struct.pack("<II", 0, 1) + row * 2 + bytes(4 * (count - at - 1))
        with file.open("r+b") as saved:
            saved.write(struct.pack("<4sII", b"qsgg", version, len(tokens)) + struct.pack(f"<{len(tokens)}I", *tokens))
            saved.write(struct.pack("<I", count) + streams)
        return len(tokens)

    def restore(self, slot: int, file: Path) -> int:
        """Read a file into a slot. ValueError if it is another's, or for other streams, or too long."""
        raw = file.read_bytes()
        if raw[:4] == b"qsgg" and len(raw) < size_of(raw):
            os.abort()  # as the real one may
        magic, version, count = struct.unpack_from("<4sII", raw)
        (streams,) = struct.unpack_from("<I", raw, 12 + 4 * count)
        if magic != b"qsgg" or version not in (2, 3, 5):
            raise ValueError("Unable to restore slot, the file is none")
        if streams != self.streams:
            raise ValueError("llama_state_seq_load_file: n_stream mismatch")
        if count > self.context:
            raise ValueError("Unable to restore slot, no available space in KV cache or invalid slot save file")
        self.tokens[slot], self.turns[slot] = list(struct.unpack_from(f"<{count}I", raw, 12)), None
        return int(count)


def size_of(raw: bytes) -> int:
    """Bytes of a whole file that begins so."""
    (count,) = struct.unpack_from("<I", raw, 8)
    (streams,) = struct.unpack_from("<I", raw, 12 + 4 * count) if len(raw) >= 16 + 4 * count else (1,)
    return 12 + 4 * int(count) + 4 + 12 * int(count) + 8 + 2 * (12 + int(count)) + 4 * int(streams)


def common(first: Tokens, second: Tokens) -> int:
    """The tokens that both begin with."""
    found = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        found += 1
    return found


def prompt_of(asked: dict[str, Any], *, trims: bool = False) -> Tokens:
    """The tokens of a request's prompt: of a chat, what its template makes of it.

    ``trims``: it leaves out the last letter of an answer that it goes on with.
    """
    prompt = asked.get("content", asked.get("prompt"))
    if isinstance(prompt, list):
        return [int(token) for token in prompt]
    text = templated(asked) if prompt is None else str(prompt)
    return list((text[:-1] if trims and prefill(asked) else text).encode())


def templated(asked: dict[str, Any]) -> str:
    """A chat as one text, which ends where the answer begins."""
    said = asked.get("messages", asked.get("input", []))
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    last = prefill(asked)
    lines = [f"{said['role']}: {said['content']}\n" for said in (messages[:-1] if last else messages)]
    tools = [json.dumps(asked["tools"]) + "\n"] if asked.get("tools") else []
    return "".join([*tools, *lines, "assistant: ", last])


def prefill(asked: dict[str, Any]) -> str:
    """The answer that a chat has begun with, to go on with it."""
    last = (asked.get("messages") or [{}])[-1]
    return str(last["content"]) if last.get("role") == "assistant" else ""


def exceeded() -> str:
    """The error of a request that was at hand when one cache was full."""
    return json.dumps({"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}})


def too_long(prompt: Tokens, context: int) -> str:
    """The error for a prompt that a slot has no room for."""
    message = f"request ({len(prompt)} tokens) exceeds the available context size ({context} tokens), try increasing it"
    error = {"code": 400, "message": message, "type": "exceed_context_size_error"}
    return json.dumps({"error": error | {"n_prompt_tokens": len(prompt), "n_ctx": context}})
