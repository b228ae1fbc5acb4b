"""A judge's server on loopback that speaks the OpenAI protocol and misbehaves as told; a study that asks a judge."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiny_model import save_tiny_model


class JudgeServer(ThreadingHTTPServer):
    """Answers with the next of `plan`, its last one for ever: (status, headers, reply or None to hang)."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list[tuple[int, dict[str, str], str | None]] = [(200, {}, '{"reason": "as asked", "score": 4}')]
        self.finish = "stop"
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.keys: set[str] = set()
        self.lock = threading.Lock()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def asked(self) -> list[dict[str, str]]:
        """Request and response of every exchange that was asked about."""
        return [json.loads(request["messages"][-1]["content"]) for request in self.requests]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with server.lock:
            server.requests.append(body)
            server.times.append(time.monotonic())
            server.keys.add(self.headers["authorization"])
            status, headers, reply = server.plan.pop(0) if len(server.plan) > 1 else server.plan[0]
        if reply is None:
            server.released.wait()
            return
        message = {"role": "assistant", "content": reply}
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": server.finish, "message": message}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
        data = json.dumps(answer if status == 200 else {"error": {"message": reply}}).encode()
        if reply.startswith("<html>"):  # of a gateway before the server
            data = reply.encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    running = JudgeServer()
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield running
    running.released.set()
    running.shutdown()
    running.server_close()


@pytest.fixture
def judged_study() -> Callable[[Path, dict[str, Any]], Path]:
    """Writes three tiny models, two prompts and a study of one point, judged as given; returns the study's file."""

    def write(folder: Path, judge: dict[str, Any]) -> Path:
        for seed, role in enumerate(("base", "aligned", "useful")):
            save_tiny_model(folder / role, seed)
        (folder / "harmful.txt").write_text("a b\nc d\n")
        models = {role: {"model": str(folder / role)} for role in ("base", "aligned", "useful")}
        harm = {"prompts": {"file": str(folder / "harmful.txt")}, "judge": judge, "max_new_tokens": 4}
        grid = {"fractions": [0.5], "subspaces": ["alignment"], "methods": ["parallel"]}
        study = {"name": "S", "models": models, "evaluation": {"harmfulness": harm}, "projection": grid}
        (folder / "study.yaml").write_text(yaml.safe_dump({**study, "overlap": None}))
        return folder / "study.yaml"

    return write
