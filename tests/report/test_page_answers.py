"""The answers of the first screen, against verdicts and tables whose figures are known."""

from dataclasses import replace

import polars as pl
import pytest
from run_tables import write_rows

from safespan.files.atomic import write_json
from safespan.report import write_report
from safespan.report.answers import NO, UNDECIDED, UNTESTED, YES, answer_of, answers_of, groups_of, reach, toy
from safespan.report.page import read_results
from safespan.report.verdict import reported, verdict_rows
from safespan.results import Manifest, RunFolder


@pytest.fixture(scope="module")
def results(full_run: RunFolder) -> dict[str, pl.DataFrame]:
    return read_results(full_run)


@pytest.mark.parametrize(
    ("test", "construct", "verdict", "direction", "expected"),
    [
        ("update", "harm", "selective", "harm first", YES),
        ("update", "harm", "selective", "utility first", NO),
        ("update", "refusal", "selective", "refusal lost first", YES),
        ("ablation", "harm", "selective", "capability lost first", NO),
        ("training", "harm", "selective", "protects", YES),
        ("training", "refusal", "selective", "exposes", NO),
        ("training", "harm", "not selective", "", NO),
        ("update", "harm", "inconclusive", "", UNDECIDED),
        ("update", "harm", "not measurable", "", UNTESTED),
        ("update", "harm", "too small to test", "", UNTESTED),
    ],
)
def test_yes_is_selective_in_the_direction_that_the_question_asks_for(
    results, test, construct, verdict, direction, expected
):
    row = replace(verdict_rows(results)[0], test=test, construct=construct, verdict=verdict, direction=direction)
    assert answer_of(row) == expected


def test_each_test_is_answered_for_the_alignment_subspace_and_others_are_counted(results):
    update, ablation, training = answers_of(reported(results))
    assert [(one.test, one.claim, one.word) for one in (update, ablation, training)] == [
        ("update", "alignment", NO), ("ablation", "alignment", UNDECIDED), ("training", "alignment", NO),
    ]  # fmt: skip
    assert update.others == {YES: ["lox"], UNTESTED: ["refusal-direction"]}
    assert training.others == {YES: ["refusal-direction"]}
    assert [bool(one.paper) for one in (update, ablation, training)] == [True, False, False]
    assert ablation.statistic == "A = +0.02 [-0.01, +0.05], margin 0.15"
    assert "nor rule it out" in ablation.follows


def test_the_figures_are_those_of_the_tables_beside_their_controls(results):
    update, ablation, training = answers_of(reported(results))
    # Utility is 60 % everywhere, over half of the gain: least is left at 10 % and at 60 % of the energy.
    assert update.figures == (
        "With the part at fraction 0.1 of the fine-tune’s update alone (10 % of the energy kept): attack success 40 % "
        "(controls 70 %), utility 60 % (60 %). Without the part at fraction 0.4 (60 % of the energy kept): attack "
        "success 40 % (controls 70 %), utility 60 % (60 %)"
    )
    assert ablation.figures == (
        "With it removed (fraction 0.1, 2 % of the capability lost): attack success 63 % (controls 4 %), "
        "general ability 97 % (97 %)"
    )
    assert training.figures == (
        "Attack success at the end: 93 %; with random protection 92 %, with none 100 %, without the harmful rows 2 %"
    )


def test_the_words_of_the_compared_place_are_explained(results):
    update, ablation, training = answers_of(reported(results))
    assert "keeps at least half of the fine-tune’s gain in utility" in update.reading
    assert (
        "Capability lost: by which share the probability of a token of the right answers has fallen" in ablation.reading
    )
    assert training.reading == ""


def test_an_answer_is_in_doubt_where_the_positive_control_was_not_found(results):
    renamed = results["verdicts"].filter(~((pl.col("hypothesis") == "alignment") & (pl.col("test") == "ablation")))
    _, ablation, training = answers_of(reported({**results, "verdicts": renamed}))
    lost = "the positive control of this test was not found (by harm), so do not rely on this verdict"
    assert (ablation.claim, ablation.word) == ("refusal-direction", "Yes, in doubt")
    assert ablation.sentence.endswith(f"before it loses capability, but {lost}")
    assert ablation.follows == f"Nothing yet: {lost}"
    assert (training.word, training.doubt) == (NO, "")


def test_the_oracle_is_named_with_what_it_did(results):
    def renamed(table):
        own = (pl.col("hypothesis") == "refusal-direction") & (pl.col("test") == "training")
        return table.with_columns(hypothesis=pl.when(own).then(pl.lit("harmful-update")).otherwise("hypothesis"))

    training = results["training"].with_columns(test=pl.lit("training")).pipe(renamed).drop("test")
    changed = {name: renamed(results[name]) for name in ("verdicts", "estimates")} | {"training": training}
    update, _, last = answers_of(reported({**results, **changed}))
    assert last.oracle == (
        "The leading directions of the harmful update itself, which a defender does not have. Protecting "
        "harmful-update in training keeps harm out (T = +0.02 [-0.01, +0.05]). Attack success at the end: 10 %; with "
        "random protection 72 %, with none 100 %, without the harmful rows 2 %"
    )
    assert update.oracle == ""
    assert "harmful-update" not in last.others


def test_the_control_of_the_paper_stands_apart_from_the_claims(results):
    named = pl.col("hypothesis").replace("lox", "random-k")
    reports = reported({**results, **{name: results[name].with_columns(named) for name in ("verdicts", "estimates")}})
    groups = {heading: [report.name for report in of] for heading, of in groups_of(reports).items()}
    assert groups["Hypotheses"] == ["alignment", "refusal-direction"]
    assert groups["Control of the paper: directions of the alignment update, drawn at random"] == ["random-k"]
    assert all("random-k" not in names for answer in answers_of(reports) for names in answer.others.values())
    alone = [report for report in reports if report.name == "random-k"]
    assert [answer.claim for answer in answers_of(alone)] == ["random-k"]


def test_toy_models_are_called_so():
    embedded = {"models": {"base": {"model": None, "start": "organism"}, "aligned": {"start": "base"}}}
    assert "nothing follows for a real language model" in toy(Manifest(config=embedded))
    real = {"models": {"base": {"model": "org/base", "start": None}, "aligned": {"start": "base"}}}
    assert toy(Manifest(config=real)) == toy(Manifest()) == toy(Manifest(config={"models": []})) == ""


def test_toy_models_are_called_so_near_the_top(full_run, tmp_path):
    run = RunFolder(tmp_path)
    write_rows(run, "models", full_run.read_table("models").to_dicts())
    manifest = full_run.read_manifest().model_dump(mode="json")
    for models, said in (({}, False), ({"base": {"start": "organism"}}, True)):
        write_json(run.manifest, {**manifest, "config": {"models": models}})
        html = write_report(run).read_text(encoding="utf-8")
        assert ("These are toy models" in html[: html.index("<main")]) is said


def test_without_a_judge_harm_is_the_probability_of_the_forbidden_answer(results):
    unjudged = results["training"].with_columns(pl.lit(None, pl.Float64).alias("attack_success_rate"))
    *_, training = answers_of(reported({**results, "training": unjudged}))
    assert training.figures.startswith("Probability of the forbidden answer at the end: 93 %; with random protection")


def test_constructs_that_differ_are_both_said(results):
    other = pl.when(pl.col("construct") == "refusal").then(pl.lit("inconclusive")).otherwise(pl.col("verdict"))
    *_, training = answers_of(reported({**results, "verdicts": results["verdicts"].with_columns(verdict=other)}))
    assert training.word == "No by harm, undecided by refusal"


def test_an_effect_that_is_opposite_to_the_claim_is_said(results):
    exposed = results["verdicts"].with_columns(
        verdict=pl.lit("selective"),
        direction=pl.when(pl.col("test") == "training").then(pl.lit("exposes")).otherwise(pl.col("direction")),
    )
    exposed = exposed.filter(pl.col("test") == "training", pl.col("construct") == "harm")
    clean = results["verdicts"].filter(hypothesis="clean")
    exposed = pl.concat([exposed.filter(pl.col("hypothesis") != "clean"), clean])
    [training] = answers_of(reported({**results, "verdicts": exposed}))
    assert training.word == NO
    assert training.follows.startswith("Protecting this let in more harm")


def test_the_oracle_is_nobodys_claim_and_controls_stand_apart(results):
    renamed = results["verdicts"].with_columns(
        hypothesis=pl.when((pl.col("hypothesis") == "alignment") & (pl.col("test") == "training"))
        .then(pl.lit("harmful-update"))
        .otherwise(pl.col("hypothesis"))
    )
    reports = reported({**results, "verdicts": renamed})
    assert answers_of(reports)[-1].claim == "refusal-direction"
    groups = groups_of(reports)
    assert {heading.partition(":")[0]: [row.name for row in rows] for heading, rows in groups.items()} == {
        "Hypotheses": ["alignment", "lox", "refusal-direction"],
        "Oracle": ["harmful-update"],
        "Positive controls": ["positive control"],
        "Negative controls": ["random"],
    }


def test_how_far_an_answer_holds_names_the_model_and_the_seed():
    config = {"models": {"aligned": {"model": "org/tuned"}}}
    assert "this run: org/tuned, seed 3, its data" in reach(Manifest(config=config, seed=3))
    assert "this run: one model family, its data" in reach(Manifest())
