"""Fakes of other engines' command lines: fake_servers.py KIND ARGUMENTS. Each takes the flags that its recipe uses.

An unknown flag, or one that is missing, ends it with status 2, as the real one would. It then serves health and says
on /seen what it was started with.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FLAGS = {
    "vllm": "--uds --gpu-memory-utilization --max-model-len --served-model-name",
    "text-generation-launcher": "--model-id --port --hostname --cuda-memory-fraction --max-total-tokens",
    "ik_llama": "-m -c -ngl --host --port --api-key-file",
    "comfyui": "--listen --port --reserve-vram",
    "infinity_emb": "--model-id --served-model-name --url-prefix --host --port",
    "uvicorn": "--uds",
    "transformers": "--host --port",
    "sglang": "--config --model-path --served-model-name --host --port --log-level --context-length"
    " --max-running-requests --max-total-tokens --mem-fraction-static",
    "tgi": "--model-id --hostname --port --prometheus-port --max-total-tokens --max-input-tokens"
    " --max-concurrent-requests --cuda-memory-fraction --num-shard --shard-uds-path",
}
WORDS = {
    "vllm": ("serve", "model"),
    "infinity_emb": ("v2",),
    "uvicorn": ("app",),
    "transformers": ("serve", "model"),
    "sglang": ("serve",),
}
"""Words before the flags."""
SWITCHES = {"infinity_emb": ("--no-bettertransformer",), "sglang": ("--enable-metrics",)}
KINDS = {"--port": int, "--gpu-memory-utilization": float, "--cuda-memory-fraction": float, "--max-model-len": int}
SHOWN = ("CUDA_VISIBLE_DEVICES", "VLLM_API_KEY", "API_KEY", "INFINITY_API_KEY", "FWS_MODEL_NAME")
HEALTH = {"comfyui": "/system_stats"}


class UnixServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)


def main() -> None:
    kind, words = sys.argv[1], sys.argv[2:]
    parser = argparse.ArgumentParser(prog=kind, allow_abbrev=False)
    for word in WORDS.get(kind, ()):
        parser.add_argument(word, choices=[word] if word in ("serve", "v2") else None)
    for switch in SWITCHES.get(kind, ()):
        parser.add_argument(switch, action="store_true", required=True, dest=switch)
    for flag in FLAGS[kind].split():
        parser.add_argument(flag, type=KINDS.get(flag, str), required=True, dest=flag)
    given = vars(parser.parse_args(words))
    seen = given | {"env": {name: os.environ.get(name) for name in SHOWN}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path in (HEALTH.get(kind, "/health"), "/seen")
            body = json.dumps(seen).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "client"

        def log_message(self, format: str, *args: object) -> None:
            pass

    if "--uds" in given:
        server: ThreadingHTTPServer = UnixServer(given["--uds"], Handler)
        os.chmod(given["--uds"], 0o666)  # as uvicorn does
    else:
        server = ThreadingHTTPServer(("127.0.0.1", given["--port"]), Handler)
    server.serve_forever()


if __name__ == "__main__":
    main()
