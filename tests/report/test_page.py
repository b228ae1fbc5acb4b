"""The page: complete, self-contained, and safe from what it quotes."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from safespan.errors import DataError
from safespan.report import write_report
from safespan.report.charts import removed_energy
from safespan.report.tables import judge_facts, overlap_facts, separation_facts
from safespan.results import SCHEMAS, RunFolder, write_json, write_table

SECTIONS = ("verdict", "models", "parallel", "orthogonal", "overlap", "activations", "removed", "run")


class Page(HTMLParser):
    """Tags with their attributes, and the text of each script."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def html(full_run: RunFolder) -> str:
    return write_report(full_run).read_text(encoding="utf-8")


def specs(page: Page) -> dict:
    return json.loads(re.search(r"^const SPECS = (.*);$", page.scripts[-1], re.M)[1])


def test_every_section_and_chart_is_there(html):
    page = Page(html)
    ids = [attrs.get("id") for tag, attrs in page.tags if tag == "section"]
    assert ids == list(SECTIONS)
    charts = {attrs["id"].removeprefix("chart-"): attrs for _, attrs in page.tags if attrs.get("role") == "img"}
    assert set(charts) == set(specs(page))
    assert len(charts) == 8
    assert all(attrs["aria-label"] for attrs in charts.values())
    assert "Left out" not in html
    words = "Along the alignment subspace harm and utility move together"
    assert html.index(words) < html.index("selective, harm first") < html.index('id="models"')


def test_nothing_is_loaded_and_the_page_is_small(html):
    page = Page(html)
    for tag, attrs in page.tags:
        assert "src" not in attrs, tag
        assert tag not in ("link", "iframe", "img", "object")
        assert attrs.get("href", "#").startswith("#")
    assert not re.search(r"@import|url\(", html[: html.index("</style>")])
    assert len(html.encode()) < 3_000_000


def test_figures_are_svg_files(html, full_run):
    files = sorted(full_run.figures.iterdir())
    assert {path.stem for path in files} == set(specs(Page(html)))
    for path in files:
        root = ET.parse(path).getroot()
        assert root.tag.endswith("svg")
        # Axis titles and a chart title are text, and a mark was drawn.
        assert len(root.findall(".//{*}text")) > 5
        assert root.findall(".//{*}path[@aria-roledescription]")


def test_energy_removed_of_a_layer_is_that_of_its_modules(full_run):
    method = pl.col("finetune") == "harmful", pl.col("method") == "orthogonal"
    panel = full_run.read_table("removed_energy").filter(*method, pl.col("fraction") == 0.5)
    modules = panel.filter(pl.col("subspace") == "alignment", pl.col("layer") == "layer 1").to_dicts()
    assert [row["module"] for row in modules] == ["q_proj", "down_proj"]
    whole = sum(row["share_of_update"] for row in modules)
    gone = sum(row["removed_energy"] * row["share_of_update"] for row in modules) / whole
    bars, points = removed_energy(panel).chart.to_dict(validate=False)["datasets"].values()
    assert {"layer": "layer 1", "share_of_update": round(whole, 4)} in bars
    [drawn] = [row for row in points if row["subspace"] == "alignment" and row["layer"] == "layer 1"]
    assert (drawn["removed_energy"], drawn["share_of_update"]) == (round(gone, 4), round(whole, 4))


def test_hostile_strings_stay_text(full_run, tmp_path):
    evil = "</script><script>alert('x')</script><!--<script>&"
    run = RunFolder(Path(shutil.copytree(full_run.root, tmp_path / "run")))
    for name, column in (("models", "model"), ("overlap", "group"), ("projection", "finetune")):
        table = run.read_table(name).with_columns(pl.lit(evil).alias(column))
        write_table(run.table(name), table.to_dicts(), SCHEMAS[name])
    manifest = json.loads(run.manifest.read_text()) | {"name": evil, "command": evil, "versions": {evil: evil}}
    write_json(run.manifest, manifest)
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert len(page.scripts) == 2
    assert evil not in html
    (rows,) = specs(page)["overlap_heatmap"]["datasets"].values()
    assert rows[0]["group"] == evil


@pytest.mark.parametrize("present", [("models",), ("projection", "activations")])
def test_an_absent_table_is_named(full_run, tmp_path, present):
    run = RunFolder(tmp_path)
    for name in present:
        write_table(run.table(name), full_run.read_table(name).to_dicts(), SCHEMAS[name])
    html = write_report(run).read_text(encoding="utf-8")
    named = {name for name in SCHEMAS if f"Left out: results/{name}.csv is absent" in html}
    in_words = {"separation", "spectra", "trials", "verdicts"}  # have no figures of their own
    assert named == set(SCHEMAS) - set(present) - in_words
    assert "This run was not put to the test" in html


def test_a_run_without_outcomes_or_manifest_still_has_a_page(full_run, tmp_path):
    run = RunFolder(tmp_path)
    table = full_run.read_table("projection").with_columns(pl.lit(None).cast(pl.Float64).alias("utility"))
    write_table(run.table("projection"), table.to_dicts(), SCHEMAS["projection"])
    assert "This run was not put to the test" in write_report(run).read_text(encoding="utf-8")


def test_an_empty_folder_and_a_broken_table_are_refused(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(DataError, match="holds no table"):
        write_report(run)
    run.table("models").parent.mkdir()
    run.table("models").write_text("model,utility\nbase,high\n")
    with pytest.raises(DataError, match="not a models table"):
        write_report(run)
    assert not run.report.exists()


def test_failed_judgements_are_shown_and_invalid_points_named(full_run: RunFolder) -> None:
    models, projection = full_run.read_table("models"), full_run.read_table("projection")
    assert judge_facts(models, projection) == []
    first = pl.int_range(pl.len()) == 0
    broken = projection.with_columns(
        n_judge_failed=pl.when(first).then(30).otherwise(0), valid=pl.when(first).then(False).otherwise(True)
    )
    point = projection.row(0, named=True)
    [fact] = judge_facts(models, broken)
    asked = models["n_harmful"].sum() + projection["n_harmful"].sum()
    assert f"failed: 30 of {asked}; invalid" in fact
    assert fact.endswith(f"{point['finetune']} {point['subspace']} {point['method']} {point['fraction']}.")


def test_words_say_where_classes_are_apart_and_whether_their_subspaces_overlap(full_run: RunFolder) -> None:
    separation, activations = full_run.read_table("separation"), full_run.read_table("activations")
    apart, not_apart = separation_facts(separation, activations)
    assert "are separable by one direction, and their subspaces overlap little at 6 of 24 layers" in apart
    assert "base model, layer 3, AUROC on held-out prompts 0.99 (0.89 – 1.00) by the difference of means" in apart
    assert apart.endswith("centred overlap 0.30 at energy 0.5, chance 0.23.")
    assert (
        "are not separable by the difference of their means, although their subspaces overlap little at 18" in not_apart
    )
    # The same overlap is nearly all there is to be had, once halves of one class overlap no more.
    halves = activations.with_columns(pair=pl.lit("useful halves"), mso=pl.lit(0.31))
    apart, _ = separation_facts(separation, pl.concat([activations, halves]))
    assert "separable by one direction although their subspaces overlap at 6 of 24 layers" in apart
    assert apart.endswith("chance 0.23, two halves of one class 0.31.")
    assert separation_facts(separation.clear(), activations) == separation_facts(separation, activations.clear()) == []


def test_the_section_on_activations_says_it(html: str) -> None:
    section = html[html.index('<section id="activations"') : html.index('<section id="removed"')]
    assert "separable by one direction, and their subspaces overlap little" in section


def test_the_ceiling_of_overlap_is_said_where_it_was_measured(full_run: RunFolder) -> None:
    overlap = full_run.read_table("overlap")
    assert "ceiling" not in overlap_facts(overlap)[0]
    again = overlap.with_columns(pair=pl.lit("harmful-harmful again"), mso=pl.lit(0.9))
    [fact] = overlap_facts(pl.concat([overlap, again]))
    assert fact.endswith("one recipe under two seeds, the ceiling, 0.90 (harmful-harmful again).")
