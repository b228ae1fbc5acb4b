"""The verdicts of a run, from its tables (METHODS §7): every hypothesis in every test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from safespan.report.impact import Impact, impact_of
from safespan.report.words import verdict_text, words_of
from safespan.results.claim_tables import CoverageRow, EstimateRow, VerdictRow
from safespan.results.table_files import rows_of
from safespan.settings.names import TESTS

SCORE = "S"
"""The statistic of one method of the update test; every other one decides."""


@dataclass(frozen=True)
class InTest:
    """What the page says of a hypothesis in one test.

    Attributes:
        verdict: with its direction.
        words: the verdict as a sentence without its full stop.
        reason: why.
        outcomes: outcome -> the statistic that decides and the verdict under it; those that vote come first.
        scores: S by every method under every outcome.
        impact: what it does at one place of the test.
        coverage: how much of the model it names; None if the table lacks it.
    """

    verdict: str
    words: str
    reason: str
    outcomes: Mapping[str, EstimateRow]
    scores: list[EstimateRow]
    impact: list[Impact]
    coverage: CoverageRow | None

    @property
    def voting(self) -> list[EstimateRow]:
        """The statistics that the verdict rests on."""
        return [row for row in self.outcomes.values() if row.votes]


@dataclass(frozen=True)
class Reported:
    """A hypothesis, and what the page says of it in each test that it was put to."""

    name: str
    tests: Mapping[str, InTest]


def reported(results: Mapping[str, pl.DataFrame]) -> list[Reported]:
    """All hypotheses of a run, `alignment` first."""
    estimates = rows_of(results["estimates"], EstimateRow)
    estimates.sort(key=lambda row: (not row.votes, row.construct, row.outcome, row.method or ""))
    coverage = {(row.hypothesis, row.test): row for row in rows_of(results["coverage"], CoverageRow)}
    by_name: dict[str, dict[str, InTest]] = {}
    for row in sorted(verdict_rows(results), key=lambda row: row.hypothesis != "alignment"):
        place = (row.hypothesis, row.test)
        own = [estimate for estimate in estimates if (estimate.hypothesis, estimate.test) == place]
        by_name.setdefault(row.hypothesis, {})[row.test] = InTest(
            verdict_text(row),
            words_of(row),
            row.reason or "",
            outcomes={estimate.outcome: estimate for estimate in own if estimate.statistic != SCORE},
            scores=[estimate for estimate in own if estimate.statistic == SCORE],
            impact=impact_of(results, row.test, row.hypothesis),
            coverage=coverage.get(place),
        )
    return [Reported(name, {test: own[test] for test in TESTS if test in own}) for name, own in by_name.items()]


def verdict_rows(results: Mapping[str, pl.DataFrame]) -> list[VerdictRow]:
    """The rows of the table `verdicts`."""
    return rows_of(results["verdicts"], VerdictRow)


def tests_of(reports: Sequence[Reported]) -> list[str]:
    """The tests that any of the hypotheses was put to."""
    return [test for test in TESTS if any(test in report.tests for report in reports)]
