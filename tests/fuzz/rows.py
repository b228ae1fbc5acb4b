"""Files of prompts and training data that are broken, or lie."""

import io
from pathlib import Path
from random import Random

import polars as pl

from fuzz.mutations import TEXTS, broken_bytes, broken_json, hostile_value, json_text

_ROWS = [{"prompt": f"ask {n}", "target": "answer", "n": n} for n in range(4)]


def _parquet() -> bytes:
    file = io.BytesIO()
    pl.DataFrame(_ROWS).write_parquet(file)
    return file.getvalue()


def make_rows(random: Random, folder: Path) -> None:
    suffix = random.choice((".txt", ".json", ".jsonl", ".csv", ".parquet", ".JSON", ".zip"))
    kind = random.randrange(6)
    if suffix == ".parquet":
        data = broken_bytes(random, _parquet())
    elif suffix == ".csv":
        cells = [str(hostile_value(random)) for _ in range(6)]
        head = random.choice(("prompt,target", "prompt,prompt", "", '"prompt', "prompt,target,target", ",,", "\x00"))
        data = (head + "\r\n" + ",".join(cells[:2]) + '\n"' + '","'.join(cells[2:4]) + '"\n').encode("utf-8", "replace")
    elif suffix == ".jsonl":
        data = b"\n".join(json_text(random, broken_json(random, row)) for row in _ROWS)
    elif suffix == ".json":
        data = json_text(random, broken_json(random, random.choice((_ROWS, {"rows": _ROWS}))))
    else:
        data = "\n".join(random.choice(TEXTS) for _ in range(4)).encode("utf-8", "surrogatepass")
    if kind == 0:
        data = broken_bytes(random, data)
    elif kind == 1 and random.random() < 0.02:  # a line of 10 MB
        data = b'{"prompt": "' * (suffix == ".jsonl") + b"z" * 10_000_000 + b'"}' * (suffix == ".jsonl")
    elif kind == 2:
        data = data.decode("utf-8", "replace").encode(random.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")))
    folder.joinpath(f"rows{suffix}").write_bytes(data)


def read_prompts(folder: Path) -> str:
    from safespan.data.sources import read_prompts, rows_hash
    from safespan.files.atomic import write_jsonl
    from safespan.settings.data import PromptSource

    [path] = folder.glob("rows.*")
    prompts = [vars(prompt) for prompt in read_prompts(PromptSource(file=str(path)))]
    rows_hash(prompts)
    write_jsonl(folder / "out.jsonl", prompts)
    return str(prompts)[:10_000]
