"""Models of the hub, from a hub on loopback: a whole download, and each way that one fails."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from loopback import LoopbackServer
from safespan.checkpoints import Checkpoint
from tiny_model import save_tiny_model

OPEN = """
import sys
from safespan.checkpoints import open_checkpoint
from safespan.errors import SafespanError
for name in sys.argv[1:]:
    try:
        checkpoint = open_checkpoint(name)
        print(f"{checkpoint.name} has {len(checkpoint.names)} tensors in {checkpoint.folder}")
    except SafespanError as error:
        print(error)
"""
COMMIT = "c0ffee" + "0" * 34
REFUSED = {"gated": (403, "GatedRepo"), "locked": (401, "GatedRepo"), "unknown": (404, "RepoNotFound")}


class Hub(BaseHTTPRequestHandler):
    """Two repositories, org/tiny and org/nested; others are gated, unknown, or break off in some way."""

    folder: Path
    nested: Path
    served: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.served = self.nested if "org/nested" in self.path else self.folder
        kind = next((kind for kind in REFUSED if f"org/{kind}" in self.path), None)
        if kind:
            return self._answer(*REFUSED[kind])
        if "/revision/no-such" in self.path:
            return self._answer(404, "RevisionNotFound")
        if "org/down" in self.path:
            return self._answer(500, "")
        if "org/prose" in self.path:
            return self._answer(200, "", b"<html>log in to this wireless network</html>")
        if "org/slow" in self.path:
            threading.Event().wait(20)
            return self._answer(500, "")
        if "/tree/" in self.path:
            files = [path for path in self.served.rglob("*") if path.is_file()]
            return self._json([self._entry(path) for path in files])
        if "/resolve/" in self.path:
            return self._file(self.served / self.path.partition(f"/{COMMIT}/")[2])
        return self._json({"id": "org/tiny", "sha": COMMIT, "siblings": []})

    do_HEAD = do_GET

    def _entry(self, path: Path) -> dict[str, object]:
        name = str(path.relative_to(self.served))
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": f"{hash(name):040x}"}

    def _file(self, path: Path) -> None:
        if "org/halves" in self.path and path.suffix == ".safetensors" and self.command == "GET":
            self.send_response(200)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            self.wfile.write(path.read_bytes()[:100])
            self.close_connection = True
            return
        headers = {"ETag": f'"{path.name}"', "X-Repo-Commit": COMMIT}
        self._answer(200, "", path.read_bytes(), headers)

    def _json(self, value: object) -> None:
        self._answer(200, "", json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, code: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"X-Error-Code": code, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    Hub.folder, Hub.asked = save_tiny_model(tmp_path_factory.mktemp("hub") / "tiny"), []
    for name in ("pytorch_model.bin", "model.py", "consolidated.safetensors", "onnx/config.json", "training_args.pt"):
        (Hub.folder / name).parent.mkdir(exist_ok=True)
        (Hub.folder / name).write_text("unwanted")
    Hub.nested = save_tiny_model(tmp_path_factory.mktemp("hub") / "nested")
    names = Checkpoint(Hub.nested).names
    for place in ("sub", "unwanted"):
        (Hub.nested / place).mkdir()
        shutil.copy(Hub.nested / "model.safetensors", Hub.nested / place)
    (Hub.nested / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(names, "sub/model.safetensors")}
    (Hub.nested / "model.safetensors.index.json").write_text(json.dumps(index))
    server = LoopbackServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def opened(home: Path, endpoint: str, *names: str, offline: str = "0") -> list[str]:
    """What is said of each name, one line each."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": offline, "HF_HOME": str(home), "HF_TOKEN": "hf_secret"}
    environment = os.environ | settings | {"HF_HUB_ETAG_TIMEOUT": "1"}
    ended = subprocess.run([sys.executable, "-c", OPEN, *names], capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert "hf_secret" not in ended.stdout + ended.stderr
    assert len(ended.stdout.splitlines()) == len(names)
    return ended.stdout.splitlines()


def test_a_model_is_fetched_once_and_found_offline(hub: str, tmp_path: Path) -> None:
    Hub.asked.clear()
    (line,) = opened(tmp_path, hub, "org/tiny@v1")
    assert line.startswith("org/tiny@v1 has 20 tensors in ")
    snapshot = Path(line.partition(" in ")[2])
    names = sorted(path.name for path in snapshot.rglob("*"))
    assert names == ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
                     "tokenizer.json", "tokenizer_config.json"]  # fmt: skip
    assert not [path for path in Hub.asked if path.endswith((".bin", ".pt", ".py"))]
    Hub.asked.clear()
    known, missing = opened(tmp_path, hub, "org/tiny@v1", "org/tiny", offline="1")
    assert known == line
    assert "not in the local cache and the hub cannot be reached" in missing
    assert Hub.asked == []


def test_shards_that_the_index_names_in_a_subfolder_are_fetched(hub: str, tmp_path: Path) -> None:
    for offline in ("0", "1"):
        (line,) = opened(tmp_path, hub, "org/nested", offline=offline)
        assert line.startswith("org/nested has 20 tensors in ")
    snapshot = Path(line.partition(" in ")[2])
    assert [str(path.relative_to(snapshot)) for path in snapshot.rglob("*.safetensors")] == ["sub/model.safetensors"]


def test_every_way_it_fails_is_one_line(hub: str, tmp_path: Path) -> None:
    names = ["org/gated", "org/locked", "org/unknown", "org/tiny@no-such", "org/down", "org/prose", "org/slow"]
    gated, locked, unknown, revision, down, prose, slow = opened(tmp_path, hub, *names)
    licence = f"is gated: accept its licence at {hub}/org/"
    assert gated.startswith(f"org/gated {licence}gated and set HF_TOKEN")
    assert locked.startswith(f"org/locked {licence}locked and set HF_TOKEN")
    assert unknown.startswith("no folder and no hub repository org/unknown: check the name")
    assert revision.startswith("org/tiny has no revision no-such")
    assert "the hub cannot be reached" in down
    assert prose.startswith("org/prose cannot be downloaded (")
    assert "the hub cannot be reached" in slow


def test_a_download_that_breaks_off(hub: str, tmp_path: Path) -> None:
    (line,) = opened(tmp_path, hub, "org/halves")
    assert line.startswith("org/halves cannot be downloaded (peer closed connection")


def test_no_network(tmp_path: Path) -> None:
    (line,) = opened(tmp_path, "http://127.0.0.1:9", "org/tiny")
    assert line == (
        "org/tiny is no folder, it is not in the local cache and the hub cannot be reached: "
        "go online once, or give a folder that exists"
    )
