"""What is said when a data set of the hub cannot be had: offline, gated, unknown, or with a broken hub."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from loopback import LoopbackServer

READ = """
import sys
from safespan.data import read_rows
from safespan.errors import DataError
from safespan.settings import RowSource
for name in sys.argv[1:]:
    try:
        print(read_rows(RowSource(dataset=name)))
    except DataError as error:
        print(error)
"""


class Hub(BaseHTTPRequestHandler):
    """A hub that has no data set anyone may read."""

    def do_HEAD(self) -> None:
        status, code = (401, "GatedRepo") if "gated" in self.path else (404, "RepoNotFound")
        if "broken" in self.path:
            status, code = 400, "Broken"
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = LoopbackServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def said(tmp_path: Path, endpoint: str, *names: str, offline: str = "0") -> list[str]:
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": offline, "HF_HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", READ, *names], capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_gated_unknown_and_broken(hub: str, tmp_path: Path) -> None:
    gated, unknown, broken = said(tmp_path, hub, "some/gated", "some/unknown", "some/broken")
    assert gated.startswith("some/gated train: this data set is gated; accept its terms at https://huggingface.co/")
    assert "HF_TOKEN" in gated
    assert unknown.startswith("some/unknown train: cannot be loaded as a data set (Dataset 'some/unknown' doesn't")
    assert broken.startswith("some/broken train: cannot be loaded as a data set (")


def test_offline(tmp_path: Path) -> None:
    (line,) = said(tmp_path, "https://huggingface.co", "some/thing", offline="1")
    assert line.startswith("some/thing train: not in the local cache, and the hub cannot be reached; go online")
