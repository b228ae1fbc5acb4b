"""Give safespan's readers hostile files, many of them, and count what comes of it.

Each input must end in success or in a SafespanError: no other exception, nothing outside its folder touched, no more
than ten seconds. Input n of a kind is made from seed and n alone.
"""

import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzz.checkpoints import remove_seeds
from fuzz.kinds import KINDS, Kind
from fuzz.mutations import SECRET

SECONDS = 10
ROOM = 64 * 2**20
"""Bytes that a reader may take beside twice the file: what libraries keep for themselves."""


class Hung(BaseException):
    """An input took too long."""


@dataclass
class Tally:
    """What came of the inputs of one kind."""

    inputs: int = 0
    successes: int = 0
    refusals: int = 0
    others: list[str] = field(default_factory=list)
    """Everything that may not be, each with the number of its input."""
    slowest: float = 0.0
    most_memory: int = 0
    """Peak of the resident memory over what was held before, in bytes, less the size of the file."""


def one(kind: Kind, random: Random, box: Path, tally: Tally, label: str) -> None:
    """Make one input in a box of its own, read it, and note what came of it."""
    from safespan.errors import SafespanError

    folder = box / "in"
    folder.mkdir(parents=True)
    (box / "secret.jsonl").write_text(f'{{"kind": "harmful", "prompt": "{SECRET}"}}\n')
    kind.make(random, folder)
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    outside = _listing(box)
    tally.inputs += 1
    before, start = _peak_from_now(), time.perf_counter()
    try:
        with _limit(SECONDS):
            kind.read(folder)
        tally.successes += 1
    except SafespanError as error:
        tally.refusals += 1
        if "\n" in str(error).strip() and len(str(error)) > 2000:
            tally.others.append(f"{label}: a message of {len(str(error))} letters")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        where = traceback.extract_tb(error.__traceback__)
        ours = next((frame for frame in reversed(where) if "safespan" in frame.filename), where[-1])
        tally.others.append(f"{label}: {type(error).__name__} {str(error)[:160]!r} at {ours.name}:{ours.lineno}")
    seconds = time.perf_counter() - start
    tally.slowest = max(tally.slowest, seconds)
    more = _peak() - before - size
    tally.most_memory = max(tally.most_memory, more)
    if more > size + ROOM:
        tally.others.append(f"{label}: {more / 2**20:.0f} MB over a file of {size} bytes")
    if _listing(box) != outside or Path("escaped").exists():
        tally.others.append(f"{label}: something outside the folder changed")
    shutil.rmtree(box)


def run(inputs: int, seed: int = 0, only: str | None = None, first: int = 0) -> dict[str, Tally]:
    """Run a campaign; kinds get their shares of the inputs, at least one each."""
    tallies = {}
    with tempfile.TemporaryDirectory(prefix="safespan-fuzz.") as place:
        for name, kind in KINDS.items():
            if only not in (None, name):
                continue
            _warm(kind, Path(place) / "warm")
            tally = tallies[name] = Tally()
            for number in range(first, first + (inputs if only else max(1, inputs * kind.share // 1000))):
                one(kind, Random(f"{seed} {name} {number}"), Path(place) / "box", tally, f"{name} {number}")
    remove_seeds()
    return tallies


def table(tallies: dict[str, Tally]) -> str:
    """The tallies, a kind a row, in Markdown."""
    lines = ["| kind | inputs | successes | SafespanError | others | slowest, s | peak memory over the file, MB |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for name, t in tallies.items():
        cells = (t.inputs, t.successes, t.refusals, len(t.others), f"{t.slowest:.2f}", f"{t.most_memory / 2**20:.1f}")
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    every = tallies.values()
    totals = (sum(t.inputs for t in every), sum(t.successes for t in every), sum(t.refusals for t in every))
    lines.append(f"| all | {' | '.join(map(str, totals))} | {sum(len(t.others) for t in every)} | | |")
    return "\n".join(lines)


def _warm(kind: Kind, box: Path) -> None:
    """Import what a kind needs, so that no input is charged with it: read inputs until one is read to its end."""
    tally = Tally()
    for number in range(40):
        one(kind, Random(f"warm {number}"), box, tally, "warm")
        if tally.successes:
            break


def _listing(box: Path) -> Any:
    return sorted((path.name, path.lstat().st_mtime_ns if path.is_file() else 0) for path in box.iterdir())


def _peak_from_now() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """The most resident memory since `_peak_from_now`, in bytes."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    def late(*_: Any) -> None:
        raise Hung(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
