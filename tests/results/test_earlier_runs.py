"""Run folders that an earlier version wrote: read, or one line that tells what to do."""

import json

import pytest

from safespan.errors import DataError
from safespan.results import Manifest, RunFolder

HEADERS = {
    "verdicts": "hypothesis,kind,outcome,method,verdict,direction,s,low,high",
    "overlap": "pair,group,granularity,layer,module,energy_fraction,k_x,k_y,mso",
    "models": "model,utility,utility_ci_low,utility_ci_high,utility_by_filter",
}


@pytest.mark.parametrize("table", HEADERS)
def test_a_table_with_the_columns_of_before_is_refused_in_one_line(table, tmp_path):
    path = RunFolder(tmp_path).table(table)
    path.parent.mkdir()
    path.write_text(f"{HEADERS[table]}\n" + ",".join("a" for _ in HEADERS[table].split(",")) + "\n")
    with pytest.raises(DataError, match=rf"{table}\.csv has other columns .*: run the study again") as refusal:
        RunFolder(tmp_path).read_table(table)
    assert "\n" not in str(refusal.value)


def test_a_manifest_of_before_is_read(tmp_path):
    run = RunFolder(tmp_path)
    written = {
        "name": "A study",
        "command": "safespan demo",
        "config": {"name": "A study", "seed": 0},
        "seed": 0,
        "versions": {"python": "3.11.7"},
        "hardware": {"cpu": "x86_64", "cores": 2, "threads": 2, "memory_gb": 25.2, "gpu": None},
        "stages": [{"name": "data", "seconds": 0.2, "reused": False}],
        "inputs": {"base": "0" * 64},
        "tables": {"models": "1" * 64},
        "prompts": {"harmful": {"rows": 4, "sha256": "2" * 64}},
        "judge": [],
        "training": {"base": {"seed": 0}},
        "created": "2026-01-01T00:00:00+00:00",
    }
    run.manifest.write_text(json.dumps(written))
    assert run.read_manifest().model_dump(mode="json") == {
        **written, "notes": [], "estimate": {}, "hypotheses": {},
    }  # fmt: skip
    assert Manifest.read(run.manifest).stages[0].seconds == 0.2


def test_a_folder_without_a_manifest_has_its_name_alone(tmp_path):
    assert RunFolder(tmp_path).read_manifest() == Manifest(name=tmp_path.name)
