"""What leaves this machine names no folder of it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_tables import make_seeds, write_rows

from safespan import load_run
from safespan.files.atomic import write_json
from safespan.report import write_comparison
from safespan.report.export import write_export
from safespan.report.export.shared import SHORTENED, shared
from safespan.results import Manifest, RunFolder

Shortened = Callable[..., Manifest]


@pytest.fixture
def shortened(full_run: RunFolder, tmp_path: Path) -> Shortened:
    """The manifest that others see, from fields of one."""
    run = RunFolder(tmp_path / "some place" / "run")
    write_rows(run, "models", full_run.read_table("models").to_dicts())

    def of(**fields: Any) -> Manifest:
        Manifest(**fields).write(run.manifest)
        return shared(load_run(run.root)).manifest

    return of


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("--out /data/x/run-1 --set a=/b/c.yaml", "--out run-1 --set a=c.yaml"),
        ("--out='/data/my models/base' -v", "--out='base' -v"),
        ("the tokenizer of /home/someone/models/base was taken.", "the tokenizer of base was taken."),
        ("read /Users/someone/a.jsonl. Then /data/b.", "read a.jsonl. Then b."),
        ("/home/someone is full", "~ is full"),
        ("~/models/base and ~other/models/x", "base and x"),
        ("file:///home/someone/x.jsonl", "file:x.jsonl"),
        ("/a/base+/b/adapter", "base+adapter"),
        ("org/base+/b/adapter", "org/base+adapter"),
        ("https://host/home/x/data.json or s3://bucket/key", "https://host/home/x/data.json or s3://bucket/key"),
        (
            "org/model@main, runs/demo/base, ../other, and/or 3/4",
            "org/model@main, runs/demo/base, ../other, and/or 3/4",
        ),
    ],
)
def test_a_path_in_a_text_is_its_last_part(shortened: Shortened, text: str, short: str) -> None:
    assert shortened(notes=[text]).notes == [short]


def test_the_folders_of_the_run_and_of_the_user_have_signs(shortened: Shortened, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    run = tmp_path / "some place" / "run"
    notes = [f"in {run}", f"in {run}/data/x.jsonl", f"in {run}-2/x", str(tmp_path / "me"), f"{tmp_path}/me/a b/c d"]
    assert shortened(notes=notes, config={"file": notes[-1]}).notes == [
        "in {run}", "in {run}/data/x.jsonl", "in some place/run-2/x", "~", "c d",
    ]  # fmt: skip


def test_two_inputs_of_one_name_stay_two(shortened: Shortened) -> None:
    models = {
        "base": {"model": "final"},
        "aligned": {"model": "/a/final"},
        "useful": {"model": "/b/final+/c/my adapter"},
        "harmful": {"model": "/b/final+org/adapter", "train": {"file": "/d/rows.jsonl"}},
        "safe": {"model": "/a/final/", "train": {"file": "/e/rows.jsonl"}},
    }
    manifest = shortened(config={"models": models}, command="safespan x --useful '/b/final+/c/my adapter' /a/final")
    short = manifest.config["models"]
    assert {role: source["model"] for role, source in short.items()} == {
        "base": "final", "aligned": "final (2)", "useful": "final (3)+my adapter", "harmful": "final (3)+org/adapter",
        "safe": "final (2)/",
    }  # fmt: skip
    assert [short[role]["train"]["file"] for role in ("harmful", "safe")] == ["rows.jsonl", "rows (2).jsonl"]
    assert manifest.command == "safespan x --useful 'final (3)+my adapter' final (2)"


def test_the_run_that_was_loaded_keeps_its_manifest(shortened: Shortened, tmp_path: Path) -> None:
    shortened(notes=["/data/x"])
    run = load_run(tmp_path / "some place" / "run")
    assert shared(run).manifest.notes == ["x"]
    assert run.manifest.notes == ["/data/x"]


def texts(folder: Path) -> str:
    """Every file that is text, one after another."""
    kinds = (".tex", ".md", ".csv", ".json")
    return "\n".join(path.read_text() for path in sorted(folder.rglob("*")) if path.suffix in kinds)


def test_no_exported_text_names_the_runs_parent_or_the_home_folder(full_run: RunFolder, tmp_path: Path, monkeypatch):
    home = tmp_path / "home of me"
    monkeypatch.setenv("HOME", str(home))
    source = RunFolder(home / "secret project" / "run")
    shutil.copytree(full_run.root, source.root)
    manifest = source.read_manifest().model_dump(mode="json")
    mine = home / "secret project" / "models" / "aligned"
    manifest |= {
        "name": f"Safety subspaces of {mine}",
        "command": f"safespan run '{source.root.parent}/study.yaml' --out {source.root}",
        "notes": [f"{mine} has no chat template", f"{source.root}/data was used"],
        "training": {"useful": {"config": {"data": {"file": f"{home}/rows.jsonl"}}}},
    }
    manifest["config"]["models"] = {"aligned": {"model": str(mine)}, "useful": {"start": "aligned"}}
    write_json(source.manifest, manifest)
    seeds = tmp_path / "home of me" / "seeds run"
    small = RunFolder(tmp_path / "small")
    for name in ("models", "verdicts", "estimates", "coverage"):
        write_rows(small, name, full_run.read_table(name).to_dicts())
    write_json(small.manifest, manifest)
    write_comparison(make_seeds(small, seeds / "seeds", (0.5, 0.42)), seeds)
    for run in (source.root, seeds):
        out = write_export(load_run(run), tmp_path / "out")
        everything = texts(out)
        for folder in (source.root.parent, seeds, home, tmp_path):
            assert str(folder) not in everything
        assert re.search("Safety subspaces of .*aligned", (out / "hub" / "README.md").read_text())
        for card in (out / "MODEL_CARD.md", out / "hub" / "README.md"):
            assert SHORTENED in card.read_text()
        if run == source.root:  # its configuration names the path, so that its spaces are known
            assert not {"home of me", "secret project"} & set(re.findall("home of me|secret project", everything))
            assert re.search(r"^ +aligned & aligned &", (out / "tables" / "finetunes.tex").read_text(), re.MULTILINE)
        [written, *_] = sorted((out / "hub").rglob("manifest.json"))
        assert json.loads(written.read_text())["notes"][0].endswith("aligned has no chat template")
