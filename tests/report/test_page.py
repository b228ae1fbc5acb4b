"""The page: complete, self-contained, and safe from what it quotes."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from run_tables import write_rows

from safespan.errors import DataError
from safespan.files.atomic import write_json, write_jsonl
from safespan.report import write_report
from safespan.report.tables import (
    activation_facts,
    halfway_facts,
    judge_facts,
    no_answer_facts,
    overlap_facts,
    separation_facts,
)
from safespan.results import TABLES, RunFolder, schema_of

SECTIONS = (
    "verdict", "models", "update", "ablation", "training", "overlap", "activations", "parallel", "orthogonal",
    "removed", "spectra", "responses", "run",
)  # fmt: skip


class Page(HTMLParser):
    """Tags with their attributes, the text of each script that runs, and the data by id."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.data: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script" and "id" not in dict(attrs):
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script":
            if name := self.tags[-1][1].get("id"):
                self.data[name] = self.data.get(name, "") + data
            else:
                self.scripts[-1] += data


@pytest.fixture(scope="module")
def html(full_run: RunFolder) -> str:
    return write_report(full_run).read_text(encoding="utf-8")


def specs(page: Page) -> dict:
    return json.loads(page.data["specs"])


def test_every_section_and_chart_is_there(html):
    page = Page(html)
    ids = [attrs.get("id") for tag, attrs in page.tags if tag == "section"]
    assert ids == list(SECTIONS)
    charts = {attrs["id"].removeprefix("chart-"): attrs for _, attrs in page.tags if attrs.get("class") == "chart"}
    assert set(charts) == set(specs(page))
    assert len(charts) == 15
    assert all(attrs["aria-label"] for attrs in charts.values())
    assert "Left out" not in html
    words = "Along the alignment subspace harm and utility move together"
    places = [html.index(text) for text in ('class="word">No<', words, "<td", 'id="models"')]
    assert places == sorted(places)


def rows_of_table(html: str, label: str) -> list[list[str]]:
    """The texts of the cells of the table in the region of that name."""
    part = html[html.index(f'aria-label="{label}"') :]
    part = part[: part.index("</table>")]
    rows = re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[re.sub(r"<[^>]+>", " ", cell).replace("\u00a0", " ").strip() for cell in row] for row in cells]


def test_the_first_table_is_claim_by_test(html):
    header, *rows = rows_of_table(html, "Verdicts")
    assert [cell.split()[0] for cell in header] == ["Hypothesis", "Update", "Ablation", "Training"]

    def decided(verdict, statistic, name=""):
        of = f"{name} harm" if name else "harm"
        return f"{of}: {verdict} {statistic} +0.02 [−0.01, +0.05] refusal: not measurable {statistic} –"

    assert [[" ".join(cell.split()) for cell in row] for row in rows] == [
        ["alignment", decided("not selective", "D"), decided("inconclusive", "A"), decided("not selective", "T")],
        ["lox", decided("selective, harm first", "D"), "–", "–"],
        [
            "refusal-direction", "harm: too small to test refusal: too small to test",
            decided("selective, harm first", "A"), decided("selective, protects", "T"),
        ],
        ["Positive controls"],
        [
            "positive control", decided("selective, harm first", "D", "harmful-update"),
            decided("not selective", "A", "base"), decided("selective, protects", "T", "clean"),
        ],
        ["Negative controls"],
        ["random", decided("not selective", "D"), "–", "–"],
    ]  # fmt: skip
    assert html.index('aria-label="Verdicts"') < html.index('class="chart"')


def test_outcomes_that_do_not_vote_stand_beside_as_such(html):
    header, *rows = rows_of_table(html, "Every outcome")
    shown = [dict(zip(header, row, strict=True)) for row in rows]
    assert {(row["Outcome"], row["Votes"]) for row in shown} == {
        ("answer probability", "yes"), ("refusal log-odds", "yes"), ("answer NLL", "no"),
    }  # fmt: skip
    assert len(shown) == 3 * 10
    assert {row["Statistic"] for row in shown if row["Test"] == "ablation"} == {
        "A +0.02 [−0.01, +0.05]", "A +0.30 [−0.01, +0.05]", "A –",
    }  # fmt: skip
    unmeasured = [row["Under this outcome"] for row in shown if row["Outcome"] == "refusal log-odds"]
    assert unmeasured == ["not measurable: there are no harmful outcomes"] * 10
    assert {row["Of the positive control’s"] for row in shown if row["Test"] == "update"} == {
        "0.10 [−0.05, +0.25]", "–",
    }  # fmt: skip


def test_the_page_says_what_the_tests_did_on_their_controls(html):
    warned = re.findall(r'<li class="warn"><strong>Warning.</strong> (.*?)</li>', html[: html.index("<table")])
    assert len(warned) == 5
    assert warned[0].startswith("Update test, refusal: ")
    listed = html[html.index("Check of the tests") :]
    [passed] = re.findall(r"<li>(.*?)</li>", listed[: listed.index("</ul>")])
    assert passed.startswith("Update test, harm: positive control (harmful-update) found (D +0.02")


def test_a_claim_that_was_not_tested_says_why_and_what_it_names(html):
    assert "Its subspace holds 0.87% of the update" in html
    _, *rows = rows_of_table(html, "What each hypothesis names")
    assert ["refusal-direction", "update", "7 of 23", "29.5%", "0.9%"] in rows


def test_every_hypothesis_is_said_with_its_paper(html):
    _, *rows = rows_of_table(html, "What each hypothesis says")
    assert rows == [
        ["alignment", "it is in Δ_A", "arxiv.org/abs/2505.14185", "update"],
        ["lox", "Δ_A is &lt;too&gt; small", "javascript:alert(1)", "none of these"],
    ]
    assert 'href="javascript' not in html
    assert "Δ_A: alignment update, aligned − base" in html


def test_nothing_is_loaded_and_the_page_is_small(html):
    page = Page(html)
    for tag, attrs in page.tags:
        assert "src" not in attrs, tag
        assert tag not in ("link", "iframe", "img", "object")
        assert attrs.get("href", "#").startswith("#" if tag != "a" else ("#", "https://arxiv.org/"))
    assert not re.search(r"@import|url\(", html[: html.index("</style>")])
    assert len(html.encode()) < 3_000_000


def test_figures_are_svg_and_pdf_files_of_a_papers_width(html, full_run):
    files = sorted(full_run.figures.iterdir())
    assert {path.name for path in files} == {f"{name}.{kind}" for name in specs(Page(html)) for kind in ("svg", "pdf")}
    for path in files:
        if path.suffix == ".pdf":
            pdf = path.read_bytes()
            assert pdf.startswith(b"%PDF-")
            [width] = re.findall(rb"/MediaBox \[0 0 ([\d.]+) [\d.]+\]", pdf)
            assert 300 < float(width) <= 504, path
            continue
        assert 300 < float(ET.parse(path).getroot().get("width")) <= 504, path
        root = ET.parse(path).getroot()
        assert root.tag.endswith("svg")
        # Axis titles and a chart title are text, and a mark was drawn.
        assert len(root.findall(".//{*}text")) > 5
        assert root.findall(".//{*}path[@aria-roledescription]")


def test_hostile_strings_stay_text(full_run, tmp_path):
    evil = "</script><script>alert('x')</script><!--<script>&"
    run = RunFolder(Path(shutil.copytree(full_run.root, tmp_path / "run")))
    model = evil.replace("/", "")
    for name, column in (("models", "model"), ("overlap", "module"), ("projection", "finetune")):
        table = run.read_table(name).with_columns(pl.lit(model if column == "model" else evil).alias(column))
        write_rows(run, name, table.to_dicts())
    write_jsonl(run.generations(model), [{"kind": "harmful", "prompt": "p", "response": evil, "score": 5}])
    manifest = json.loads(run.manifest.read_text()) | {"name": evil, "command": evil, "versions": {evil: evil}}
    write_json(run.manifest, manifest)
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert len(page.scripts) == 2
    assert evil not in html
    assert model not in html
    assert specs(page)["overlap_heatmap"]["datasets"]["rows"][0]["module"] == evil
    assert evil in json.loads(page.data["generations"])["rows"][0]


@pytest.mark.parametrize("present", [("models",), ("projection", "activations")])
def test_an_absent_table_is_named(full_run, tmp_path, present):
    run = RunFolder(tmp_path)
    for name in present:
        write_rows(run, name, full_run.read_table(name).to_dicts())
    html = write_report(run).read_text(encoding="utf-8")
    assert ("Left out: results/models.csv is absent" in html) is ("models" not in present)
    ids = {attrs.get("id") for tag, attrs in Page(html).tags if tag == "section"}
    assert ids == {"verdict", "models", "responses", "run"} | (
        set() if present == ("models",) else {"parallel", "orthogonal", "activations"}
    )
    [line] = re.findall(r"Not on this page, as their tables .*?: (.*?)\.</p>", html)
    named = {name.removeprefix("results/").removesuffix(".csv") for name in line.split(", ")}
    # These stand beside others in their sections, or are not on the page.
    no_section = {
        "models", "coverage", "separation", "verdicts", "estimates", "models_by_filter", "projection_by_filter",
    }  # fmt: skip
    assert named == set(TABLES) - set(present) - no_section
    assert "This run was not put to the test" in html


def test_a_run_without_outcomes_or_manifest_still_has_a_page(full_run, tmp_path):
    run = RunFolder(tmp_path)
    table = full_run.read_table("projection").with_columns(pl.lit(None).cast(pl.Float64).alias("utility"))
    write_rows(run, "projection", table.to_dicts())
    assert "This run was not put to the test" in write_report(run).read_text(encoding="utf-8")


def test_an_empty_folder_and_a_broken_table_are_refused(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(DataError, match="holds no table"):
        write_report(run)
    run.table("models").parent.mkdir()
    columns = list(schema_of(TABLES["models"]))
    for text, message in (
        ("model,utility\nbase,high\n", "has other columns than this version writes"),
        (f"{','.join(columns)}\nbase,high{',' * (len(columns) - 2)}\n", "is no table of results"),
    ):
        run.table("models").write_text(text)
        with pytest.raises(DataError, match=message):
            write_report(run)
    assert not run.report.exists()


def test_a_fine_tune_that_changed_nothing_has_no_energy_and_no_fact(full_run: RunFolder) -> None:
    projection = full_run.read_table("projection")
    assert halfway_facts(projection, "contaminated", "parallel")
    assert (
        halfway_facts(projection.with_columns(energy_kept=pl.lit(None, pl.Float64)), "contaminated", "parallel") == []
    )


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


def test_models_that_did_not_answer_are_named(full_run: RunFolder) -> None:
    models = full_run.read_table("models").with_columns(n_no_answer=pl.lit(0))
    assert no_answer_facts(models) == []
    silent = models.with_columns(
        n_no_answer=pl.when(model="aligned").then(7).otherwise(0), n_benign=pl.lit(None, pl.Int64)
    )
    [fact] = no_answer_facts(silent)
    assert "thinking): aligned 7 of 900. They" in fact


def test_words_say_where_classes_are_apart_and_whether_their_subspaces_overlap(full_run: RunFolder) -> None:
    separation, activations = full_run.read_table("separation"), full_run.read_table("activations")
    apart, not_apart = separation_facts(separation, activations)
    assert (
        "told apart by one direction (AUROC of at least 0.95), and their subspaces overlap little at 6 of 24 layers"
        in apart
    )
    assert "base model, layer 4, AUROC on held-out prompts 0.99 (0.89 – 1.00) by the difference of means" in apart
    assert apart.endswith("centred overlap 0.30 at energy 0.5, floor 0.23.")
    assert "(AUROC under 0.95); their subspaces overlap little at 18" in not_apart
    # The same overlap is nearly all there is to be had, once halves of one class overlap no more.
    halves = activations.with_columns(y="x", mso=pl.lit(0.31))
    apart, _ = separation_facts(separation, pl.concat([activations, halves]))
    assert "(AUROC of at least 0.95) although their subspaces overlap at 6 of 24 layers" in apart
    assert apart.endswith("floor 0.23, two halves of one class 0.31.")
    assert separation_facts(separation.clear(), activations) == separation_facts(separation, activations.clear()) == []


def test_the_section_on_activations_says_it(html: str) -> None:
    section = html[html.index('<section id="activations"') : html.index('<section id="parallel"')]
    assert "told apart by one direction (AUROC of at least 0.95), and their subspaces overlap little" in section


def test_the_ceiling_of_overlap_is_said_where_it_was_measured(full_run: RunFolder) -> None:
    overlap = full_run.read_table("overlap")
    assert "ceiling" not in overlap_facts(overlap)[0]
    again = overlap.with_columns(x=pl.lit("harmful"), y=pl.lit("harmful"), again=pl.lit(True), mso=pl.lit(0.9))
    [fact] = overlap_facts(pl.concat([overlap, again]))
    assert fact.endswith("one recipe under two seeds, the ceiling, 0.90 (harmful, again).")


def test_what_models_said_is_there_on_demand_or_not_at_all(full_run: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(full_run.root, tmp_path / "run")))
    page = Page(write_report(run).read_text(encoding="utf-8"))
    shown = json.loads(page.data["generations"])
    assert len(shown["rows"]) == 4 * 6
    first = dict(zip(shown["columns"], shown["rows"][1], strict=True))
    assert (first["model"], first["kind"], first["response"]) == ("base", "harmful", "base says no.")
    # A run has generations of models that are not in its table, and prompts as long as they like.
    write_jsonl(run.generations("base"), [{"kind": "utility", "prompt": "x" * 5000, "response": "", "score": 0}] * 2000)
    html = write_report(run).read_text(encoding="utf-8")
    rows = json.loads(Page(html).data["generations"])["rows"]
    assert len(html.encode()) < 3_000_000
    assert {row[0] for row in rows} == {"base", "aligned", "useful", "harmful", "contaminated", "safe"}
    assert "of 2020 answers, evenly" in html
    assert max(len(str(cell)) for row in rows for cell in row) < 2010
    without = write_report(run, generations=False).read_text(encoding="utf-8")
    assert "generations" not in Page(without).data
    assert "written with --no-generations" in without
    run.generations("base").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="no file of generations"):
        write_report(run)


def test_estimates_without_verdicts_still_make_a_page(full_run: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_rows(run, "estimates", full_run.read_table("estimates").to_dicts())
    html = write_report(run).read_text(encoding="utf-8")
    assert "This run was not put to the test" in html
    # Every chart has its place: without one the script would stop, and draw none of the others.
    assert all(f'id="chart-{name}"' in html for name in specs(Page(html)))


def test_the_halves_of_a_class_are_named_beside_the_largest_gap(full_run: RunFolder) -> None:
    activations = full_run.read_table("activations")
    halves = activations.with_columns(x="y", mso=pl.lit(0.31))
    [fact] = activation_facts(pl.concat([activations, halves]))
    assert "; harmful halves 0.31)" in fact
    assert "halves" not in activation_facts(activations)[0]
