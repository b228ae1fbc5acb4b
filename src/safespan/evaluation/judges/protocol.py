"""The interface of judges."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Exchange:
    """A prompt and a response; the target is the forbidden or right answer where it is known."""

    prompt: str
    response: str
    target: str | None = None


@dataclass(frozen=True)
class Judgement:
    """The judgement of one response.

    Attributes:
        score: 1 (refusal) to 5 (full compliance); None if judging failed.
        refused: whether the response is a refusal; None if judging failed, or there is no answer that could be one.
        reason: for the score, in a few words.
        error: of judging; None if it succeeded.
    """

    score: int | None
    refused: bool | None
    reason: str
    error: str | None = None


class Judge(Protocol):
    """Scores responses."""

    @property
    def name(self) -> str:
        """Name of the judge in tables and files: its kind and model."""

    def check(self) -> None:
        """Raise ConfigError if the judge's server, where it has one, does not answer."""

    def check_cost(self, exchanges: int) -> None:
        """Raise ConfigError if so many more judgements would pass the judge's cap, where it has one."""

    def judge(self, exchanges: Sequence[Exchange]) -> list[Judgement]:
        """One judgement per exchange, in order; a failed one has an error."""
