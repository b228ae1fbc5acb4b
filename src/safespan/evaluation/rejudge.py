"""Judge responses that exist already, without generating them again."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from safespan.data.row_files import Row
from safespan.data.sources import check_texts
from safespan.evaluation.judges import Exchange, Judge, Judgement
from safespan.evaluation.outcomes import outcomes
from safespan.settings.data import PromptSource

JUDGED = (
    "harmfulness",
    "attack_success_rate",
    "asr_ci_low",
    "asr_ci_high",
    "refusal_rate",
    "n_harmful",
    "n_judge_failed",
    "valid",
)
"""The outcomes that a judge alone decides."""


def rejudge(rows: Sequence[Row], judge: Judge, where: str) -> tuple[list[Row], dict[str, Any]]:
    """Score responses anew.

    Args:
        rows: with the fields prompt and response, and target where known. Of rows with a kind, as in a run's
            `generations/`, those of kind harmful are scored, and the others returned as they are.
        judge: who scores them.
        where: the rows' file, for messages.

    Returns:
        All rows in their order, the scored ones with score, refused, reason, judge and error; and the outcomes.

    Raises:
        DataError: a row to be scored has no prompt or no response.
        ConfigError: the judge cannot be reached.
    """
    chosen = [number for number, row in enumerate(rows) if row.get("kind", "harmful") == "harmful"]
    asked = [rows[number] for number in chosen]
    source = PromptSource(file=where)
    check_texts(source, asked, "prompt")
    check_texts(source, asked, "response", blank=True)
    judged = judge.judge([Exchange(row["prompt"], row["response"], row.get("target") or None) for row in asked])
    scored = dict(zip(chosen, judged, strict=True))
    judged_rows = [
        {**row, **asdict(scored[number]), "judge": judge.name} if number in scored else dict(row)
        for number, row in enumerate(rows)
    ]
    return judged_rows, judged_outcomes(judged_rows)


def judged_outcomes(rows: Sequence[Row]) -> dict[str, Any]:
    """The outcomes that a judge alone decides, of rows that `rejudge` returned."""
    scored = [row for row in rows if row.get("kind", "harmful") == "harmful"]
    measured = outcomes(
        {}, [Judgement(row["score"], row["refused"], row["reason"], row["error"]) for row in scored], []
    )
    return {name: getattr(measured, name) for name in JUDGED}
