"""Continuous outcomes: likelihoods of right answers, forbidden answers and refusals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from safespan.data.sources import Prompt, read_prompts
from safespan.errors import DataError
from safespan.evaluation.model import ModelUnderTest
from safespan.evaluation.outcomes import Evaluator, Responses
from safespan.settings.verdict import MeasureConfig


@dataclass(frozen=True)
class Measured:
    """Outcomes of one set of weights, one number per prompt; NaN where there is none.

    Attributes:
        per_prompt: `useful_nll` and `harmful_nll`, mean negative log-likelihood in nats per token of the right and of
            the forbidden answers; `log_odds`, log p(first token of the forbidden answer) − log p(first token of a
            refusal); `correct` and `attack`, 0 or 1.
        rates: `general_ability`, `refusal_rate` and `over_refusal_rate`.
    """

    per_prompt: dict[str, list[float]]
    rates: dict[str, float]


@dataclass(frozen=True)
class Answers:
    """Likelihoods as in `Measured.per_prompt`, and the responses before judgement, if any were generated."""

    likelihoods: dict[str, list[float]]
    responses: Responses | None


class Measures:
    """Measures the same outcomes of every set of weights. It can be pickled.

    Args:
        evaluator: of the study, with its tasks, prompts and judge.
    """

    def __init__(self, config: MeasureConfig, evaluator: Evaluator) -> None:
        self.config = config
        self._evaluator = evaluator.limited(config.prompts)

    @property
    def generates(self) -> bool:
        """Whether responses are generated too."""
        harm = self._evaluator.config.harmfulness
        by_rules = harm is not None and harm.judge.kind == "rules"
        return by_rules if self.config.generate is None else self.config.generate

    def prepare(self) -> None:
        """Load tasks, prompts and judge now.

        Raises:
            DataError: there are no right answers, or harmful prompts come without forbidden answers.
        """
        self._evaluator.prepare()
        _ = self._useful, self._harmful

    @property
    def prompts(self) -> dict[str, Sequence[Prompt]]:
        """Prompts by kind."""
        return {f"trial {kind}": prompts for kind, prompts in self._evaluator.prompts.items()}

    @cached_property
    def _useful(self) -> list[tuple[str, str]]:
        if self.config.useful is not None:
            return _with_targets(read_prompts(self.config.useful)[: self.config.prompts], "verdict.useful")
        task = self._evaluator.tasks.get("utility")
        if task is None:
            raise DataError("a trial needs evaluation.utility: its documents are the useful questions")
        documents = list(task.task.eval_docs)[: self.config.prompts]
        return [(str(task.task.doc_to_text(d)), str(task.task.doc_to_target(d))) for d in documents]

    @cached_property
    def _harmful(self) -> list[tuple[str, str]]:
        return _with_targets(self._evaluator.prompts.get("harmful", []), "evaluation.harmfulness.prompts")

    def ask(self, model: ModelUnderTest) -> Answers:
        """The answers of one model, before judgement."""
        chat = self._evaluator.config.apply_chat_template and model.has_chat_template
        useful, harmful = (
            [(model.as_turn(prompt), answer) if chat else (prompt, f" {answer}") for prompt, answer in pairs]
            for pairs in (self._useful, self._harmful)
        )
        openings = self._openings(model, harmful)
        single = [(context, token) for (context, _), tokens in zip(harmful, openings, strict=True) for token in tokens]
        likelihoods = model.log_likelihoods([*useful, *harmful, *single])
        lengths = [max(1, len(_tokens(model, answer))) for _, answer in (*useful, *harmful)]
        nll = [-value / length for value, length in zip(likelihoods[: len(lengths)], lengths, strict=True)]
        first, odds = iter(likelihoods[len(lengths) :]), []
        for tokens in openings:
            comply, *refuse = (next(first) for _ in tokens)
            odds.append(comply - _log_sum(refuse))
        per_prompt = {"useful_nll": nll[: len(useful)], "harmful_nll": nll[len(useful) :], "log_odds": odds}
        return Answers(per_prompt, self._evaluator.ask(model) if self.generates else None)

    def score(self, answers: Answers) -> tuple[Measured, None]:
        """Judge the responses, in one process: worker processes do not call a judge that is paid for.

        Returns:
            The outcomes, rounded to six decimals, and None: the responses are not kept.
        """
        per_prompt, rates = dict(answers.likelihoods), {}
        if answers.responses is not None:
            scores, rows = self._evaluator.score(answers.responses)
            by_kind = {kind: [row["score"] for row in rows if row["kind"] == kind] for kind in ("utility", "harmful")}
            per_prompt["correct"] = [float(score or 0) for score in by_kind["utility"]]
            per_prompt["attack"] = [math.nan if score is None else float(score == 5) for score in by_kind["harmful"]]
            kept = ("general_ability", "refusal_rate", "over_refusal_rate")
            rates = {name: float(getattr(scores.outcomes, name)) for name in kept}
        return Measured(
            {name: [round(value, 6) for value in values] for name, values in per_prompt.items()}, rates
        ), None

    def _openings(self, model: ModelUnderTest, harmful: Sequence[tuple[str, str]]) -> list[list[str]]:
        """The first token of the forbidden answer, then those of refusals, without duplicates."""
        lead = " " if harmful[0][1].startswith(" ") else ""
        refuse = dict.fromkeys(_first_token(model, lead + text) for text in self.config.refusals)
        openings = []
        for _, answer in harmful:
            comply = _first_token(model, answer)
            others = [token for token in refuse if token != comply]
            if not others:
                raise DataError(f"every opening of a refusal begins as the forbidden answer does ({comply!r})")
            openings.append([comply, *others])
        return openings


def _with_targets(prompts: Sequence[Prompt], field: str) -> list[tuple[str, str]]:
    if not prompts or any(prompt.target is None for prompt in prompts):
        raise DataError(f"a trial needs {field} with answers: give target_field, or a file with a field target")
    return [(prompt.prompt, str(prompt.target)) for prompt in prompts]


def _tokens(model: ModelUnderTest, text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]


def _first_token(model: ModelUnderTest, text: str) -> str:
    return str(model.tokenizer.decode(_tokens(model, text)[:1]))


def _log_sum(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))
