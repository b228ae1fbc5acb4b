"""What the terminal and programs get of a run."""

import json
import random
import shutil
from pathlib import Path

import polars as pl
from rich.console import Console

from safespan.report import write_report
from safespan.report.impact import MEASURES, impact_of
from safespan.report.page import read_results
from safespan.report.summary import failed_checks, summary, summary_tables, verdict_lines
from safespan.report.verdict import asked_lines, check_lines, reported, role_lines
from safespan.results import TABLES, Manifest
from safespan.results.run_folder import RunFolder


def test_programs_get_the_rows_of_models_and_verdicts(full_run: RunFolder) -> None:
    told = summary(full_run)
    models = full_run.read_table("models").rows(named=True)
    assert [{**model, "utility_by_filter": {"none": model["utility"]}} for model in models] == told["models"]
    verdicts = {(verdict["hypothesis"], verdict["test"], verdict["construct"]): verdict for verdict in told["verdicts"]}
    assert len(verdicts) == len(told["verdicts"]) == 2 * 11
    ablated = verdicts["refusal-direction", "ablation", "harm"]
    assert list(ablated) == [
        "hypothesis", "group", "test", "construct", "verdict", "direction", "reason", "words", "outcomes",
    ]  # fmt: skip
    assert (ablated["group"], ablated["verdict"], ablated["direction"]) == ("claim", "selective", "harm first")
    assert ablated["words"] == (
        "Without refusal-direction the aligned model gives forbidden answers before it loses capability, but the "
        "positive control of this test was not found (by harm), so do not rely on this verdict"
    )
    assert ablated["outcomes"]["answer probability"] == {
        "construct": "harm", "votes": True, "statistic": "A", "estimate": 0.021, "low": -0.011, "high": 0.049,
        "confidence": 0.98, "verdict": "selective", "direction": "harm first",
        "reason": "A = +0.02 [-0.01, +0.05], margin 0.15",
    }  # fmt: skip
    assert list(ablated["outcomes"]) == ["answer probability", "answer NLL"]
    assert not ablated["outcomes"]["answer NLL"]["votes"]
    assert verdicts["refusal-direction", "ablation", "refusal"]["outcomes"]["refusal log-odds"] == {
        "construct": "refusal", "votes": True, "statistic": "A", "estimate": None, "low": None, "high": None,
        "confidence": None, "verdict": "not measurable", "direction": "", "reason": "there are no harmful outcomes",
    }  # fmt: skip
    assert verdicts["refusal-direction", "update", "harm"]["outcomes"] == {}
    assert json.loads(json.dumps(told["verdicts"])) == told["verdicts"]
    assert [check["well"] for check in told["checks"]] == [True, False, False, False, False, False]


def test_the_checks_say_whether_the_positive_control_was_found_and_the_random_subspace_cleared(full_run: RunFolder):
    lines = [text for _, text in check_lines(reported(read_results(full_run)), full_run.read_table("models"))]
    assert lines[0] == (
        "update test, harm: positive control (harmful-update) found (D +0.02 [-0.01, +0.05]), random subspace cleared "
        "(D +0.02 [-0.01, +0.05])"
    )
    assert lines[1].startswith("update test, refusal: positive control (harmful-update) NOT found: not measurable")
    assert lines[2] == (
        "ablation test, harm: positive control (base) NOT found: not selective (A +0.02 [-0.01, +0.05]), no random "
        "subspace was tested"
    )
    assert "positive control (clean) found" in lines[4]


def test_a_positive_control_in_the_wrong_direction_is_not_found(full_run: RunFolder) -> None:
    results = read_results(full_run)
    verdicts = results["verdicts"].with_columns(direction=pl.lit("utility first")).filter(test="update")
    well, text = next(check_lines(reported({**results, "verdicts": verdicts}), results["models"]))
    assert not well
    assert "positive control (harmful-update) NOT found" in text


def swapped(run: RunFolder, one: str, other: str) -> pl.DataFrame:
    """The table of models with two of them taken for one another."""
    return run.read_table("models").with_columns(model=pl.col("model").replace({one: other, other: one}))


def test_outcomes_that_speak_against_the_roles_are_failed_checks(full_run: RunFolder) -> None:
    assert role_lines(full_run.read_table("models")) == []
    assert role_lines(swapped(full_run, "useful", "harmful")) == [
        "roles: the attack success of harmful (2.0%) is below that of useful (99.0%): they may be swapped; if they "
        "are, give each its role and run the study again"
    ]
    [line] = role_lines(swapped(full_run, "base", "aligned"))
    assert line.startswith("roles: the refusal rate of aligned (0.0%) is below that of base (100.0%)")
    unasked = swapped(full_run, "base", "aligned").with_columns(refusal_rate=pl.lit(None, pl.Float64))
    assert role_lines(unasked) == []
    assert role_lines(swapped(full_run, "useful", "harmful").filter(pl.col("model") != "useful")) == []


def test_swapped_roles_are_on_the_terminal_and_once_on_the_page(full_run: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(full_run.root, tmp_path / "run"))
    swapped(run, "useful", "harmful").write_csv(run.table("models"))
    [line] = role_lines(run.read_table("models"))
    assert failed_checks(run)[0] == f"warning: check of the {line}"
    run.read_manifest().model_copy(update={"notes": [line]}).write(run.manifest)
    assert write_report(run).read_text(encoding="utf-8").count("they may be swapped") == 1
    for name in TABLES:  # a run without a verdict
        if name != "models":
            run.table(name).unlink(missing_ok=True)
    assert write_report(run).read_text(encoding="utf-8").count("they may be swapped") == 1


def test_the_terminal_has_a_row_a_hypothesis_and_a_column_a_test(full_run: RunFolder) -> None:
    _, verdicts = summary_tables(full_run)
    columns = {column.header: list(column.cells) for column in verdicts.columns}
    names = ["alignment", "lox", "refusal-direction", "positive control", "random"]
    assert columns["hypothesis"] == names

    def cell(verdict: str, statistic: str) -> str:
        return f"harm: {verdict}\n  {statistic} +0.02 [-0.01, +0.05]\nrefusal: not measurable\n  {statistic} –"

    assert columns["ablation test"] == [
        cell("inconclusive", "A"), "–", cell("selective, harm first", "A"), cell("not selective", "A"), "–",
    ]  # fmt: skip
    assert columns["update test"][2] == "harm: too small to test\nrefusal: too small to test"
    assert columns["training test"][2] == cell("selective, protects", "T")
    console = Console(width=240)
    with console.capture() as printed:
        console.print(verdicts)
    starts = [line.split("  ")[0] for line in printed.get().splitlines() if line[0] != " "]
    assert starts == ["hypothesis", *names]


def test_the_lines_say_the_words_and_figures_of_each_test(full_run: RunFolder) -> None:
    lines = verdict_lines(full_run)
    heads = [line.partition(":")[0] for line in lines if line[0] != " " and "check of the" not in line]
    assert heads == [
        f"{name}, {test} test, {construct}"
        for name, tests in (
            ("alignment", ("update", "ablation", "training")), ("lox", ("update",)),
            ("refusal-direction", ("update", "ablation", "training")),
            ("positive control", ("update", "ablation", "training")), ("random", ("update",)),
        )
        for test in tests for construct in ("harm", "refusal")
    ]  # fmt: skip
    start = lines.index(
        "refusal-direction, training test, harm: selective, protects. Protecting refusal-direction in training keeps "
        "harm out."
    )
    _, harm, refusal, beside, figures = lines[start + 1 : start + 6]
    assert harm == ("  harm, answer probability: selective, protects; T = +0.02 [-0.01, +0.05], margin 0.15")
    assert refusal == "  refusal, refusal log-odds: not measurable; there are no harmful outcomes"
    assert beside.startswith("  harm, answer NLL (does not vote): inconclusive; ")
    assert figures.startswith(
        "  step 20, the end: harmful probability 0.10 (random 0.72, unprotected 1.00, clean 0.02), useful probability "
    )
    small = [number for number, line in enumerate(lines) if "too small to test" in line]
    assert lines[small[-1] + 1] == "  its subspace holds 0.87% of the update's energy"
    assert lines[-1].startswith("warning: check of the training test, refusal: ")


def test_a_remark_is_said_once_for_each_test(full_run: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(full_run.root, tmp_path / "run"))
    remarked = pl.when(pl.col("hypothesis") == "refusal-direction").then(pl.lit("layer 2 is taken")).alias("remark")
    run.read_table("coverage").with_columns(remarked).write_csv(run.table("coverage"))
    lines = verdict_lines(run)
    assert lines.count("  remark: layer 2 is taken") == 2  # of the ablation and the training test; update was not made


def test_the_figures_of_an_ablation_are_those_of_the_least_removal_that_complies(full_run: RunFolder) -> None:
    results = read_results(full_run)
    [impact] = impact_of(results, "ablation", "refusal-direction")
    assert impact.where == "fraction 0.1, 2 % of the capability lost"
    assert impact.own["attack_success_rate"] == round(0.1**0.2, 6)
    assert impact.beside["controls"]["attack_success_rate"] == 0.04
    assert tuple(impact.own) == MEASURES
    never = results["ablation"].with_columns(compliance=results["ablation"]["fraction"] * 0.4)
    [impact] = impact_of({**results, "ablation": never}, "ablation", "refusal-direction")
    assert impact.where == "fraction 0.5, 30 % of the capability lost"  # at 1.0 it is destroyed
    destroyed = never.with_columns(capability_lost=never["capability_lost"] * 0 + 0.6)
    assert impact_of({**results, "ablation": destroyed}, "ablation", "refusal-direction") == []


def places(utility: dict[str, tuple[float | None, ...]], finetune: str = "contaminated") -> pl.DataFrame:
    """Points of an update test at 0.25, 0.5, 0.75, 1: method -> utility; harm of the claim is f, of its controls 1."""
    rows = [
        {"finetune": finetune, "hypothesis": "mine", "method": method, "fraction": fraction, "draw": draw}
        | dict.fromkeys(MEASURES, 0.0)
        | {"energy_kept": {"parallel": fraction, "orthogonal": 1 - fraction, "edit": 1 + fraction}[method]}
        | {"utility": value, "attack_success_rate": fraction if draw is None else 1.0}
        for method, values in utility.items()
        for fraction, value in zip((0.25, 0.5, 0.75, 1.0), values, strict=True)
        for draw in (None, 0, 1)
    ]
    return pl.DataFrame(rows, schema_overrides={"draw": pl.Int64, "utility": pl.Float64})


MODELS = pl.DataFrame({"model": ["aligned", "contaminated", "harmful"], "utility": [0.2, 1.0, 0.2]})


def test_an_update_is_compared_where_least_of_it_is_left_with_half_of_the_utility() -> None:
    grows, falls = (0.2, 0.6, 0.9, 0.9), (1.0, 0.7, 0.6, 0.5)
    table = places({"parallel": grows, "orthogonal": falls, "edit": falls})
    parallel, orthogonal, edit = impact_of({"update": table, "models": MODELS}, "update", "mine")
    assert [one.where for one in (parallel, orthogonal, edit)] == [
        "parallel, fraction 0.5, 50 % of the energy kept",
        "orthogonal, fraction 0.75, 25 % of the energy kept",
        "edit, fraction 0.75, 175 % of its energy",
    ]
    for one, fraction, utility in ((parallel, 0.5, 0.6), (orthogonal, 0.75, 0.6), (edit, 0.75, 0.6)):
        assert (one.own["attack_success_rate"], one.own["utility"]) == (fraction, utility)
        assert one.beside["controls"]["attack_success_rate"] == 1.0


def test_an_update_without_utility_at_any_place_says_so() -> None:
    table = places({"parallel": (0.2, 0.3, 0.59, 0.5)})
    [impact] = impact_of({"update": table, "models": MODELS}, "update", "mine")
    assert impact.where == (
        "parallel, fraction 0.75, 75 % of the energy kept, the most utility that it has, but less than 60 %, half of "
        "the gain"
    )
    assert impact.own["utility"] == 0.59


def test_an_update_whose_utility_is_not_known_is_compared_at_half_of_the_energy() -> None:
    unknown = places({"orthogonal": (None,) * 4})
    harmful = places({"orthogonal": (0.2,) * 4}, "harmful")
    unlisted = places({"orthogonal": (0.9,) * 4}, "finetuned")
    for table in (unknown, harmful, unlisted):
        [impact] = impact_of({"update": table, "models": MODELS}, "update", "mine")
        assert impact.where.startswith("orthogonal, fraction 0.5, 50 % of the energy kept, nearest to half of the")
        assert impact.own["attack_success_rate"] == 0.5


def test_two_fine_tunes_of_an_update_test_are_kept_apart() -> None:
    table = pl.concat([places({"parallel": (0.9,) * 4}), places({"parallel": (0.2,) * 4}, "harmful")])
    useful, harmful = impact_of({"update": table, "models": MODELS}, "update", "mine")
    assert useful.where == "parallel, fraction 0.25, 25 % of the energy kept, contaminated fine-tune"
    assert harmful.where.startswith(
        "parallel, fraction 0.5, 50 % of the energy kept, harmful fine-tune, nearest to half"
    )


def test_nothing_depends_on_the_order_of_rows(full_run: RunFolder) -> None:
    results = read_results(full_run)
    seeds = random.Random(0)
    names = ("verdicts", "estimates", "update", "ablation", "training", "coverage")
    shuffled = {name: results[name].sample(fraction=1, shuffle=True, seed=seeds.randrange(99)) for name in names}
    assert all(not shuffled[name].equals(results[name]) for name in names)
    expected, given = ({one.name: one.tests for one in reported({**results, **tables})} for tables in ({}, shuffled))
    assert next(iter(given)) == next(iter(expected)) == "alignment"
    assert given.keys() == expected.keys()
    for name, tests in expected.items():
        assert list(given[name]) == list(tests)
        for test, one in tests.items():
            assert repr(given[name][test]) == repr(one)


def test_what_was_asked_stands_beside_what_a_fixed_design_asks(full_run: RunFolder) -> None:
    """Of both claims 6 own points and 12 of controls: half of them were asked 40 prompts of 100, the others 10."""
    results = read_results(full_run)
    update = results["update"]
    prompts = pl.Series([40 if number % 2 else 10 for number in range(len(update))], dtype=pl.Int64)
    results = {**results, "update": update.with_columns(prompts=prompts)}
    verdict = {"until_decided": True, "controls": 8, "prompts": 100}
    there = {f"trial harmful, 0 to {rows}": {"rows": rows, "sha256": ""} for rows in (10, 40)}
    manifest = Manifest(config={"verdict": verdict}, prompts=there)
    [line] = asked_lines(results, manifest)
    own = update.filter(pl.col("draw").is_null()).height
    assert f"{len(update) // 2 * 50:,} prompts of each kind over {len(update)} sets of weights" in line
    fixed = f"A test that asks 40 prompts about every claim, with 8 draws of controls, takes {own * 9 * 40:,}: "
    assert fixed in line
    at_once = manifest.model_copy(update={"config": {"verdict": {**verdict, "until_decided": False}}})
    assert list(asked_lines(results, at_once)) == []
    assert list(asked_lines(results, Manifest())) == []
