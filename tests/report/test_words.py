"""Verdicts as sentences, and numbers as text."""

from dataclasses import replace
from math import nan

import polars as pl
import pytest

from safespan.errors import DataError
from safespan.report.page import read_results
from safespan.report.verdict import reported, verdict_rows
from safespan.report.words import headline, number, percent, share, signed, words_of
from safespan.results.claim_tables import VerdictRow
from safespan.results.run_folder import RunFolder
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


def test_the_headline_names_what_is_selective_in_which_test(full_run: RunFolder) -> None:
    rows = verdict_rows(read_results(full_run))
    expected = (
        "Selective in the update test lox (harm first); in the ablation test refusal-direction (harm first); in the "
        "training test refusal-direction (protects)."
    )
    assert headline(rows) == headline(rows[::-1]) == expected
    others = [row for row in rows if row.verdict != "selective"]
    assert headline(others) == "None of 3 hypotheses is selective in any test."
    assert headline([row for row in others if row.hypothesis == "alignment"]) == "alignment is selective in no test."


def test_numbers_as_text() -> None:
    assert [signed(value) for value in (-0.001, 0.155, -1.0, nan)] == ["+0.00", "+0.15", "-1.00", "–"]
    assert [number(value) for value in (0.5, None, nan)] == ["0.50", "–", "–"]
    assert [percent(value) for value in (0.0087, 1.0, nan)] == ["0.9%", "100.0%", "–"]
    assert [share(value) for value in (0.0087, 1.0, nan, None)] == ["1 %", "100 %", "–", "–"]
