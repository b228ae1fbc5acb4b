"""A run for a paper, a model card and the hub."""

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml
from markdown_it import MarkdownIt
from run_tables import make_seeds, write_rows

from safespan import load_run
from safespan.errors import ConfigError
from safespan.files.atomic import write_json
from safespan.report import write_comparison
from safespan.report.export import write_export
from safespan.report.export.card import markdown, plain
from safespan.report.export.figures import PAGE, WIDTH, paper_figures, size_of
from safespan.report.export.grids import Grid, model_grid, training_grid, verdict_grid
from safespan.report.export.latex import escaped, table
from safespan.results import RunFolder

TRAINING = {
    "config": {
        "learning_rate": 3e-4, "batch_size": 8, "accumulation_steps": 4, "lora": {"rank": 16}, "protect": None,
        "contaminate_with": {"file": "x"}, "contamination_percent": 20.0,
    },
    "examples": 960, "steps": 30, "final_loss": 0.1234, "processes": 2,
}  # fmt: skip
SECRET = "hf_" + "a" * 24


@pytest.fixture(scope="module")
def source(full_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of models that were given and trained, with what must not be shown beside its tables."""
    run = RunFolder(Path(shutil.copytree(full_run.root, tmp_path_factory.mktemp("source") / "run")))
    manifest = run.read_manifest().model_dump(mode="json")
    manifest["config"]["models"] = {
        "aligned": {"model": "org/a_model"},
        "contaminated": {"model": None, "start": "aligned", "train": {}},
    }
    manifest["training"] = {"contaminated": TRAINING}
    manifest["command"] = f"safespan run /home/someone/study.yaml --out {run.root.resolve()} --set x={SECRET}"
    manifest["prompts"] = {"harmful": {"rows": 300, "sha256": "0" * 64}}
    write_json(run.manifest, manifest)
    return run


@pytest.fixture(scope="module")
def out(source: RunFolder) -> Path:
    return write_export(load_run(source.root), source.root / "export")


def cells_of(tex: str) -> list[list[str]]:
    """The cells of a tabular, read with an eye to what LaTeX takes for markup."""
    bare = re.sub(r"\\[&%$#_{}]", "·", tex)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"(?<!\\)[#^~]", re.sub(r"^%.*$", "", bare, flags=re.MULTILINE))
    [spec, body] = re.search(r"\\begin\{tabular\}\{@\{\}(l+)@\{\}\}(.*)\\end\{tabular\}", bare, re.DOTALL).groups()
    for rule in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert body.count(rule) == 1
        body = body.replace(rule, "")
    rows = [line.strip() for line in body.splitlines() if line.strip()]
    assert all(row.endswith("\\\\") for row in rows)
    cells = [[cell.strip() for cell in row.removesuffix("\\\\").split("&")] for row in rows]
    assert {len(row) for row in cells} == {len(spec)}
    return cells


def test_the_tables_are_latex_with_as_many_cells_in_each_row(out: Path) -> None:
    assert {path.name for path in (out / "tables").iterdir()} == {"verdicts.tex", "models.tex", "finetunes.tex"}
    verdicts = cells_of((out / "tables" / "verdicts.tex").read_text())
    assert verdicts[0] == ["claim", "construct", "update test", "ablation test", "training test"]
    place = next(number for number, row in enumerate(verdicts) if row[0] == "alignment")
    assert verdicts[place][1:] == ["harm", "not selective", "inconclusive", "not selective"]
    # "[" at a row's start is an argument of the line break above it, and "-" before a number no minus
    assert verdicts[place + 1][2] == "D +0.02 {[}$-$0.01, +0.05]"
    models = cells_of((out / "tables" / "models.tex").read_text())
    assert models[0][:3] == ["model", "utility, ·", "attack success, ·"]
    assert next(row for row in models if row[0] == "contaminated")[1:3] == ["97.0", "95.0"]
    made = cells_of((out / "tables" / "finetunes.tex").read_text())
    assert made[1][:3] == ["aligned", "org/a·model", "--"]
    assert made[2] == [
        "contaminated", "aligned", "960, 20.0 · contaminating", "30", "0.0003", "64", "LoRA, rank 16", "0.12",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("50% & $5 #1 a_b {x}", r"50\% \& \$5 \#1 a\_b \{x\}"),
        (r"a\b~c^d", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"),
        ("[a] *b*", "{[}a] {*}b{*}"),
        ("-0.5 to −1, safe-1", "$-$0.5 to $-$1, safe-1"),
        ("one\ntwo", "one two"),
        ("±0.15 ≥ Δ", r"$\pm$0.15 $\geq$ $\Delta$"),
    ],
)
def test_what_latex_would_take_for_markup_is_escaped(text: str, tex: str) -> None:
    assert escaped(text) == tex


HOSTILE = r"\input{/etc/passwd} & _x_ $y$ % | <b> `z` \\ [4] * ~ ^ {"


def test_a_hostile_name_is_one_cell_everywhere() -> None:
    grid = Grid("x", HOSTILE, ("claim", HOSTILE), [[(HOSTILE,), ("a", HOSTILE)]])
    assert [len(row) for row in cells_of(table(grid))] == [2, 2, 2]
    assert r"\input" not in table(grid)
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown(grid))
    inline = [token for token in tokens if token.type == "inline"]
    assert [token.type for token in tokens].count("td_open") == 2
    assert {child.type for token in inline for child in token.children} <= {"text", "html_inline", "text_special"}
    assert {c.content for token in inline for c in token.children if c.type == "html_inline"} <= {"<br>"}


def test_figures_fit_a_column_in_letters_that_can_be_read(full_run: RunFolder, out: Path) -> None:
    run = load_run(full_run.root)
    names = set()
    for figure in run.drawn.values():
        for drawn in paper_figures(figure):
            names.add(drawn.name)
            across, down = size_of(drawn.svg)
            # Ten heat maps do not fit a column.
            assert drawn.wide is (drawn.name == "overlap_heatmap"), drawn.name
            assert across <= (PAGE if drawn.wide else WIDTH) <= (7 if drawn.wide else 3.3) * 72, drawn.name
            assert down <= 9 * 72, drawn.name
            sizes = {float(size) for size in re.findall(r'font-size="([\d.]+)px"', drawn.svg)}
            assert sizes, drawn.name
            assert min(sizes) >= 7, drawn.name
    assert {path.stem for path in (out / "figures").glob("*.pdf")} == names
    claims = {"against_controls-lox", "against_controls-alignment", "harm_along_training-refusal-direction"}
    assert claims | {"verdicts", "spectra"} <= names
    assert not names & {"against_controls", "harm_against_capability", "harm_along_training"}
    for path in (out / "figures").iterdir():
        pdf = path.read_bytes()
        assert pdf.startswith(b"%PDF-")
        assert b"/Subtype /Image" not in pdf  # nothing is a picture of pixels
        [width] = re.findall(rb"/MediaBox \[0 0 ([\d.]+) [\d.]+\]", pdf)
        assert float(width) <= (PAGE if path.stem == "overlap_heatmap" else WIDTH)
    tex = (out / "figures.tex").read_text()
    assert set(re.findall(r"\\includegraphics\{figures/(.+)\.pdf\}", tex)) == names


def test_a_claims_figure_holds_that_claim_alone(full_run: RunFolder) -> None:
    figure = load_run(full_run.root).drawn["against_controls"]
    drawn = {one.name: one for one in paper_figures(figure)}
    assert drawn["against_controls-lox"].caption.startswith("Claim lox. Each hypothesis beside")
    assert "hypothesis: alignment" in drawn["against_controls-alignment"].svg
    assert "hypothesis: alignment" not in drawn["against_controls-lox"].svg


def test_the_card_says_what_was_found_how_far_and_how_to_repeat_it(out: Path) -> None:
    card = (out / "MODEL_CARD.md").read_text()
    parts = [line for line in card.splitlines() if line.startswith("#")]
    assert parts == [
        "## Tests of claimed safety subspaces", "### What was tested", "### What was found", "### How far it holds",
        "### How to repeat it",
    ]  # fmt: skip
    assert "update test: alignment, lox, refusal-direction" in card
    assert "asked: 300 harmful prompts" in card
    assert "Selective in the update test lox (harm first);" in card
    doubt = "but the positive control of this test was not found (by harm), so do not rely on this verdict"
    assert f"in the ablation test refusal-direction (harm first), {doubt}" in card
    assert f"before it loses capability, {doubt} (ablation test, harm)." in card
    assert "- Lox takes harm away before utility (update test, harm)." in card
    assert "Margin 0.15" in card
    assert "One seed" in card
    assert "NOT passed: check of the ablation test, harm: positive control (base) NOT found" in card
    assert "safespan rerun manifest.json" in card
    assert "torch 2.13.0" in card


def test_the_hub_reads_it_as_a_data_set_of_the_tables(source: RunFolder, out: Path, tmp_path: Path) -> None:
    from datasets import load_dataset
    from huggingface_hub import DatasetCard

    hub = out / "hub"
    text = (hub / "README.md").read_text()
    data = DatasetCard(text).data.to_dict()
    names = [config["config_name"] for config in data["configs"]]
    assert names[0] == "verdicts"
    assert data["configs"][0]["default"] is True
    for name in ("verdicts", "update"):
        loaded = load_dataset(str(hub), name, split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded.num_rows == pl.read_csv(source.table(name)).height
    for name in names:
        table_of = pl.read_parquet(hub / "data" / f"{name}.parquet")
        assert table_of.equals(source.read_table(name))
        assert (hub / "results" / f"{name}.csv").read_bytes() == source.table(name).read_bytes()
    assert repr(load_run(hub).verdicts) == repr(load_run(source.root).verdicts)


def test_no_prompt_response_or_secret_is_exported(source: RunFolder, out: Path) -> None:
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".tex", ".pdf", ".md", ".parquet", ".csv", ".json"}
    bytes_of = b"".join(path.read_bytes() for path in files)
    rows = [json.loads(line) for path in (source.root / "generations").iterdir() for line in path.open()]
    assert rows
    for row in rows:
        assert row["prompt"].encode() not in bytes_of
        assert len(row["response"]) < 5 or row["response"].encode() not in bytes_of
    assert SECRET.encode() not in bytes_of
    manifest = json.loads((out / "hub" / "manifest.json").read_text())
    assert manifest["command"] == "safespan run study.yaml --out {run} --set x=***"
    assert "Left out on purpose" in (out / "hub" / "README.md").read_text()


def test_an_export_is_replaced_and_nothing_else_is(source: RunFolder, out: Path, tmp_path: Path) -> None:
    mine = tmp_path / "paper"
    mine.mkdir()
    (mine / "main.tex").write_text("mine")
    with pytest.raises(ConfigError, match="exists and is no earlier export"):
        write_export(load_run(source.root), mine)
    with pytest.raises(ConfigError, match="is a file: a folder is expected"):
        write_export(load_run(source.root), mine / "main.tex")
    assert (mine / "main.tex").read_text() == "mine"
    assert not [path for path in source.root.iterdir() if ".safespan" in path.name]


def test_an_export_that_fails_leaves_the_earlier_one(full_run: RunFolder, tmp_path: Path, monkeypatch) -> None:
    run = RunFolder(tmp_path / "run")
    write_rows(run, "models", full_run.read_table("models").to_dicts())
    folder = write_export(load_run(run.root), tmp_path / "out")
    before = (folder / "MODEL_CARD.md").read_text()
    assert {path.name for path in (folder / "tables").iterdir()} == {"models.tex"}
    monkeypatch.setattr("safespan.report.export.folder.hub_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_export(load_run(run.root), tmp_path / "out")
    assert (folder / "MODEL_CARD.md").read_text() == before
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out"}


def test_several_seeds_are_exported_together(full_run: RunFolder, tmp_path: Path) -> None:
    small = RunFolder(tmp_path / "small")
    for name in ("models", "verdicts", "estimates", "coverage"):
        write_rows(small, name, full_run.read_table(name).to_dicts())
    write_json(small.manifest, full_run.read_manifest().model_dump(mode="json"))
    root = tmp_path / "run"
    write_comparison(make_seeds(small, root / "seeds", (0.5, 0.42, 0.55, 0.48, 0.52)), root)
    out = write_export(load_run(root), tmp_path / "out")
    assert {path.name for path in (out / "hub" / "seeds").iterdir()} == {"0", "1", "2", "3", "4"}
    models = pl.read_parquet(out / "hub" / "data" / "models.parquet")
    assert models["study_seed"].unique().sort().to_list() == [0, 1, 2, 3, 4]
    assert models.height == 5 * small.read_table("models").height
    assert yaml.safe_load((out / "hub" / "README.md").read_text().split("---")[1])["configs"][0] == {
        "config_name": "pooled", "data_files": "data/pooled.parquet", "default": True,
    }  # fmt: skip
    rows = cells_of((out / "tables" / "verdicts.tex").read_text())
    assert next(row for row in rows if row[0] == "alignment")[2] == "selective, harm first"
    assert "over 5 seeds" in (out / "MODEL_CARD.md").read_text()
    assert repr(load_run(out / "hub").verdicts) == repr(load_run(root).verdicts)


def test_a_record_of_another_form_is_no_fault(full_run: RunFolder, tmp_path: Path) -> None:
    """A manifest written by hand, or none."""
    run = RunFolder(tmp_path / "run")
    write_rows(run, "models", full_run.read_table("models").to_dicts())
    for models in ([], {"aligned": "org/model"}, None):
        write_json(run.manifest, {"config": {"models": models, "verdict": 3}})
        assert verdict_grid(load_run(run.root)).rows == []
        assert all(len(row) == 8 for row in training_grid(load_run(run.root)).rows)
        assert len(model_grid(load_run(run.root)).rows) == 6


def test_markdown_shows_the_text_as_it_is() -> None:
    text = "a_b *c* [d](e) `f` <g> | h & i"
    [paragraph] = [token for token in MarkdownIt("commonmark").parse(plain(text)) if token.type == "inline"]
    assert "".join(child.content for child in paragraph.children) == text
