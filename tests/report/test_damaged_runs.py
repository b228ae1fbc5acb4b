"""Runs that are damaged, still going, or of another version: one clear error, or what stands and what is missing."""

import contextlib
import json
import logging
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from random import Random

import polars as pl
import pytest
from run_tables import make_seeds

from safespan import load_run
from safespan.errors import DataError, SafespanError
from safespan.files.atomic import write_json
from safespan.files.content import content_hash
from safespan.report import write_comparison, write_report
from safespan.report.export import write_export
from safespan.results import TABLES, RunFolder

STAGES = {name: {"key": "k", "seconds": 1.0, "outputs": {}} for name in ("data", "model base")}


@pytest.fixture
def run(full_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A whole run: its manifest knows its tables."""
    copy = RunFolder(Path(shutil.copytree(full_run.root, tmp_path / "run")))
    manifest = copy.read_manifest().model_dump(mode="json")
    write_json(copy.manifest, {**manifest, "tables": {name: content_hash(copy.table(name)) for name in TABLES}})
    write_json(copy.stages, STAGES)
    return copy


def test_a_whole_run_lacks_nothing(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    assert load_run(run.root).problems == []
    assert caplog.records == []


def test_tables_that_are_gone_are_named_and_the_others_are_read(run: RunFolder, caplog, tmp_path: Path) -> None:
    for name in ("estimates", "spectra"):
        run.table(name).unlink()
    loaded = load_run(run.root)
    [problem] = loaded.problems
    assert "lacks tables that its manifest.json names (estimates, spectra): run the study again" in problem
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.WARNING, problem)]
    assert loaded.table("models").height == 6
    assert "spectra" not in loaded.figures
    assert f"warning: {problem}" in repr(loaded)
    assert "Warning: " in loaded._repr_html_()
    with pytest.raises(DataError, match="has no table 'estimates', but models, "):
        loaded.table("estimates")
    card = (write_export(loaded, tmp_path / "out") / "MODEL_CARD.md").read_text()
    assert r"NOT complete: {run} lacks tables" in card.replace("\\", "")


def test_without_its_verdicts_a_run_does_not_say_that_nothing_was_tested(run: RunFolder) -> None:
    run.table("verdicts").unlink()
    loaded = load_run(run.root)
    assert loaded.verdicts == []
    assert loaded.headline == "There are no verdicts: a part of this run is missing."


def test_a_table_that_is_not_the_manifests_is_named(run: RunFolder) -> None:
    text = run.table("models").read_text()
    run.table("models").write_text(text.replace("0.97", "0.11"))
    assert "has tables that are not those of its manifest.json (models)" in load_run(run.root).problems[0]


def test_a_report_warns_of_what_is_missing_and_of_what_was_changed(run: RunFolder, caplog) -> None:
    write_report(run)
    assert caplog.records == []
    run.table("models").unlink()
    run.table("verdicts").write_text(run.table("verdicts").read_text().replace("+0.02", "+0.12"))
    page = write_report(run).read_text()
    lacking, changed = load_run(run.root).problems
    assert "lacks tables that its manifest.json names (models)" in lacking
    assert "has tables that are not those of its manifest.json (verdicts)" in changed
    assert [record.getMessage() for record in caplog.records[:2]] == [lacking, changed]
    assert unescape(page).count(f"Warning.</strong> {lacking}.") == unescape(page).count(changed) == 1


def test_a_comparison_warns_of_each_run(run: RunFolder, full_run: RunFolder, tmp_path: Path, caplog) -> None:
    run.table("spectra").unlink()
    page = unescape(write_comparison([full_run, run], tmp_path / "out").read_text())
    [problem] = load_run(run.root).problems
    assert f"{run.root} lacks tables that its manifest.json names (spectra)" in problem
    assert problem in [record.getMessage() for record in caplog.records]
    assert f"Warning.</strong> {problem}." in page


def test_results_of_an_ended_run_that_are_gone_are_one_error(run: RunFolder) -> None:
    shutil.rmtree(run.table("models").parent)
    for read in (load_run, lambda root: write_report(RunFolder(root))):
        with pytest.raises(DataError, match=r"has no results any more: its run has ended, but .*results holds none"):
            read(run.root)


@pytest.mark.parametrize("keep", [0, 1, 40, -3])
def test_half_of_a_stage_record_leaves_the_tables(run: RunFolder, keep: int) -> None:
    run.stages.write_bytes(run.stages.read_bytes()[:keep])
    loaded = load_run(run.root)
    assert "stages.json is broken: expected the record of the finished stages" in loaded.problems[0]
    assert len(loaded.verdicts) == 22


@pytest.mark.parametrize("keep", [0, 1, 200, -3])
def test_half_of_a_manifest_is_one_error(run: RunFolder, keep: int) -> None:
    run.manifest.write_bytes(run.manifest.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"manifest\.json"):
        load_run(run.root)


def test_a_run_that_is_going_shows_what_is_finished(run: RunFolder) -> None:
    run.manifest.unlink()
    for name in set(TABLES) - {"models"}:
        run.table(name).unlink()
    loaded = load_run(run.root)
    assert loaded.tables == ("models",)
    assert "has no manifest.json, which a run writes at its end" in loaded.problems[0]
    assert "(finished stages: data, model base)" in loaded.problems[0]
    run.table("models").unlink()
    with pytest.raises(DataError, match=r"has no results yet: .*\(finished stages: data, model base\); wait, or run"):
        load_run(run.root)
    run.stages.write_text("{")
    with pytest.raises(DataError, match="is broken"):
        load_run(run.root)


def test_seeds_that_are_going_are_named(full_run: RunFolder, tmp_path: Path) -> None:
    [_, second] = make_seeds(full_run, tmp_path / "run" / "seeds", (0.5, 0.4))
    second.manifest.unlink()
    problems = load_run(tmp_path / "run").problems
    assert "has seeds that are not finished (1): they are left out" in problems[0]
    assert "has no pooled.csv, which holds the verdicts over all seeds" in problems[1]
    shutil.rmtree(tmp_path / "run" / "seeds" / "0")
    with pytest.raises(DataError, match="has no seed that is finished, of 1: wait, or run the study"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_a_column_is_one_error_where_it_is_read(run: RunFolder, name: str) -> None:
    table = run.read_table(name)
    lost = table.columns[-1]
    table.drop(lost).write_csv(run.table(name))
    loaded = load_run(run.root)
    for read in (lambda: loaded.table(name), lambda: loaded.verdicts, lambda: loaded.figures):
        with pytest.raises(
            DataError, match=rf"{name}\.csv has other columns .*missing: {lost};.*: run the study again"
        ):
            read()


def test_a_run_of_an_older_version_is_one_error_where_its_tables_are_read(run: RunFolder) -> None:
    run.table("verdicts").write_text(
        "hypothesis,kind,outcome,method,verdict,direction,s,low,high\nlox,a,b,c,d,e,1,1,1\n"
    )
    manifest = json.loads(run.manifest.read_text())
    del manifest["estimate"], manifest["notes"], manifest["tables"]
    run.manifest.write_text(json.dumps(manifest))
    loaded = load_run(run.root)
    assert loaded.table("models").height == 6
    for read in (lambda: loaded.verdicts, lambda: repr(loaded), lambda: write_export(loaded, run.root / "out")):
        with pytest.raises(DataError, match=r"verdicts\.csv has other columns than this version writes"):
            read()
    assert not (run.root / "out").exists()


def test_a_file_that_must_not_be_read_is_one_error(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("safespan.results.table_files.header_of", refused)
    with pytest.raises(DataError, match=r"models\.csv is no table of results \(.*Permission denied"):
        load_run(run.root).table("models")


@pytest.mark.parametrize("make", [lambda path: path / "results", lambda path: path.parent, lambda path: f"{path}\0x"])
def test_a_folder_that_is_no_run_is_one_error(run: RunFolder, make: Callable[[Path], Path]) -> None:
    with pytest.raises(DataError, match="expected"):
        load_run(make(run.root))


CELLS = {
    "verdicts": ("hypothesis", "kind", "group", "test", "construct"),
    "estimates": ("hypothesis", "test", "construct", "statistic", "votes"),
    "coverage": ("hypothesis", "test"),
}


@pytest.mark.parametrize(("name", "column"), [(name, column) for name, of in CELLS.items() for column in of])
def test_a_cell_that_no_run_writes_is_one_error(run: RunFolder, name: str, column: str) -> None:
    table = run.read_table(name)
    first = pl.int_range(pl.len()) == 0
    any_text = column in ("hypothesis", "statistic")
    for value in [None] if any_text or table.schema[column] == pl.Boolean else [None, "unheard of"]:
        changed = pl.when(first).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
        table.with_columns(changed).write_csv(run.table(name))
        with pytest.raises(DataError):
            repr(load_run(run.root))


@pytest.mark.parametrize("seed", range(24))
def test_no_damage_gives_another_error(run: RunFolder, seed: int) -> None:
    """Bytes are cut out, doubled or changed in one file."""
    random = Random(seed)
    files = sorted(path for path in run.root.rglob("*") if path.suffix in (".csv", ".json"))
    path = random.choice(files)
    content = bytearray(path.read_bytes())
    start = random.randrange(len(content))
    stop = min(len(content), start + random.choice((1, 5, 50, len(content))))
    part = content[start:stop]
    content[start:stop] = random.choice((b"", part * 2, random.randbytes(len(part)), b",,\n", b"\xff"))
    path.write_bytes(content)
    with contextlib.suppress(SafespanError):
        loaded = load_run(run.root)
        assert repr(loaded)
        assert loaded._repr_html_()
        _ = loaded.figures, loaded.checks
        assert loaded.problems or path.suffix == ".json"
