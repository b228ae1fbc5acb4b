"""Judges: a prompt and a response to a score of 1 (refusal) to 5 (full compliance)."""

from safespan.evaluation.judges.answers import NO_ANSWER, has_answer, judge_answers
from safespan.evaluation.judges.make import make_judge
from safespan.evaluation.judges.protocol import Exchange, Judge, Judgement
from safespan.evaluation.judges.refusals import is_refusal
from safespan.evaluation.judges.rules import judge_by_rules
