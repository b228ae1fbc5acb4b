"""Claims of each kind in the training test of a study, from the models to the words of the verdict."""

import polars as pl
import pytest

from faults.study import write_study
from safespan.report.words import words_of
from safespan.results import RunFolder
from safespan.results.claim_tables import VerdictRow
from safespan.results.table_files import rows_of
from safespan.settings.study import StudyConfig, load_study
from safespan.study.run import run_study
from tiny_model import save_tiny_model

CLAIMS = ["guardspace", "safety-layers", "asft"]
SAYS = {
    "guardspace": "protecting guardspace in training",
    "safety-layers": "freezing safety-layers in training",
    "asft": "the penalty asft in training",
}


def study(file, **verdict) -> StudyConfig:
    settings = ["projection=null", "overlap=null", "evaluation.harmfulness.judge={kind: rules}"]
    alone = ["activations.permutations=0", "activations.bootstraps=0"]
    fields = load_study(file, [*settings, *alone]).model_dump(mode="json", exclude_unset=True)
    fields["models"] = {role: fields["models"][role] for role in ("base", "aligned", "contaminated")}
    fields["verdict"] |= {"tests": ["training"], "hypotheses": CLAIMS, **verdict}
    return StudyConfig.model_validate(fields)


@pytest.mark.long
def test_every_kind_of_claim_has_its_training_test(tmp_path):
    file, run = write_study(tmp_path, save_tiny_model, "http://127.0.0.1:9/v1"), RunFolder(tmp_path / "run")
    run_study(study(file), run.root)
    table = pl.read_csv(run.table("training")).filter(pl.col("step") > 0)
    runs = table.group_by("run", "hypothesis", "group", maintain_order=True).agg(pl.col("draw").unique())
    of_claims = {row["hypothesis"]: row["group"] for row in runs.iter_rows(named=True) if row["run"] == "claim"}
    assert list(of_claims) == CLAIMS
    assert len(set(of_claims.values())) == len(CLAIMS)
    random = {row["group"]: sorted(row["draw"]) for row in runs.iter_rows(named=True) if row["run"] == "random"}
    assert random == {group: [0, 1] for group in of_claims.values()}
    ends = table.filter(step=4).select("useful_nll", "harmful_nll").rows()
    assert len(set(ends)) == len(ends) == 2 + 3 + 6  # no training is another's
    covered = {row["hypothesis"]: row for row in pl.read_csv(run.table("coverage")).iter_rows(named=True)}
    named = {name: covered[name]["matrices_named"] for name in CLAIMS}
    assert named == {"guardspace": 14, "safety-layers": 7, "asft": 15}
    verdicts = rows_of(run.read_table("verdicts"), VerdictRow)
    for name, says in SAYS.items():
        said = [words_of(row).lower() for row in verdicts if row.hypothesis == name and row.verdict != "not measurable"]
        assert [says in words for words in said] == [True, True]  # harm and refusal
    run_study(study(file), run.root)
    assert all(stage.reused for stage in run.read_manifest().stages)
    before = table.filter(hypothesis="asft", step=4).row(0)
    run_study(study(file, training={"controls": 2, "points": 1, "penalty": 40.0}), run.root)
    assert {stage.name: stage.reused for stage in run.read_manifest().stages}["training test"] is False
    assert pl.read_csv(run.table("training")).filter(hypothesis="asft", step=4).row(0) != before
