"""The verdicts of a run, from its tables (METHODS §7): every hypothesis in every test."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from safespan.report.impact import Impact, impact_of
from safespan.report.words import estimate_text, is_found, percent, sentence, verdict_text
from safespan.results import Manifest
from safespan.results.claim_tables import ClaimVerdict, CoverageRow, EstimateRow, VerdictRow
from safespan.results.table_files import rows_of
from safespan.settings.names import TESTS
from safespan.statistics.verdicts import CLAIM, CONSTRUCTS, NOT_SELECTIVE, POSITIVE, RANDOM


@dataclass(frozen=True)
class InTest:
    """What the page says of a hypothesis, or of a control of the test, in one test.

    Attributes:
        name: the hypothesis or control.
        verdicts: construct -> the verdict.
        words: construct -> the verdict as a sentence without its full stop, and why it is not to be relied on, if so.
        outcomes: outcome -> the statistic that decides and the verdict under it; those that vote come first.
        others: what stands beside it: S by every method, T over all steps.
        impact: what it does at one place of the test.
        coverage: how much of the model it names; None if the table lacks it.
    """

    name: str
    verdicts: Mapping[str, VerdictRow]
    words: Mapping[str, str]
    outcomes: Mapping[str, EstimateRow]
    others: list[EstimateRow]
    impact: list[Impact]
    coverage: CoverageRow | None

    def voting(self, construct: str) -> EstimateRow | None:
        """The statistic that the verdict of one construct rests on; None where it was not put to the test."""
        rows = (row for row in self.outcomes.values() if row.votes and row.construct == construct)
        return next(rows, None)


@dataclass(frozen=True)
class Reported:
    """A hypothesis, or a kind of control, and what the page says of it in each test that it was put to.

    Attributes:
        name: of the hypothesis; of controls their group.
        group: claim, positive control or random.
        tests: test -> what is said.
    """

    name: str
    group: str
    tests: Mapping[str, InTest]


def reported(results: Mapping[str, pl.DataFrame]) -> list[Reported]:
    """All hypotheses of a run, `alignment` first, the controls of the tests last."""
    estimates = rows_of(results["estimates"], EstimateRow)
    estimates.sort(key=lambda row: (not row.votes, row.construct, row.outcome, row.method or ""))
    coverage = {(row.hypothesis, row.test): row for row in rows_of(results["coverage"], CoverageRow)}
    rows: dict[tuple[str, str], dict[str, dict[str, VerdictRow]]] = {}
    verdicts = verdict_rows(results)
    words: dict[VerdictRow, str] = {row: sentence(row, verdicts) for row in verdicts}
    for row in words:
        item = (row.group, row.hypothesis if row.group == CLAIM else row.group)
        rows.setdefault(item, {}).setdefault(row.test, {})[row.construct] = row

    def in_test(test: str, by_construct: Mapping[str, VerdictRow]) -> InTest:
        verdicts = {construct: by_construct[construct] for construct in CONSTRUCTS if construct in by_construct}
        name = next(iter(verdicts.values())).hypothesis
        own = [estimate for estimate in estimates if (estimate.hypothesis, estimate.test) == (name, test)]
        return InTest(
            name,
            verdicts,
            {construct: words[row] for construct, row in verdicts.items()},
            outcomes={estimate.outcome: estimate for estimate in own if estimate.decides},
            others=[estimate for estimate in own if not estimate.decides],
            impact=impact_of(results, test, name),
            coverage=coverage.get((name, test)),
        )

    order = [CLAIM, POSITIVE, RANDOM]
    return [
        Reported(name, group, {test: in_test(test, by_test[test]) for test in TESTS if test in by_test})
        for (group, name), by_test in sorted(
            rows.items(), key=lambda item: (order.index(item[0][0]), item[0][1] != "alignment")
        )
    ]


def verdict_rows(results: Mapping[str, pl.DataFrame]) -> list[VerdictRow]:
    """The rows of the table `verdicts`."""
    return rows_of(results["verdicts"], VerdictRow)


def claim_verdicts(reports: Sequence[Reported]) -> list[ClaimVerdict]:
    """Every verdict with the figures that it rests on, in the order of the reports."""
    return [
        ClaimVerdict(**vars(row), words=judged.words[construct], **_figures(judged.voting(construct)))
        for report in reports
        for judged in report.tests.values()
        for construct, row in judged.verdicts.items()
    ]


def _figures(row: EstimateRow | None) -> dict[str, Any]:
    names = ("outcome", "statistic", "estimate", "low", "high", "confidence")
    return {name: getattr(row, name) for name in names} if row else {}


def tests_of(reports: Sequence[Reported]) -> list[str]:
    """The tests that any of the hypotheses was put to."""
    return [test for test in TESTS if any(test in report.tests for report in reports)]


_ORDERS = (
    ("attack_success_rate", "harmful", "useful", "attack success"),
    ("refusal_rate", "aligned", "base", "refusal rate"),
)
"""A rate of models, the role that has more of it, the role that has less, and the rate in words."""


def role_lines(models: pl.DataFrame) -> list[str]:
    """What the outcomes of the models, rows of the table `models`, say against their roles."""
    rates = {row["model"]: row for row in models.iter_rows(named=True)}
    lines = []
    for rate, more, less, words in _ORDERS:
        high, low = (rates.get(role, {}).get(rate) for role in (more, less))
        if high is not None and low is not None and high < low:
            lines.append(
                f"roles: the {words} of {more} ({percent(high)}) is below that of {less} ({percent(low)}): they may be "
                "swapped; if they are, give each its role and run the study again"
            )
    return lines


def check_lines(reports: Sequence[Reported], models: pl.DataFrame) -> Iterator[tuple[bool, str]]:
    """Whether each test did what it must on its controls, and a line that says so, by test and construct.

    A positive control has to be found: selective, in the first direction. A random subspace has to be cleared: not
    selective. Before them stands what the outcomes of the models say against their roles, if anything.
    """
    yield from ((False, line) for line in role_lines(models))
    controls = {report.group: report.tests for report in reports if report.group != CLAIM}
    for test in tests_of(reports):
        for construct in CONSTRUCTS:
            parts = []
            for group in (POSITIVE, RANDOM):
                parts.append(_check(group, controls.get(group, {}).get(test), construct))
            yield all(well for well, _ in parts), f"{test} test, {construct}: {', '.join(text for _, text in parts)}"


def notes_beside(manifest: Manifest, checks: Sequence[tuple[bool, str]]) -> list[str]:
    """The notes of a run that no check says."""
    said = {text for _, text in checks}
    return [note for note in manifest.notes if note not in said]


def asked_lines(results: Mapping[str, pl.DataFrame], manifest: Manifest) -> Iterator[str]:
    """How much the update and the ablation test asked, beside what a fixed design asks: one look at all of it."""
    verdict = manifest.config.get("verdict")
    if not isinstance(verdict, dict) or not verdict.get("until_decided"):
        return
    there = [record.rows for name, record in manifest.prompts.items() if name.startswith("trial ")]
    most = min(int(verdict["prompts"]), max(there, default=0))
    for test in ("update", "ablation"):
        points = results[test].drop_nulls("prompts")
        if test == "ablation":
            points = points.filter(pl.col("strength") > 0)  # not the aligned model
        if points.is_empty():
            continue
        own, draws = points.filter(pl.col("draw").is_null()).height, int(verdict["controls"])
        asked, fixed = int(points["prompts"].sum()), own * (1 + draws) * most
        yield (
            f"{test} test: each claim was asked about until it was decided. That took {asked:,} prompts of each kind "
            f"over {points.height:,} sets of weights. A test that asks {most} prompts about every claim, with {draws} "
            f"draws of controls, takes {fixed:,}: this one took {asked / fixed:.0%} of that"
        )


def _check(group: str, judged: InTest | None, construct: str) -> tuple[bool, str]:
    if judged is None or construct not in judged.verdicts:
        missing = "no positive control" if group == POSITIVE else "no random subspace"
        return False, f"{missing} was tested"
    row, voting = judged.verdicts[construct], judged.voting(construct)
    well = is_found(row) if group == POSITIVE else row.verdict == NOT_SELECTIVE
    done = {POSITIVE: "found", RANDOM: "cleared"}[group]
    what = f"positive control ({judged.name})" if group == POSITIVE else "random subspace"
    figures = f" ({voting.statistic} {estimate_text(voting)})" if voting else ""
    return well, f"{what} {done}{figures}" if well else f"{what} NOT {done}: {verdict_text(row)}{figures}"
