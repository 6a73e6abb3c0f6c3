"""A fake llama-server: a real small HTTP process whose behaviour is scripted by a JSON file beside the model.

It speaks as much of llama-server's command line and HTTP as lmxd uses. The file MODEL.json may
hold: ``load_seconds``, ``exit`` {status, lines}, ``signal`` (dies of it at load), ``ignore_sigterm``,
``buffers`` (log lines once loaded), ``allocate_mb`` (touched), ``flood_mb`` (of log), ``chatter`` (log
without end while it loads, some 60 MB a second), ``silent``
(never listens), ``slot_bytes`` (of a saved slot) and ``slot_names`` (further files that a save leaves behind),
``token_seconds``, ``token_bytes`` and ``die_after`` (tokens) of a stream, ``counts`` (it has contexts, and counts
tokens, as fake_slots.py does; else any prompt will do), ``restores`` (false: it reads no slot), ``slot_seconds``
(that each of these takes), ``slot_version`` (of their files), ``wordy`` (the tokens at which its conversations end,
where nothing is said), ``may_end`` (a limit is the most: else it says as much), ``repeats`` (false: a chat that goes on
with an answer does not repeat it), ``opens`` (events of a stream before its text), ``trims`` (its template leaves the
end of such an answer out), ``preface`` (letters with which its template begins each chat).
POST /fake/busy sets the number of requests in flight; POST /fake/exit ends it; after SIGUSR1 it no longer listens.
POST /fake/answer sets the bytes that answer all later ones.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fake_slots
from fake_slots import Slots

TYPE_CHECKING = False  # an import of typing takes as much memory as some of the tests give to the whole process
if TYPE_CHECKING:
    from typing import Any, ClassVar

HELP = """usage: llama-server [options]
-h,    --help, --usage                  print usage and exit
-c,    --ctx-size N                     size of the prompt context
-fa,   --flash-attn [on|off|auto]       set Flash Attention use
-ngl,  --gpu-layers, --n-gpu-layers N   max. number of layers to store in VRAM
-dev,  --device <dev1,dev2,..>          comma-separated list of devices
-fit,  --fit [on|off]                   whether to adjust unset arguments
-kvu,  --kv-unified, -no-kvu, --no-kv-unified
-cram, --cache-ram N                    set the maximum cache size in MiB
--cache-idle-slots, --no-cache-idle-slots
-ctxcp, --ctx-checkpoints, --swa-checkpoints N
--repack, -nr, --no-repack              whether to enable weight repacking
--ui,  --webui, --no-ui, --no-webui     whether to enable the Web UI
--offline                               Offline mode
"""
VERSION = "version: 1 (fake)"


class State:
    loaded = False
    play: ClassVar[dict[str, Any]] = {}
    busy = 0
    raw = b""
    asked = b""
    served = 0
    decoded = 0
    answers = 0
    slots = Slots(1, 0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    key = ""
    prompts = ""

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, status: int, body: str, kind: str = "application/json") -> None:
        raw = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def permitted(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.key}":
            return True
        self.answer(401, '{"error":{"message":"Invalid API Key","code":401}}')
        return False

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(200 if State.loaded else 503, '{"status":"ok"}' if State.loaded else '{"error":{"code":503}}')
        elif self.permitted():
            if self.path == "/metrics":
                text = (
                    f"llamacpp:prompt_tokens_total {State.served}\nllamacpp:tokens_predicted_total {State.served * 5}\n"
                    f"llamacpp:prompt_seconds_total {State.served * State.play.get('prompt_seconds', 0)}\n"
                    f"llamacpp:n_decode_total {State.decoded // max(1, State.busy)}\n"
                    f"llamacpp:requests_processing {State.busy}\nllamacpp:requests_deferred 0\n"
                )
                self.answer(200, text, "text/plain")
            elif self.path == "/fake/asked":
                self.answer(200, State.asked.decode())
            else:
                self.answer(200, json.dumps(State.slots.described(State.busy)))

    def slot(self, number: int, action: str, name: str) -> None:
        """Save, restore or erase. Without contexts, what is kept is how much was served."""
        print("slot", name, flush=True)  # as the real one says in its log
        file = Path(self.prompts) / name
        if State.play.get("counts"):
            return self.counted_slot(number, action, file)
        try:
            if action == "save":
                file.write_text(str(State.served).ljust(State.play.get("slot_bytes", 0)))
                for other in State.play.get("slot_names", []):
                    (file.parent / other).write_text("x" * 100)
            else:
                State.served = int(file.read_text())
        except OSError as error:
            self.answer(500, json.dumps({"error": str(error)}))
        else:
            self.answer(200, "{}")

    def counted_slot(self, number: int, action: str, file: Path) -> None:
        time.sleep(State.play.get("slot_seconds", 0))
        try:
            if action == "erase":
                State.slots.tokens[number] = []
                said = {"n_erased": 0}
            elif action == "save":
                said = {"n_saved": State.slots.save(number, file, State.play.get("slot_version", 2))}
                said["n_written"] = file.stat().st_size
                if (room := State.play.get("room")) is not None and said["n_written"] > room:
                    os.truncate(file, room)  # as the real one does on a disk that is full
                    said["n_written"] = 0
            elif not State.play.get("restores", True):
                raise ValueError("it was told not to")
            else:
                said = {"n_restored": State.slots.restore(number, file)}
        except (OSError, ValueError) as error:
            self.answer(500 if isinstance(error, OSError) else 400, json.dumps({"error": str(error)}))
        else:
            self.answer(200, json.dumps({"id_slot": number} | said))

    def stream(self, asked: dict[str, Any]) -> None:
        """A chunk per token; it is busy all the while. A client that has gone is noticed."""
        tokens = asked.get("n_predict") or asked.get("max_tokens") or 16
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        State.busy += 1
        try:
            if asked.get("tools"):
                calls = {"tool_calls": [self.called(asked["tools"][0])]}
                self.event({"choices": [{"index": 0, "delta": calls, "finish_reason": None}]})
            for number in range(tokens):
                if number == State.play.get("die_after"):
                    signal.pthread_kill(threading.get_ident(), signal.SIGSEGV)  # no token more
                State.decoded += 1
                self.event(self.token(last=number == tokens - 1))
                time.sleep(State.play.get("token_seconds", 0.005))
                while (gate := State.play.get("until")) and not Path(gate).exists():
                    time.sleep(0.01)
            if self.path.startswith("/v1/"):
                self.event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": tokens}})
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            self.close_connection = True
        finally:
            State.busy -= 1
            State.served += 1

    def token(self, *, last: bool) -> dict[str, object]:
        text = "x" * State.play.get("token_bytes", 1)
        if not self.path.startswith("/v1/"):
            return {"content": text, "stop": last}
        return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop" if last else None}]}

    def called(self, tool: dict[str, Any]) -> dict[str, object]:
        function = {"name": tool["function"]["name"], "arguments": '{"city": "Paris"}'}
        return {"id": "call_1", "index": 0, "type": "function", "function": function}

    def event(self, said: dict[str, object]) -> None:
        self.data(json.dumps(said))

    def data(self, said: str) -> None:
        data = f"data: {said}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.permitted():
            return
        if self.path.startswith("/slots/"):
            number, _, action = self.path.removeprefix("/slots/").partition("?action=")
            self.slot(int(number), action, json.loads(body).get("filename", ""))
        elif self.path == "/fake/busy":
            State.busy = int(body)
            self.answer(200, "{}")
        elif self.path == "/fake/exit":
            os._exit(int(body))
        elif self.path == "/fake/answer":
            State.raw = body
            self.answer(200, "{}")
        elif State.raw:
            self.wfile.write(State.raw)
            self.close_connection = True
        else:
            self.reply(body)

    def reply(self, body: bytes) -> None:
        """As a model would; of a form, nothing is understood."""
        State.asked = body
        asked = {} if self.headers.get("Content-Type", "").startswith("multipart/") else json.loads(body or b"{}")
        if State.play.get("counts"):
            self.counted(asked)
        elif asked.get("stream"):
            self.stream(asked)
        else:
            State.served += 1
            message: dict[str, object] = {"role": "assistant", "content": f"fake {os.getpid()}"}
            if asked.get("tools"):
                message["tool_calls"] = [self.called(asked["tools"][0])]
            shown = {"choices": [{"message": message, "index": 0}], "path": self.path, "asked": asked}
            self.answer(200, json.dumps(shown))

    def counted(self, asked: dict[str, Any]) -> None:
        """As one that has a context: it counts, answers up to the end of that, or says that a prompt is too long."""
        trims = State.play.get("trims", False)
        if "messages" in asked and (preface := State.play.get("preface")):
            asked = asked | {"messages": [{"role": "system", "content": "p" * preface}, *asked["messages"]]}
        prompt, path = fake_slots.prompt_of(asked, trims=trims), self.path.partition("?")[0]
        if path.endswith(("/input_tokens", "/count_tokens")):
            self.answer(200, json.dumps({"input_tokens": len(prompt)}))
        elif path in ("/tokenize", "/apply-template"):
            self.answer(200, json.dumps({"tokens": prompt, "prompt": fake_slots.templated(asked)}))
        elif len(prompt) >= State.slots.context:
            self.answer(400, fake_slots.too_long(prompt, State.slots.context))
        else:
            with State.slots.of(prompt, asked.get("id_slot")) as turn:
                State.busy += 1
                try:
                    self.said(turn, asked)
                except fake_slots.Exceeded:
                    self.fail(asked)
                except ConnectionError:
                    self.close_connection = True
                finally:
                    State.busy -= 1
                    State.served += 1

    def fail(self, asked: dict[str, Any]) -> None:
        """Tell the end of a request whose one cache is full, and of all others."""
        print("Context size has been exceeded", flush=True)
        if asked.get("stream"):
            self.data(fake_slots.exceeded())
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.answer(500, fake_slots.exceeded())

    def said(self, turn: fake_slots.Turn, asked: dict[str, Any]) -> None:
        """Say an answer: as it comes, or whole. One that a chat has begun with is repeated."""
        streams, begun = bool(asked.get("stream")), fake_slots.prefill(asked) if State.play.get("repeats", True) else ""
        State.answers += 1
        identity = {"id": f"chatcmpl-{os.getpid()}-{State.answers}", "created": State.answers}
        if streams:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in State.play.get("opens", []):
                self.event(event | identity)
        limits = ("n_predict", "max_completion_tokens", "max_tokens", "max_output_tokens")
        wanted = next((asked[name] for name in limits if asked.get(name)), None)
        likes = max(1, State.play.get("wordy", turn.prompted + 16) - turn.prompted)
        if wanted is not None and wanted > likes and State.play.get("may_end"):
            wanted = None
        for letter in turn.letters(wanted, likes):
            State.decoded += 1
            time.sleep(State.play.get("token_seconds", 0.0))
            if streams:
                self.event(identity | turn.chunk(self.path, begun + letter))
                begun = ""
        turn.text = begun + turn.text
        whole = identity | turn.whole(self.path, streams=streams)
        if streams:
            self.event(whole)
            if self.path.startswith("/v1/"):
                self.data("[DONE]")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.answer(200, json.dumps(whole))


class UnixServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)


def main() -> None:
    if "--help" in sys.argv:
        print(HELP)
        return
    if "--version" in sys.argv:
        print(VERSION)
        return
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("-m", "--host", "--port", "--api-key-file", "--slot-save-path"):
        parser.add_argument(name, dest=name.lstrip("-").replace("-", "_"))
    given, rest = parser.parse_known_args()
    script = Path(given.m).with_suffix(".json")
    play = State.play = json.loads(script.read_text()) if script.exists() else {}
    State.raw = play.get("answer", "").encode()
    print("started with", " ".join(rest), flush=True)
    if play.get("ignore_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if "exit" in play:
        print("\n".join(play["exit"]["lines"]), flush=True)
        sys.exit(play["exit"]["status"])
    if "signal" in play:
        os.kill(os.getpid(), play["signal"])
    while play.get("chatter"):
        print("x" * 2**16, flush=True)
        time.sleep(0.001)
    if play.get("silent"):
        time.sleep(3600)
    Handler.key = Path(given.api_key_file).read_text().strip()
    Handler.prompts = given.slot_save_path
    State.slots = Slots.of_flags(rest)
    if given.host.endswith(".sock"):
        server: ThreadingHTTPServer = UnixServer(given.host, Handler)
    else:
        server = ThreadingHTTPServer((given.host, int(given.port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.signal(signal.SIGUSR1, lambda *_: server.socket.shutdown(socket.SHUT_RDWR))
    memory = bytearray(play.get("allocate_mb", 0) * 2**20)
    memory[::4096] = b"x" * len(memory[::4096])
    time.sleep(play.get("load_seconds", 0))
    for line in play.get("buffers", []):
        print(line, flush=True)
    if flood := play.get("flood_mb"):
        for _ in range(flood):
            print(("x" * 1023 + "\n") * 1024, end="", flush=True)
    State.loaded = True
    threading.Event().wait()


if __name__ == "__main__":
    main()
