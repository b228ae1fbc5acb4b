"""Tables of a run from plain rows."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safespan.files.atomic import write_json
from safespan.results import TABLES, RunFolder, schema_of, write_table


def write_rows(run: RunFolder, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table of a run; columns that a row does not name are empty."""
    kind = TABLES[name]
    empty = dict.fromkeys(schema_of(kind))
    write_table(run.table(name), kind, [kind(**{**empty, **row}) for row in rows])


def make_seeds(run: RunFolder, root: Path, values: Sequence[float]) -> list[RunFolder]:
    """Copies of a run as seeds 0, 1, … of one recipe, in folders of these names.

    D of alignment by answer probability is as the values say, S of both methods has opposite signs.
    """
    runs = []
    for seed, value in enumerate(values):
        copy = RunFolder(Path(shutil.copytree(run.root, root / str(seed))))
        rows = []
        for row in run.read_table("estimates").to_dicts():
            own = (row["hypothesis"], row["test"], row["outcome"]) == ("alignment", "update", "answer probability")
            moved = {"parallel": value, "orthogonal": -value, None: value}.get(row["method"])
            changed = {"estimate": moved} if own else {}
            rows.append({**row, **changed, "error": 0.01, "prompts": 1000})
        write_rows(copy, "estimates", rows)
        manifest = copy.read_manifest().model_dump(mode="json")
        manifest["config"] |= {"seed": seed, "execution": {"workers": seed + 1}}
        manifest["config"]["models"] = {"aligned": {}}
        write_json(copy.manifest, {**manifest, "seed": seed, "inputs": {"aligned": f"{seed}" * 64}})
        runs.append(copy)
    return runs
