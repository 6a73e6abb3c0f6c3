"""Commands that talk to a model: ask, for one question, and chat, for several. Each leases it as long as it talks."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import click

from lmxd.cli import output
from lmxd.cli.common import answers, completes, connect
from lmxd.cli.relay import followed
from lmxd.cli.wishes import WaitBar, wait_options, waiting_time
from lmxd.errors import LmxdError
from lmxd.rpc.messages import Granted
from lmxd.terminal import say, show, typed
from lmxd.unix_http import UnixHttpConnection

_SILENCE: Final = 600.0
"""Seconds without a byte after which an answer is given up: a long prompt on a slow CPU takes minutes."""
Message = dict[str, str]
"""``role`` and ``content``, as OpenAI's API has them."""


def _connection(lease: Granted) -> http.client.HTTPConnection:
    """A connection to an instance: to its Unix socket if it has one, else to its port."""
    where = urlsplit(lease.base_url)
    host = where.hostname or "localhost"
    if lease.socket is not None:
        return UnixHttpConnection(lease.socket, host, _SILENCE)
    return http.client.HTTPConnection(host, where.port, timeout=_SILENCE)


def pieces(lease: Granted, messages: list[Message], most: int | None) -> Iterator[dict[str, Any]]:
    """The chunks of an answer, as they come.

    LmxdError ``bad_answer`` if the instance refuses, breaks off, or cannot be reached.
    """
    body: dict[str, Any] = {"model": lease.model, "messages": messages, "stream": True}
    body |= {"stream_options": {"include_usage": True}} | ({} if most is None else {"max_tokens": most})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {lease.api_key}"}
    connection = _connection(lease)
    try:
        connection.request("POST", f"{urlsplit(lease.base_url).path}/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise _failed(lease, _reason(answer.read(2**16)) or f"status {answer.status}")
        for line in answer:
            name, _, value = line.decode(errors="replace").partition(":")
            if name in ("data", "error") and value.strip() != "[DONE]":
                yield _chunk(lease, value)
    except (OSError, http.client.HTTPException) as error:
        raise _failed(lease, f"{error or type(error).__name__}") from error
    finally:
        connection.close()


def _chunk(lease: Granted, text: str) -> dict[str, Any]:
    try:
        chunk = json.loads(text)
    except (ValueError, RecursionError):
        raise _failed(lease, f"no JSON: {text.strip()[:80]!r}") from None
    if not isinstance(chunk, dict) or "error" in chunk:
        raise _failed(lease, _reason(text.encode()) or "no object")
    return chunk


def _reason(body: bytes) -> str:
    """The message of an error in OpenAI's form; empty if there is none."""
    try:
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _failed(lease: Granted, why: str) -> LmxdError:
    return LmxdError("bad_answer", f"{lease.instance} did not answer: {why}", f"lmxctl logs {lease.instance}")


def _text(chunk: dict[str, Any]) -> tuple[str, str]:
    """(what it thinks, what it says) in one chunk."""
    choices = chunk.get("choices")
    delta = choices[0].get("delta") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    if not isinstance(delta, dict):
        return "", ""
    return str(delta.get("reasoning_content") or ""), str(delta.get("content") or "")


def answered(lease: Granted, messages: list[Message], most: int | None, *, shown: bool) -> tuple[str, dict[str, Any]]:
    """(the answer, the last chunk's figures); it is printed as it comes if ``shown``, its thoughts on a terminal."""
    said, figures, thinking = "", dict[str, Any](), False
    for chunk in pieces(lease, messages, most):
        figures |= {key: chunk[key] for key in ("usage", "timings") if isinstance(chunk.get(key), dict)}
        thought, words = _text(chunk)
        if shown and thought and sys.stdout.isatty():
            show(thought, faint=True)
            thinking = True
        if shown and words:
            show("\n\n" + words if thinking else words)
            thinking = False
        said += words
    if shown:
        say()
    return said, figures


def _speed(figures: dict[str, Any]) -> str:
    """ "42 tokens, 31 tokens/s"; empty if the engine does not say."""
    tokens = figures.get("usage", {}).get("completion_tokens")
    speed = figures.get("timings", {}).get("predicted_per_second")
    parts = [f"{tokens} tokens"] if isinstance(tokens, int) else []
    return ", ".join(parts + ([f"{speed:.0f} tokens/s"] if isinstance(speed, int | float) else []))


@contextmanager
def _leased(model: str, wait: float | None) -> Iterator[Granted]:
    """A lease of a model, for as long as it is talked to; a bar shows the wait for it."""
    with connect() as client:
        with WaitBar() as progress:
            lease = client.request(model, wait=wait, on_progress=progress.show)
        with lease, followed(client.path, lease, wait) as relay:
            yield lease if relay is None else relay.lease


def _first(system: str | None) -> list[Message]:
    return [{"role": "system", "content": system}] if system else []


SYSTEM = click.option("--system", metavar="TEXT", help="A system prompt.")
MOST = click.option("--max-tokens", "most", type=click.IntRange(1), metavar="N", help="Tokens of an answer, at most.")


@click.command()
@click.argument("model", shell_complete=completes("model"))
@click.argument("question", nargs=-1)
@SYSTEM
@MOST
@wait_options
@answers
def ask(
    model: str,
    question: tuple[str, ...],
    system: str | None,
    most: int | None,
    wait: float | None,
    no_wait: bool,
    json_wanted: bool,
) -> None:
    """Ask MODEL a QUESTION, and print its answer as it comes.

    Without a QUESTION, or with -, it is read from standard input. MODEL is leased, and started if need be; the lease is
    released with the answer.
    """
    text = " ".join(question)
    if text in ("", "-"):
        text = sys.stdin.read()
    if not text.strip():
        raise LmxdError("invalid_params", "there is no question", f'lmxctl ask {model} "QUESTION", or pipe one in')
    messages = [*_first(system), {"role": "user", "content": text}]
    with _leased(model, waiting_time(wait, no_wait)) as lease:
        said, figures = answered(lease, messages, most, shown=not json_wanted)
    if json_wanted:
        output.as_json({"model": lease.model, "instance": lease.instance, "answer": said, **figures})
    elif sys.stdout.isatty() and (speed := _speed(figures)):
        say(f"({lease.model}: {speed})", err=True)


@click.command()
@click.argument("model", shell_complete=completes("model"))
@SYSTEM
@MOST
@wait_options
def chat(model: str, system: str | None, most: int | None, wait: float | None, no_wait: bool) -> None:
    """Talk to MODEL: a line is a question; an empty line or the end of input ends it.

    MODEL is leased all the while, and answers with all that was said before in mind.
    """
    try:
        _chat(model, _first(system), most, waiting_time(wait, no_wait))
    except LmxdError as error:
        output.fail(error, json_wanted=False)


def _chat(model: str, messages: list[Message], most: int | None, wait: float | None) -> None:
    with _leased(model, wait) as lease:
        if sys.stdin.isatty():
            say("An empty line, or Ctrl-D, ends the chat.", err=True)
        while line := (typed(f"{lease.model}> ") or "").strip():
            messages.append({"role": "user", "content": line})
            said, _ = answered(lease, messages, most, shown=True)
            messages.append({"role": "assistant", "content": said})
