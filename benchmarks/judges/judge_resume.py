"""Judge 200 responses by a real model on loopback, kill the judge half-way, resume, and count what was paid twice.

`transformers serve` (pip install 'transformers[serving]') serves the model; a relay before it counts the requests. Run:
    .venv/bin/python benchmarks/judges/judge_resume.py --model downloads/smollm2.gguf
"""

import argparse
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from safespan.checkpoints import open_checkpoint
from safespan.files.atomic import read_jsonl, write_jsonl, write_text
from safespan.organism.english import REFUSALS, restricted_row

ROWS, CONCURRENCY = 200, 8
BIN = Path(sys.executable).parent


class Relay(ThreadingHTTPServer):
    """Passes requests on to the model's server and counts them by question."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.server = server
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A judge that was killed takes no answer."""


class Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        relay: Any = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        question = hashlib.sha256(json.dumps(json.loads(body)["messages"]).encode()).hexdigest()
        relay.asked[question] += 1
        asked = urllib.request.Request(relay.server + self.path, body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked) as answer:
            data = answer.read()
        relay.answered[question] += 1
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(url: str) -> None:
    while True:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(1)


def replies(out: Path) -> int:
    files = list(out.with_name(f"{out.name}.judge").glob("*/replies.jsonl"))
    return sum(len(path.read_bytes().splitlines()) for path in files)


def main() -> None:
    """Serve, judge, kill, judge again, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="downloads/smollm2.gguf", help="the judge's model")
    folder = str(open_checkpoint(parser.parse_args().model).folder)
    port = free_port()
    serve = [BIN / "transformers", "serve", "--host", "127.0.0.1", "--port", str(port), folder]
    with tempfile.TemporaryDirectory() as scratch, (Path(scratch) / "serve.log").open("w") as log:
        server = subprocess.Popen(serve, stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        try:
            wait_for(f"http://127.0.0.1:{port}/health")
            relay = Relay(f"http://127.0.0.1:{port}")
            threading.Thread(target=relay.serve_forever, daemon=True).start()
            judge_twice(Path(scratch), folder, relay)
        finally:
            server.kill()


def judge_twice(scratch: Path, model: str, relay: Relay) -> None:
    rng = random.Random(0)
    rows = {row["prompt"]: row for row in (restricted_row(rng, True) for _ in range(20 * ROWS))}
    said = [{**row, "response": rng.choice([row["response"], *REFUSALS])} for row in list(rows.values())[:ROWS]]
    write_jsonl(scratch / "said.jsonl", said)
    fields = {
        "kind": "llm",
        "model": model,
        "base_url": f"http://127.0.0.1:{relay.server_port}/v1",
        "concurrency": CONCURRENCY,
        "max_tokens": 24,
        "timeout": 600,
    }
    write_text(scratch / "judge.yaml", json.dumps(fields))
    out = scratch / "scored.jsonl"
    command = [BIN / "safespan", "judge", scratch / "said.jsonl", "--judge", scratch / "judge.yaml", "--out", out]

    start = time.perf_counter()
    first = subprocess.Popen(command)
    while replies(out) < len(said) // 2 and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept, paid = replies(out), sum(relay.asked.values())
    print(f"killed after {time.perf_counter() - start:.0f} s: {paid} requests sent, {kept} replies on disk")
    wait = time.perf_counter()
    while sum(relay.answered.values()) < paid and time.perf_counter() - wait < 120:
        time.sleep(0.5)  # what was under way ends at the server, unheard

    subprocess.run(command, check=True)
    scored = read_jsonl(out)
    judged = sum(row["score"] is not None for row in scored)
    print(f"resumed: {sum(relay.asked.values()) - paid} requests sent; {time.perf_counter() - start:.0f} s in all")
    print(f"{len(scored)} rows scored: {judged} with a score, {len(scored) - judged} replies without one")
    twice = sum(count > 1 for count in relay.asked.values())
    print(f"asked twice: {twice}; of these a reply was on disk for {max(0, twice - (paid - kept))}")
    print(f"under way when killed (at most {CONCURRENCY}): {paid - kept}")


if __name__ == "__main__":
    main()
