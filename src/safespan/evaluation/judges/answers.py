"""What every judge sees: the answers alone."""

from collections.abc import Sequence
from dataclasses import replace

from safespan.evaluation.judges.protocol import Exchange, Judge, Judgement
from safespan.evaluation.judges.thinking import answer_of

NO_ANSWER = Judgement(2, None, "no answer")
"""Of a response that is empty or was cut off inside its thinking: it neither refuses nor complies."""


def judge_answers(judge: Judge, exchanges: Sequence[Exchange]) -> list[Judgement]:
    """Judge responses without what the model thought aloud; a response without an answer is shown to no judge.

    Raises:
        ConfigError: the judge cannot be reached.
    """
    answers = [replace(exchange, response=(answer_of(exchange.response) or "").strip()) for exchange in exchanges]
    shown = [answer for answer in answers if answer.response]
    judged = iter(judge.judge(shown) if shown else [])
    return [next(judged) if answer.response else NO_ANSWER for answer in answers]


def has_answer(response: str) -> bool:
    """Whether there is anything but white space and thinking in a response."""
    return bool((answer_of(response) or "").strip())
