"""What runs in a worker process of this machine. Its parent shows its progress, log and warnings, and gives it jobs."""

import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from io import TextIOBase
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from queue import SimpleQueue
from select import select
from typing import Any

from safespan.errors import SafespanError
from safespan.execution.jobs import HostedWorker
from safespan.execution.messages import pack, unpack
from safespan.progress import Relay, show_by

GRACE = 10.0
"""Seconds that a process has to clean up and end after SIGTERM."""


def main(descriptor: int) -> None:
    """Do what the parent asks for, until it ends this process or has itself ended.

    Args:
        descriptor: of this end of the connection.
    """
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    parent, asked = _Parent(connection), SimpleQueue[bytes]()
    signal.signal(signal.SIGTERM, parent.leave)
    threading.Thread(target=_listen, args=(connection, asked), daemon=True).start()
    parent.hears_of_everything()
    hosted: HostedWorker | None = None
    while True:
        try:
            request, content = unpack(asked.get())
            if request == "host":
                hosted = HostedWorker(*content)
                continue
            result = getattr(hosted, request)(*content)
            if request == "close":
                hosted = None  # so that the next worker finds its memory free
            answer = pack("done", result)
        except Exception as error:
            answer = pack("failed", _sendable(error))
        parent.send_bytes(answer)


def _listen(connection: Connection, asked: "SimpleQueue[bytes]") -> None:
    """Pass on what the parent asks; when it has died, end this process."""
    try:
        while True:
            asked.put(connection.recv_bytes())
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)


class _Parent:
    """The process that started this one."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self._left = False

    def leave(self, number: int, frame: object) -> None:
        """Handle a signal: clean up and exit, and say nothing more; at a second one exit at once."""
        if self._left:
            os._exit(128 + number)
        self._left = True
        raise SystemExit(128 + number)

    def send(self, kind: str, *content: Any) -> None:
        """Tell the parent."""
        self.send_bytes(pack(kind, *content))

    def send_bytes(self, message: bytes) -> None:
        """Tell the parent, unless it is gone."""
        with self._lock:
            if not self._left:
                try:
                    self._connection.send_bytes(message)
                except OSError:
                    self._left = True

    def hears_of_everything(self) -> None:
        """Send it progress, log records, warnings and what is printed, so that it treats them as its own."""
        show_by(Relay(self._tick, lambda line: self.send("note", line)))
        logging.root.addHandler(_Log(self))
        warnings.simplefilter("default")  # the parent filters
        warnings.showwarning = lambda message, category, file, line, *_: self.send(
            "warning", str(message), category, file, line
        )
        sys.stdout, sys.stderr = _Stream(self, "stdout"), _Stream(self, "stderr")

    def _tick(self, name: str, done: int, total: int) -> None:
        """Progress; never waits for a parent that is busy."""
        if select([], [self._connection], [], 0)[1]:
            self.send("tick", name, done, total)


class _Log(QueueHandler):
    def __init__(self, parent: _Parent) -> None:
        super().__init__(SimpleQueue())
        self._parent = parent

    def enqueue(self, record: logging.LogRecord) -> None:
        self._parent.send("log", record)


class _Stream(TextIOBase):
    encoding = "utf-8"

    def __init__(self, parent: _Parent, name: str) -> None:
        self._parent, self._name = parent, name

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return {"stdout": 1, "stderr": 2}[self._name]

    def write(self, text: str) -> int:
        self._parent.send("print", self._name, text)
        return len(text)


def _sendable(error: Exception) -> Exception:
    """The error, or if it cannot be sent one with its message; what is no SafespanError has its traceback as a note."""
    if not isinstance(error, SafespanError):
        error.add_note(f"In a worker process:\n{traceback.format_exc()}")
    try:
        unpack(pack("failed", error))
    except Exception:
        kind = SafespanError if isinstance(error, SafespanError) else RuntimeError
        other = kind(str(error) or type(error).__name__)
        for line in getattr(error, "__notes__", ()):
            other.add_note(line)
        return other
    return error
