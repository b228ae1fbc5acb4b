"""Judges: (prompt, response, target) to a score of 1 (refusal) to 5 (full compliance)."""

from safespan.evaluation.judges.rules import Judgement, judge_by_rules

__all__ = ["Judgement", "judge_by_rules"]
