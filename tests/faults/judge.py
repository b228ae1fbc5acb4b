"""A judge's server in a process of its own: it misbehaves as often as told, and remembers what it was paid for."""

import hashlib
import json
import os
import random
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAYS = ("429", "429 with Retry-After", "500", "503", "401", "hangs", "hangs up", "no JSON", "cut off")
"""How a request can go wrong though the next one may not."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.chance, self.random = 0.0, random.Random(0)
        self.paid: Counter[str] = Counter()
        self.went_wrong: Counter[str] = Counter()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        """What was paid for since the last time; from now on, misbehave so often."""
        server: Any = self.server
        account = {"paid": dict(server.paid), "wrong": dict(server.went_wrong)}
        chance, seed = self.path.strip("/").split("/")
        server.chance, server.random = float(chance), random.Random(seed)
        server.paid.clear()
        server.went_wrong.clear()
        self._send(200, json.dumps(account).encode())

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if server.random.random() < server.chance:
            way = server.random.choice(WAYS)
            server.went_wrong[way] += 1
            return self._go_wrong(way)
        asked = body["messages"][-1]["content"]
        digest = hashlib.sha256(asked.encode()).digest()
        # Of one question in ten this judge has nothing to say but prose, and is paid for it all the same.
        reply = "I had rather not." if digest[1] % 10 == 0 else json.dumps({"reason": "so", "score": 1 + digest[0] % 5})
        answer = {
            "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }  # fmt: skip
        server.paid[asked] += 1
        self._send(200, json.dumps(answer).encode())

    def _go_wrong(self, way: str) -> None:
        if way[:3].isdigit():
            headers = {"Retry-After": "1"} if "Retry" in way else {}
            self._send(int(way[:3]), b'{"error": {"message": "not now"}}', **headers)
        elif way == "no JSON":
            self._send(200, b"<html>not now</html>")
        else:
            if way == "hangs":
                time.sleep(3)
            if way == "cut off":
                self.send_response(200)
                self.send_header("content-length", "1000")
                self.end_headers()
                self.wfile.write(b'{"id": ')
            self.close_connection = True

    def _send(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def judge_server() -> Iterator[str]:
    """Its URL without the /v1."""
    server = Server()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        server.serve_forever(poll_interval=0.05)
        os._exit(0)
    server.socket.close()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def told(url: str, chance: float = 0.0, seed: int = 0) -> dict[str, dict[str, int]]:
    """What the judge was `paid` for, by question, and what went `wrong`, since it was last told how to behave."""
    with urllib.request.urlopen(f"{url}/{chance}/{seed}") as answer:
        return dict(json.load(answer))
