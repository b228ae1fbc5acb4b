import json
import subprocess
import sys

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from oracle import odd_weights, save_checkpoint
from safespan import cli
from safespan.checkpoints import reader
from safespan.files import disk
from safespan.results import TABLES, read_table, schema_of
from safespan.results.tables import EnergyRow, OverlapRow
from safespan.settings.study import bundled_study
from tiny_model import save_tiny_model

LONG = ["demo", "run", "test", "train", "evaluate", "judge", "sweep", "overlap", "activations"]
ASKED = ["activations", "--model", "o/m", "--prompts", "useful=u", "--prompts", "harmful=h", "--out", "o"]
FAMILY = ["--base", "o/b", "--aligned", "o/a"]


@pytest.fixture
def models(tmp_path):
    roles = ["base", "aligned", "useful", "harmful"]
    return {role: save_checkpoint(tmp_path / role, odd_weights(seed)) for seed, role in enumerate(roles)}


def run(monkeypatch, *words):
    """What the installed command does with these words; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["safespan", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def sweep_words(models, out, *more):
    words = ["sweep", "--base", models["base"], "--aligned", models["aligned"], "--out", out]
    return [*words, "--finetuned", f"useful={models['useful']}", "--finetuned", f"harmful={models['harmful']}", *more]


def test_sweep_takes_the_papers_grid_unless_told(models, tmp_path, monkeypatch):
    assert run(monkeypatch, *sweep_words(models, tmp_path / "a.csv")) == 0
    table = read_table(tmp_path / "a.csv", EnergyRow)
    assert len(table) == 2 * 3 * 2 * 5
    asked = ["--subspace", "random", "--method", "opposite", "--fraction", "1", "--side", "both"]
    assert run(monkeypatch, *sweep_words(models, tmp_path / "b.csv", *asked, "--seed", "3")) == 0
    table = pl.read_csv(tmp_path / "b.csv")
    assert table["finetune"].to_list() == ["useful", "harmful"]
    assert table["seed"].to_list() == [3, 3]


@pytest.mark.parametrize("command", ["schema", "sweep", "init"])
def test_missing_folders_of_a_file_to_write_are_made(command, models, tmp_path, monkeypatch):
    out, given = tmp_path / "no" / "such" / "folder" / "x.csv", sweep_words(models, tmp_path / "unused")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a b", "target": "c"}\n' * 4)
    words = {"schema": ["schema", "--out", out], "sweep": sweep_words(models, out, "--fraction", "0.5")}
    words["init"] = ["init", out, *given[1:5], "--finetuned", models["useful"], "--utility", "gsm8k"]
    words["init"] += ["--useful", tmp_path / "rows.jsonl", "--harmful", tmp_path / "rows.jsonl"]
    monkeypatch.setattr(sys, "argv", ["safespan", *map(str, words[command])])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    assert out.is_file()


def test_a_sweep_for_programs_and_quietly(models, tmp_path, monkeypatch, capsys):
    words = sweep_words(models, tmp_path / "a.csv", "--fraction", "0.5")
    assert run(monkeypatch, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    [first, *_] = rows = found.pop("findings")
    assert found == {"points": 2 * 3 * 2, "written": str(tmp_path / "a.csv"), "chart": str(tmp_path / "a.svg")}
    assert len(rows) == 2 * 3
    kept = read_table(tmp_path / "a.csv", EnergyRow)["energy_kept"]
    assert (first["subspace"], first["energy_inside"]) == ("alignment", pytest.approx(kept[0], abs=1e-6))
    assert run(monkeypatch, *words, "--quiet") == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (f"{tmp_path / 'a.csv'}\n", "")


def test_models_in_the_wrong_roles_are_warned_of_before_the_work(tmp_path, monkeypatch, capsys, caplog):
    aligned = odd_weights(1)
    family = {"base": odd_weights(0), "aligned": aligned, "useful": {name: 1.1 * w for name, w in aligned.items()}}
    base, aligned, useful = (save_checkpoint(tmp_path / role, weights) for role, weights in family.items())
    commands = {
        "sweep": ["--finetuned", f"useful={useful}", "--out", tmp_path / "s.csv"],
        "overlap": ["--update", f"useful={useful}", "--out", tmp_path / "o.csv"],
        "project": ["--finetuned", useful, "--out", tmp_path / "p"],
    }
    for command, words in commands.items():
        caplog.clear()
        assert run(monkeypatch, command, "--base", base, "--aligned", aligned, *words) == 0
        assert caplog.messages == []
        assert run(monkeypatch, command, "--base", aligned, "--aligned", base, *words) == 0
        [warning] = caplog.messages
        assert f"({useful}) is nearer to base than to aligned, ‖" in warning
        steps = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
        assert steps == 2 * ["roles", "projection" if command == "project" else command]


def test_overlap_adds_the_alignment_update_with_a_base(models, tmp_path, monkeypatch, capsys):
    words = ["overlap", "--aligned", models["aligned"], "--update", f"useful={models['useful']}"]
    words += ["--base", models["base"], "--energy", "0.5", "--granularity", "layer", "--out", tmp_path / "o.csv"]
    assert run(monkeypatch, *words) == 0
    table = read_table(tmp_path / "o.csv", OverlapRow)
    assert set(table.select("x", "y", "again").rows()) == {("alignment", "useful", False)}
    assert table["p_value"].is_between(0, 1).all()
    assert table["angle_min"].is_between(0, table["angle_median"]).all()
    said = capsys.readouterr().out
    assert f"alignment – useful  {table['mso'].mean():.2f} (floor {table['mso_random'].mean():.2f})" in said
    assert f"{len(table)} rows: {tmp_path / 'o.csv'}, chart: {tmp_path / 'o.svg'}" in said
    # Without a chart beside its table, none of an earlier table stays there.
    words[words.index("--update") + 1] = f"useful={models['aligned']}"
    assert run(monkeypatch, *words) == 0
    assert "No pair of updates can be compared" in capsys.readouterr().out
    assert not (tmp_path / "o.svg").exists()


def test_activations_of_a_real_model(tiny_model_folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "u.txt").write_text("a b\nc d e\nf\n")
    (tmp_path / "h.csv").write_text('prompt,source\n"a, b",x\nz y,x\n')
    words = ["activations", "--model", tiny_model_folder, "--out", tmp_path / "a.csv", "--energy", "0.5", "--center"]
    words += ["--prompts", f"useful={tmp_path / 'u.txt'}", "--prompts", f"harmful={tmp_path / 'h.csv'}"]
    assert run(monkeypatch, *words, "--layers", "0.9:1.0") == 0
    table = pl.read_csv(tmp_path / "a.csv")
    assert table["layer"].to_list() == [2]
    assert table.select("x", "y", "centered").rows() == [("useful", "harmful", True)]
    assert 0 < table["p_value"].item() <= 1
    separation = pl.read_csv(tmp_path / "a-separation.csv")
    assert separation.select("model", "layer", "folds").rows() == [(tiny_model_folder.name, 2, 2)]
    assert separation.columns == list(schema_of(TABLES["separation"]))
    said = capsys.readouterr().out
    assert f"model {tiny_model_folder.name}: {table['mso'].item():.2f} (layer 2); floor" in said
    assert f"by a linear probe {separation['probe_auroc'].item():.2f} (layer 2)" in said
    assert {path.name for path in tmp_path.glob("*.svg")} == {"a.svg", "a-separation.svg"}


def test_activations_on_a_file_with_other_columns(tiny_model_folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "u.txt").write_text("a b\nc d e\nf\n")
    rows = "a b c,t\nz y,t\n"
    (tmp_path / "advbench.csv").write_text(f"goal,target\n{rows}")
    (tmp_path / "usual.csv").write_text(f"prompt,target\n{rows}")
    common = [
        "activations",
        "--model",
        tiny_model_folder,
        "--energy",
        "0.5",
        "--prompts",
        f"useful={tmp_path / 'u.txt'}",
    ]
    usual = [*common, "--prompts", f"harmful={tmp_path / 'usual.csv'}"]
    other = [*common, "--prompts", f"harmful={tmp_path / 'advbench.csv'}"]
    assert run(monkeypatch, *usual, "--out", tmp_path / "a.csv") == 0
    assert run(monkeypatch, *other, "--out", tmp_path / "b.csv", "--prompt-field", "harmful=goal") == 0
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    capsys.readouterr()
    assert run(monkeypatch, *other, "--out", tmp_path / "c.csv") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "no text in the field 'prompt' (fields there: goal, target); name the right field by prompt_field or" in line
    assert not (tmp_path / "c.csv").exists()


def test_a_projected_checkpoint_loads_in_transformers(tmp_path, monkeypatch):
    folders = {role: save_tiny_model(tmp_path / role, seed) for seed, role in enumerate(["base", "aligned", "useful"])}
    words = ["project", "--base", folders["base"], "--aligned", folders["aligned"], "--out", tmp_path / "out"]
    assert run(monkeypatch, *words, "--finetuned", folders["useful"], "--method", "opposite", "--fraction", "0.5") == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    aligned = AutoModelForCausalLM.from_pretrained(folders["aligned"])
    moved = [not torch.equal(p, q) for p, q in zip(model.parameters(), aligned.parameters(), strict=True)]
    assert any(moved)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template


def bad_words(kind, models, tmp_path, monkeypatch):
    """A command with one thing wrong, where it would write, and what its one line must name."""
    out = tmp_path / "out"
    words = sweep_words(models, out)
    weights = models["harmful"] / "model.safetensors"
    if kind == "missing":
        return [*words, "--finetuned", f"x={tmp_path / 'nowhere'}"], out, "nowhere"
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:-10])
        return words, out, "harmful/model.safetensors"
    if kind == "resized":
        save_checkpoint(models["harmful"], odd_weights(5) | {"model.layers.0.mlp.up_proj.weight": torch.ones(41, 12)})
        return words, out, "model.layers.0.mlp.up_proj.weight has shape"
    if kind == "vocabulary":
        save_checkpoint(models["harmful"], odd_weights(5) | {"model.embed_tokens.weight": torch.ones(51, 12)})
        return [*words, "--vocabulary", "refuse"], out, "other numbers of tokens"
    if kind == "nan":
        save_checkpoint(models["harmful"], odd_weights(5) | {"model.norm.weight": torch.full((12,), torch.nan)})
        return words, out, "model.norm.weight holds NaN"
    if kind == "one model":
        return sweep_words(models | {"base": models["aligned"]}, out), out, "same weights, ‖aligned − base‖ = 0"
    if kind == "one model, overlap":
        words = ["overlap", "--base", models["base"], "--aligned", models["base"], "--out", out]
        return [*words, "--update", f"u={models['useful']}"], out, "same weights, ‖aligned − base‖ = 0"
    if kind == "one model, project":
        words = ["project", "--base", models["base"], "--aligned", models["base"], "--out", out]
        return [*words, "--finetuned", models["useful"]], out, "same weights, ‖aligned − base‖ = 0"
    if kind == "one model, project harmful":
        words = ["project", "--aligned", models["base"], "--harmful", models["base"], "--out", out]
        words += ["--hypothesis", "resta"]
        return [*words, "--finetuned", models["useful"]], out, "same weights, ‖harmful − aligned‖ = 0"
    if kind == "adapter alone":
        (models["harmful"] / "model.safetensors").unlink()
        (models["harmful"] / "adapter_config.json").write_text("{}")
        return words, out, f"holds an adapter and no model: give MODEL+ADAPTER, here MODEL+{models['harmful']}"
    if kind == "fraction":
        return [*words, "--fraction", "1.5"], out, "--fraction 1.5 is outside (0, 1]"
    if kind == "unwritable":
        (tmp_path / "file").write_text("")
        return sweep_words(models, tmp_path / "file" / "o.csv"), None, "o.csv cannot be written: Not a directory"
    if kind == "fraction that is no number":
        return [*words, "--fraction", "nan"], out, "--fraction nan is outside (0, 1]"
    if kind == "unreadable":
        monkeypatch.setattr(reader.os, "access", lambda path, mode: False)
        weights.write_bytes(b"")
        return words, out, "harmful/model.safetensors: the permission to read it is missing"
    if kind == "pair":
        return [*words, "--finetuned", "useful"], out, "expected NAME=PATH"
    if kind == "twice":
        return [*words, "--finetuned", f"useful={models['useful']}"], out, "'useful' is given twice"
    if kind == "side":
        return [*words, "--side", "top"], out, "unknown side 'top'"
    if kind == "engine":
        return [*words, "--engine", "slurm"], out, "unknown engine 'slurm': expected one of local, ray"
    if kind == "address":
        return [*words, "--engine", "ray", "--address", "here"], out, "'here': expected HOST:PORT"
    if kind == "study key":
        return ["run", bundled_study("organism"), "--out", out, "--set", "sede=1"], out, "sede"
    if kind == "existing":
        out = tmp_path / "base"
        words = ["project", "--base", models["base"], "--aligned", models["aligned"], "--out", out]
        return [*words, "--finetuned", models["useful"]], None, "was not written by this command"
    (tmp_path / "empty.txt").write_text("\n")
    pair = f"={tmp_path / 'empty.txt'}"
    words = ["activations", "--model", models["base"], "--prompts", "useful" + pair, "--prompts", "harmful" + pair]
    return [*words, "--out", out], out, "empty.txt"


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "truncated",
        "resized",
        "vocabulary",
        "nan",
        "one model",
        "one model, overlap",
        "one model, project",
        "one model, project harmful",
        "adapter alone",
        "fraction",
        "unwritable",
        "fraction that is no number",
        "unreadable",
        "pair",
        "twice",
        "side",
        "engine",
        "address",
        "study key",
        "existing",
        "empty",
    ],
)
def test_bad_input_gets_one_line_and_writes_nothing(kind, models, tmp_path, monkeypatch, capsys):
    words, out, named = bad_words(kind, models, tmp_path, monkeypatch)
    before = sorted(tmp_path.iterdir())
    assert run(monkeypatch, *words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert named in printed.err
    assert sorted(tmp_path.iterdir()) == before
    assert out is None or not out.exists()


def test_a_report_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch, capsys):
    (tmp_path / "report.html").write_text("")
    for name, says in {"report.html": "is a file: expected a run folder", "no": "is not there: expected"}.items():
        assert run(monkeypatch, "report", tmp_path / name) == 2
        assert says in capsys.readouterr().err

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", refused)
    assert run(monkeypatch, "report", tmp_path) == 2
    assert "Permission denied; allow writing in this folder, or give a copy of the run" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = "import sys, safespan.cli; print([m for m in ('torch', 'transformers', 'lm_eval') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sweep", *FAMILY, "--finetuned", "u=o/u", "--out", "o", "--side", "top"], "unknown side 'top'"),
        (["sweep", *FAMILY, "--finetuned", "u=o/u", "--out", "o", "--fraction", "2"], "fraction 2.0 is outside"),
        (
            ["sweep", *FAMILY, "--finetuned", "u=o/u", "--out", "o", "--fraction", "1", "--fraction", "1"],
            "--fraction: 1.0 is given twice: leave one of them out",
        ),
        (["project", *FAMILY, "--finetuned", "o/u", "--out", "o", "--method", "up"], "unknown method 'up'"),
        (
            ["sweep", *FAMILY, "--finetuned", "u=o/u", "--out", "o", "--subspace", "lox"],
            "unknown subspace 'lox': expected one of alignment, safety, random-k, random, harmful-update, planted",
        ),
        (["overlap", "--aligned", "o/a", "--update", "u", "--out", "o"], "--update 'u': expected NAME=PATH"),
        (["activations", "--model", "o/m", "--prompts", "x=y", "--out", "o"], "--prompts: expected useful=FILE"),
        ([*ASKED, "--prompt-field", "x=goal"], "--prompt-field: expected useful=FIELD or harmful=FIELD, given x"),
        (
            ["test", "--aligned", "o/a", "--hypothesis", "random", "--prompt-field", "useful=q"],
            "--prompt-field names a column of --prompts: give --prompts too",
        ),
        (
            ["test", "--aligned", "o/a", "--hypothesis", "random", "--tests", "training"],
            "the training test trains the contaminated model itself: give --training",
        ),
        (
            ["test", "--aligned", "o/a", "--hypothesis", "refusal-directon"],
            "unknown claim 'refusal-directon': did you mean 'refusal-direction'?",
        ),
        (["run", "study.yaml", "--engine", "slurm"], "unknown engine 'slurm'"),
        (["sweep", *FAMILY, "--finetuned", "u=o/u", "--out", "."], "--out . is a folder: give the name of a file"),
        (["judge", "o.jsonl", "--out", "."], "--out . is a folder: give the name of a file"),
        (["sweep", "--foo"], "No such option: --foo (Possible options: --out) (see safespan sweep --help)"),
        (["swep"], "No such command 'swep'. Did you mean 'sweep'? (see safespan --help)"),
        (["sweep"], "Missing option '--base'. (see safespan sweep --help)"),
        (["sweep", "--seed", "sk-proj-0123456789abcdefghij"], "'--seed': Input should be a valid integer"),
    ],
)
def test_wrong_arguments_are_reported_before_anything_heavy_is_imported(words, says):
    code = f"import sys; sys.argv[1:] = {words!r}; import safespan.cli\ntry: safespan.cli.main()\nfinally: "
    code += "print([m for m in ('torch', 'transformers', 'lm_eval') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


def test_decompositions_are_kept_unless_told_not_to(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("SAFESPAN_CACHE", str(cache))
    roles = ["base", "aligned", "useful"]
    folders = {
        role: save_checkpoint(
            tmp_path / role, {"w": torch.randn(200, 150, generator=torch.Generator().manual_seed(seed))}
        )
        for seed, role in enumerate(roles)
    }
    words = ["--base", folders["base"], "--aligned", folders["aligned"], "--finetuned"]
    tables = [tmp_path / f"{number}.csv" for number in range(3)]
    assert run(monkeypatch, "sweep", *words, f"u={folders['useful']}", "--out", tables[0], "--no-cache") == 0
    assert not cache.exists()
    for table in tables[1:]:
        assert run(monkeypatch, "sweep", *words, f"u={folders['useful']}", "--out", table) == 0
        assert len(list(cache.iterdir())) == 1
    assert run(monkeypatch, "project", *words, folders["useful"], "--out", tmp_path / "out") == 0
    assert len(list(cache.iterdir())) == 1
    assert len({table.read_bytes() for table in tables}) == 1


@pytest.mark.parametrize("command", [*LONG, "project", "report"])
def test_every_command_explains_itself(command, monkeypatch, capsys):
    assert run(monkeypatch, command, "--help") == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) > 8
    assert ("--quiet" in text and "--json" in text) == (command != "report")


def test_the_list_has_the_needs_of_each_test_and_whose_claim_it_is(monkeypatch, capsys):
    assert run(monkeypatch, "hypotheses", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["hypotheses"]
    assert listed["random"]["needs_by_test"] == {"update": ["base"], "ablation": ["base"], "training": []}
    assert listed["lox"]["needs_by_test"] == {"update": ["base"]}
    assert listed["safety"]["needs_by_test"]["ablation"] == ["base", "safe"]
    followers = {name for name, one in listed.items() if one["after"]}
    ours = {"harmful-update", "planted", "refusal-directions", "lssf-update", "activation-null"}
    assert followers == {*ours, "lox", "harmfulness-direction"}
    assert all(
        "2406.11717" not in one["paper"] for name, one in listed.items() if name.startswith("refusal-direction-")
    )
    assert run(monkeypatch, "hypotheses", "resta", "asft", "resta", "--json") == 0
    assert list(json.loads(capsys.readouterr().out)["hypotheses"]) == ["resta", "asft"]
    assert run(monkeypatch, "hypotheses", "rsta") == 2
    assert "did you mean 'resta'" in capsys.readouterr().err
    assert run(monkeypatch, "hypotheses") == 0
    listed_claims, _, legend = capsys.readouterr().out.partition("\n\n")
    assert all(word in legend for word in ("Δ_A:", "Δ_T:", "after:", "needs:", "planted:"))
    lines = listed_claims.splitlines()
    below = {name.partition(":")[0]: line for name, line in zip(lines[::2], lines[1::2], strict=True)}
    assert below["random"].endswith("needs: base (update, ablation), the aligned model alone (training)")
    assert below["safety"].endswith("needs: safe (update, training), base and safe (ablation)")
    assert below["safemerge"].endswith("needs: base and safe")
    assert below["activation-null"].startswith(
        "    after https://arxiv.org/abs/2410.02355; authors' test: none of the three;"
    )
    assert below["alignment"].startswith("    https://arxiv.org/abs/2505.14185; authors' test: update;")
    assert "2501.01765" in next(line for line in lines if line.startswith("actsvd:"))
