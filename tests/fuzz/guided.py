"""Inputs that find their own way: atheris changes bytes, and keeps what reaches code that nothing has reached before.

Each file is given to the reader of its kind, among others that are sound. As in the campaign, an input ends in success
or in a SafespanError.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random

from fuzz.campaign import Tally, one
from fuzz.kinds import KINDS, Kind
from safespan.errors import SafespanError

FILES = {
    "safetensors file": "model.safetensors",
    "shards and index": "model.safetensors.index.json",
    "PEFT adapter": "adapter_config.json",
    "study YAML": "study.yaml",
    "--set": "setting",
    "data file": "rows.csv",
    "run folder": "manifest.json",
    "judge's reply": "reply",
    "GGUF": "model.gguf",
}
"""Kind -> the file whose bytes are changed."""


def guided(kind: str, runs: int, seed: int = 1) -> Tally:
    """Let atheris try so many inputs of one kind, in a process of its own: it ends the process that it runs in."""
    with tempfile.TemporaryDirectory(prefix="safespan-guided.") as place:
        command = [sys.executable, "-m", "fuzz.guided", kind, str(runs), str(seed), place]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
        try:
            return Tally(**json.loads(Path(place, "tally.json").read_text()))
        except FileNotFoundError:
            raise RuntimeError(f"{kind}: ended with {done.returncode}: {done.stderr[-2000:]}") from None


def _be_guided(kind: str, runs: int, seed: int, place: Path) -> None:
    import atheris

    read, sound = KINDS[kind].read, place / "sound"
    with atheris.instrument_imports(include=["safespan"]):
        _make_sound(kind, sound)

    tally = Tally()

    def one_input(data: bytes) -> None:
        def make(_: Random, folder: Path) -> None:
            shutil.copytree(sound, folder, dirs_exist_ok=True, symlinks=True)
            (folder / FILES[kind]).write_bytes(data)

        one(Kind(make, read, 0), Random(0), place / "box", tally, f"{kind} {data!r}")
        if tally.inputs == runs:
            (place / "tally.json").write_text(json.dumps(vars(tally)))

    corpus = place / "corpus"
    corpus.mkdir()
    shutil.copyfile(sound / FILES[kind], corpus / "sound")
    # The alarm is the campaign's own.
    settings = [f"-runs={runs}", f"-seed={seed}", "-timeout=0", "-handle_alrm=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *settings, str(corpus)], one_input)
    atheris.Fuzz()


def _make_sound(kind: str, folder: Path) -> None:
    """The first input of a kind that is read to its end, and has the file that is to be changed."""
    for number in count():
        folder.mkdir(parents=True)
        KINDS[kind].make(Random(f"sound {number}"), folder)
        with suppress(SafespanError):
            if (folder / FILES[kind]).exists():
                KINDS[kind].read(folder)
                return
        shutil.rmtree(folder)


if __name__ == "__main__":
    _be_guided(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
