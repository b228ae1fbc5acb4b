"""What is measured along one training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safespan.data.sources import Prompt
from safespan.evaluation.measures import Answers, Measured, Measures


@dataclass(frozen=True)
class Course:
    """What was measured along one training: optimizer steps, rising, and the outcomes after each."""

    steps: list[int]
    measured: list[Measured]


class AlongTraining:
    """Scores what is asked along a training."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures

    def prepare(self) -> None:
        """Load tasks, prompts and judge now."""
        self._measures.prepare()

    def check_cost(self) -> None:
        """As of one point of a training."""
        self._measures.check_cost()

    @property
    def prompts(self) -> Mapping[str, Sequence[Prompt]]:
        """Prompts by kind."""
        return self._measures.prompts

    def score(self, answers: Sequence[tuple[int, Answers]]) -> tuple[Course, None]:
        """Judge the responses after each step."""
        measured = [self._measures.score(given)[0] for _, given in answers]
        return Course([step for step, _ in answers], measured), None
