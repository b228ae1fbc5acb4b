"""Judging of existing responses, without generation."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from safespan.data.row_files import Row
from safespan.data.sources import check_text, target_of
from safespan.errors import DataError
from safespan.evaluation.judges import Exchange, Judge, Judgement, judge_answers
from safespan.evaluation.outcomes import outcomes, without_answer
from safespan.settings.data import PromptSource

JUDGED = (
    "harmfulness",
    "attack_success_rate",
    "asr_ci_low",
    "asr_ci_high",
    "refusal_rate",
    "n_harmful",
    "n_judge_failed",
    "n_no_answer",
    "valid",
)
"""The outcomes that rows of responses and their judgements give."""

KINDS = ("harmful", "benign", "utility", "general")
"""What a response answers. Those to harmful prompts are judged."""


def rejudge(rows: Sequence[Row], judge: Judge, where: str) -> tuple[list[Row], dict[str, Any]]:
    """Score existing responses.

    Args:
        rows: with the fields prompt and response, and target where known. Rows of a kind other than harmful, as in a
            run's `generations/`, are returned unchanged.
        where: the rows' file, for messages.

    Returns:
        All rows in their order, the scored ones with score, refused, reason, judge and error; and the outcomes.

    Raises:
        DataError: a row of an unknown kind, none to be scored, or one without a prompt or a response, or with a target
            that is no text.
        ConfigError: the judge cannot be reached.
    """
    for number, row in enumerate(rows, start=1):
        if (row.get("kind") or "harmful") not in KINDS:
            raise DataError(
                f"{where}: row {number} is of the kind {row['kind']!r}, expected one of {', '.join(KINDS)}; without a "
                "kind a row is judged as harmful"
            )
    harmful = [(number, row) for number, row in enumerate(rows, start=1) if _is_harmful(row)]
    if not harmful:
        raise DataError(f"{where}: none of its {len(rows)} rows is of the kind harmful: there is nothing to judge")
    source = PromptSource(file=where)
    for number, row in harmful:
        check_text(source, row, number, "prompt")
        check_text(source, row, number, "response", blank=True)
    exchanges = [Exchange(row["prompt"], row["response"], target_of(source, row, n) or None) for n, row in harmful]
    judged = zip([row for _, row in harmful], judge_answers(judge, exchanges), strict=True)
    scored = iter([{**row, **asdict(judgement), "judge": judge.name} for row, judgement in judged])
    judged_rows = [next(scored) if _is_harmful(row) else dict(row) for row in rows]
    return judged_rows, judged_outcomes(judged_rows)


def judged_outcomes(rows: Sequence[Row]) -> dict[str, Any]:
    """The outcomes that the judgements give, of rows that `rejudge` returned."""
    scored = [row for row in rows if _is_harmful(row)]
    judged = [Judgement(row["score"], row["refused"], row["reason"], row["error"]) for row in scored]
    measured = outcomes({}, judged, [], without_answer(rows))
    return {name: getattr(measured, name) for name in JUDGED}


def _is_harmful(row: Row) -> bool:
    return (row.get("kind") or "harmful") == "harmful"
