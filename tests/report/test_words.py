"""Verdicts as sentences, and numbers as text."""

from dataclasses import replace
from math import nan

import polars as pl
import pytest

from safespan.errors import DataError
from safespan.report.page import read_results
from safespan.report.verdict import reported, verdict_rows
from safespan.report.words import estimate_text, headline, number, percent, sentence, share, signed, typeset, words_of
from safespan.results.claim_tables import EstimateRow, VerdictRow
from safespan.results.run_folder import RunFolder
from safespan.results.table_files import rows_of
from safespan.settings.names import TESTS
from safespan.statistics.effects import DECIDING
from safespan.statistics.verdicts import CONSTRUCTS, DIRECTIONS

ROW = VerdictRow("alignment", "subspace", "claim", "update", "harm", "selective", "harm first")
KINDS = {
    "update": ("subspace", "layers", "addition"),
    "ablation": ("subspace", "model"),
    "training": ("subspace", "training"),
}


def test_every_verdict_in_every_test_has_words_of_its_own() -> None:
    said = []
    for test, kinds in KINDS.items():
        for construct in CONSTRUCTS:
            place = replace(ROW, test=test, construct=construct)
            rows = [replace(place, direction=direction) for direction in DIRECTIONS[DECIDING[test], construct]]
            rows += [replace(place, verdict=verdict, direction="") for verdict in ("not selective", "inconclusive")]
            own = {kind: [words_of(replace(row, kind=kind)) for row in rows] for kind in kinds}
            assert all(len(set(words)) == 4 for words in own.values())
            said += own["subspace"]
    # Of an ablation that is not selective both constructs say the same.
    assert len(set(said)) == 4 * len(TESTS) * len(CONSTRUCTS) - 1
    assert all("alignment" in words and "{" not in words and words[0].isupper() for words in said)
    for verdict in ("not measurable", "too small to test"):
        assert "alignment" in words_of(replace(ROW, verdict=verdict, direction=""))


@pytest.mark.parametrize(
    "changed",
    [
        {"verdict": "perhaps"},
        {"verdict": None},
        {"direction": "protects"},
        {"test": "ablation", "direction": "exposes"},
        {"construct": "refusal"},
        {"test": "taste", "verdict": "inconclusive"},
        {"construct": "taste", "verdict": "inconclusive"},
    ],
)
def test_a_verdict_that_no_run_gives_is_one_error(changed: dict) -> None:
    with pytest.raises(DataError, match="which no run gives: run it again"):
        words_of(replace(ROW, **changed))


def test_such_a_verdict_in_a_table_is_one_error_too(full_run: RunFolder) -> None:
    results = read_results(full_run)
    for column, value in (("verdict", "perhaps"), ("test", "taste")):
        unknown = {**results, "verdicts": results["verdicts"].with_columns(pl.lit(value).alias(column))}
        with pytest.raises(DataError, match="which no run gives"):
            reported(unknown)


LOST = "the positive control of this test was not found (by harm), so do not rely on this verdict"


def test_the_headline_names_what_is_selective_in_which_test_and_what_is_in_doubt(full_run: RunFolder) -> None:
    rows = verdict_rows(read_results(full_run))
    expected = (
        "Selective in the update test lox (harm first); in the ablation test refusal-direction (harm first), but "
        f"{LOST}; in the training test refusal-direction (protects)."
    )
    assert headline(rows) == headline(rows[::-1]) == expected
    others = [row for row in rows if row.group != "claim" or row.verdict != "selective"]
    assert headline(others) == "None of 3 hypotheses is selective in any test."
    own = [row for row in others if row.hypothesis not in ("lox", "refusal-direction")]
    assert headline(own) == "alignment is selective in no test."
    wrong = [replace(row, direction="utility first") if row.hypothesis == "harmful-update" else row for row in own]
    assert headline(wrong) == f"alignment is selective in no test. In the update test: {LOST}."
    alone = [row for row in own if row.group == "claim"]
    assert "In the training test: this test had no positive control (by harm), so do not" in headline(alone)


@pytest.mark.parametrize(
    ("verdict", "doubted"), [("selective", True), ("not selective", True), ("inconclusive", False)]
)
def test_a_verdict_of_a_test_that_did_not_find_its_control_says_so(verdict: str, doubted: bool) -> None:
    direction = "harm first" if verdict == "selective" else ""
    row = replace(ROW, verdict=verdict, direction=direction)
    control = replace(row, hypothesis="harmful-update", group="positive control", verdict="inconclusive", direction="")
    found = replace(control, verdict="selective", direction="harm first")
    other = replace(found, construct="refusal", direction="refusal lost first")
    assert sentence(row, [row, found]) == words_of(row)
    for controls in ([control], [control, other]):
        assert sentence(row, [row, *controls]) == f"{words_of(row)}{f', but {LOST}' if doubted else ''}"
    assert sentence(control, [row, control]) == words_of(control)


def test_an_end_that_would_round_to_the_margin_has_more_digits(full_run: RunFolder) -> None:
    ends = (0.1491, 0.1512, -0.1496, 0.15, 0.144)
    assert [signed(end, 0.15) for end in ends] == ["+0.149", "+0.151", "-0.1496", "+0.15", "+0.14"]
    rows = rows_of(read_results(full_run)["estimates"], EstimateRow)
    row = replace(rows[0], estimate=0.12, low=0.0951, high=0.1491)
    assert (estimate_text(row, 0.15), estimate_text(row)) == ("+0.12 [+0.10, +0.149]", "+0.12 [+0.10, +0.15]")


def test_a_text_is_set_for_the_page() -> None:
    assert typeset("D = -0.02 [-0.1, +0.1], 95 % of safelora-2, 1-5") == (
        "D = −0.02 [−0.1, +0.1], 95\u00a0% of safelora-2, 1-5"
    )


def test_numbers_as_text() -> None:
    assert [signed(value) for value in (-0.001, 0.155, -1.0, nan)] == ["+0.00", "+0.15", "-1.00", "–"]
    assert [number(value) for value in (0.5, None, nan)] == ["0.50", "–", "–"]
    assert [percent(value) for value in (0.0087, 1.0, nan)] == ["0.9%", "100.0%", "–"]
    assert [share(value) for value in (0.0087, 1.0, nan, None)] == ["1 %", "100 %", "–", "–"]
