"""A fake vLLM: a real small HTTP process on a Unix socket, scripted by ``play.json`` beside the model.

It speaks as much of ``vllm serve`` as lmxd uses: nothing answers before it has loaded, its figures need no key, the
name of the model in a request must be that which it is served by, and it sleeps if it was started so. The file may
hold what the fake llama-server's may: ``load_seconds``, ``exit`` {status, lines, times}, ``ignore_sigterm``,
``allocate_mb``, ``token_seconds`` … Beside these: ``sleep_status`` and ``wake_status`` (other than 200),
``sleep_seconds`` and ``wake_seconds``, ``sleep_dies`` and ``wake_dies``; ``card_gb`` and ``asleep_gb``, the bytes that
it has on a card awake and asleep, which it writes to ``card-PID`` beside the model.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import fake_llama_server as fake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Handler(fake.Handler):
    """One request. ``served``: the name of the model; ``sleeps``: it may be told to."""

    served = ""
    sleeps = False
    asleep = False
    directory = Path()

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(200, "")
        elif self.path == "/metrics":
            self.answer(200, self.figures(), "text/plain")
        elif self.path == "/is_sleeping" and self.sleeps:
            self.answer(200, json.dumps({"is_sleeping": Handler.asleep}))
        elif self.path == "/fake/asked":
            self.answer(200, fake.State.asked.decode())
        else:
            self.answer(404, '{"detail":"Not Found"}')

    def figures(self) -> str:
        labels = f'{{engine="0",model_name="{self.served}"}}'
        return (
            f"vllm:num_requests_running{labels} {fake.State.busy}.0\nvllm:num_requests_waiting{labels} 0.0\n"
            f"vllm:prompt_tokens_total{labels} {fake.State.served}.0\n"
            f"vllm:generation_tokens_total{labels} {fake.State.decoded}.0\n"
        )

    def do_POST(self) -> None:
        if self.path.partition("?")[0] in ("/sleep", "/wake_up") and self.sleeps:
            self.turn("sleep" if self.path.startswith("/sleep") else "wake")
        else:
            super().do_POST()

    def turn(self, what: str) -> None:
        """Fall asleep, or wake."""
        time.sleep(fake.State.play.get(f"{what}_seconds", 0))
        if fake.State.play.get(f"{what}_dies"):
            os._exit(1)
        status = fake.State.play.get(f"{what}_status", 200)
        if status == 200:
            Handler.asleep = what == "sleep"
            take("asleep_gb" if Handler.asleep else "card_gb")
        self.answer(status, "")

    def reply(self, body: bytes) -> None:
        form = self.headers.get("Content-Type", "").startswith("multipart/")
        asked: dict[str, Any] = {} if form else json.loads(body or b"{}")
        if not form and asked.get("model", self.served) != self.served:
            message = f"The model `{asked['model']}` does not exist."
            self.answer(404, json.dumps({"error": {"message": message, "type": "NotFoundError", "code": 404}}))
        else:
            super().reply(body)


def take(what: str) -> None:
    """Have as much on the card as the script says, and write that down for the tests' NVML."""
    if what in fake.State.play:
        found = Handler.directory / f"card-{os.getpid()}"
        new = found.with_suffix(".new")
        new.write_text(str(int(fake.State.play[what] * 2**30)))
        new.replace(found)


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("serve", choices=["serve"])
    parser.add_argument("model")
    for name in ("--uds", "--served-model-name"):
        parser.add_argument(name)
    parser.add_argument("--enable-sleep-mode", action="store_true")
    given, rest = parser.parse_known_args()
    script = Path(given.model) / "play.json"
    play = fake.State.play = json.loads(script.read_text()) if script.exists() else {}
    print("started with", " ".join(rest), flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if play.get("ignore_sigterm") else lambda *_: os._exit(0))
    time.sleep(play.get("load_seconds", 0))
    with (Path(given.model) / "starts").open("a+") as starts:
        print("started", file=starts, flush=True)
        starts.seek(0)
        number = len(starts.readlines())
    if "exit" in play and number <= play["exit"].get("times", number):
        print("\n".join(play["exit"]["lines"]), flush=True)
        sys.exit(play["exit"]["status"])
    Handler.key, Handler.served = os.environ["VLLM_API_KEY"], given.served_model_name
    Handler.sleeps = given.enable_sleep_mode and os.environ.get("VLLM_SERVER_DEV_MODE") == "1"
    memory = bytearray(play.get("allocate_mb", 0) * 2**20)
    memory[::4096] = b"x" * len(memory[::4096])
    Handler.directory = Path(given.model)
    take("card_gb")
    server = fake.UnixServer(given.uds, Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
