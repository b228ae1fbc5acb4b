"""Claims that are tested only where a study names them, put to the update test of a tiny family."""

import polars as pl
import pytest

from safespan.results import RunFolder
from safespan.settings.study import StudyConfig, bundled_study, load_study
from safespan.study.run import run_study
from safespan.subspaces import find_hypothesis

pytestmark = pytest.mark.long

CLAIMS = ["resta", "lssf", "lssf-update", "csulora", "task-update"]


def tiny_study(finetunes: set[str]) -> StudyConfig:
    """The organism's study of a few steps, with the update test alone."""
    fields = load_study(bundled_study("organism")).model_dump(mode="json", exclude_unset=True)
    models = {role: source for role, source in fields["models"].items() if role in {"base", "aligned"} | finetunes}
    for source in models.values():
        source["train"] |= {"max_steps": 2, "batch_size": 4}
    for kind in ("utility", "general", "harmfulness", "over_refusal"):
        fields["evaluation"][kind]["limit"] = 4
    fields["activations"] |= {"models": ["aligned"], "permutations": 0, "bootstraps": 0}
    verdict = {"tests": ["update"], "hypotheses": CLAIMS, "fractions": [0.3, 1.0], "prompts": 4, "resamples": 100}
    verdict |= {"controls": 2, "until_decided": False, "generate": False}
    kept = {name: value for name, value in fields.items() if name not in ("overlap", "projection", "verdict")}
    refusals = {"refusals": fields["verdict"]["refusals"], "useful": fields["verdict"].get("useful")}
    return StudyConfig.model_validate(kept | {"models": models, "verdict": refusals | verdict})


@pytest.mark.parametrize("finetunes", [{"harmful", "contaminated"}, {"useful", "harmful"}], ids=["one", "two"])
def test_every_claim_is_asked_beside_its_controls(finetunes, tmp_path, caplog):
    run_study(tiny_study(finetunes), tmp_path)
    undoes = "is made of the harmful fine-tune that it is tested on"
    told = [one.getMessage().partition(" ")[0] for one in caplog.records if undoes in one.getMessage()]
    assert told == ([] if "contaminated" in finetunes else ["resta", "lssf", "lssf-update"])
    run = RunFolder(tmp_path)
    update, coverage = run.read_table("update"), run.read_table("coverage")
    tested = ["contaminated"] if "contaminated" in finetunes else ["useful", "harmful"]
    assert coverage["hypothesis"].to_list() == CLAIMS
    assert (coverage["matrices_named"] > 0).all()
    assert set(run.read_table("verdicts")["hypothesis"]) == set(CLAIMS)
    for claim in CLAIMS:
        rows, kind = update.filter(hypothesis=claim), find_hypothesis(claim).kind
        methods = 2 if kind == "subspace" else 1
        assert len(rows) == methods * len(tested) * 2 * 3, claim  # each of two fractions, its own and two draws
        assert set(rows["finetune"]) == set(tested)
        if kind != "addition" and len(tested) == 1:
            pairs = rows.join(rows.filter(pl.col("draw").is_null()), on=["method", "fraction"])
            assert pairs["energy_kept"].to_list() == pytest.approx(pairs["energy_kept_right"].to_list(), abs=1e-4)
    if len(tested) == 2:  # the harmful update less itself; 1-D tensors stay
        undone = update.filter(hypothesis="resta", finetune="harmful", fraction=1.0).filter(pl.col("draw").is_null())
        assert undone["energy_kept"].item() < 0.01
