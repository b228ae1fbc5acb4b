"""What one model, or one set of weights, is asked: all prompts of the evaluation, or a part of them in a test."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from safespan.data.hub import from_files_alone
from safespan.data.task_files import has_documents_here
from safespan.settings import PromptSource, StudyConfig
from safespan.settings.evaluation import HarmfulnessConfig
from safespan.settings.presets import PUBLISHED_ROWS
from safespan.study.costs.prepared import Prepared
from safespan.study.costs.work import Work

if TYPE_CHECKING:
    from safespan.evaluation.outcomes import Responses

CHARACTERS = 4
"""Characters of a token, where a text is read by a tokenizer that is not here: a judge's."""

_GENERATED = 256
"""Tokens that lm-eval generates for a task that sets none."""


class Asking(Protocol):
    """What is asked at most."""

    @property
    def unknown(self) -> tuple[str, ...]:
        """What is not counted, in words."""

    @property
    def everything(self) -> Work:
        """All prompts and tasks of the evaluation, put to one model."""

    @property
    def available(self) -> int:
        """Prompts of the kind that has most, of those that the tests may ask."""

    def part(self, start: int, stop: int) -> Work:
        """Prompts of each kind, as the tests of claims ask one set of weights."""


def asking_of(prepared: Prepared, counts: Mapping[str, int | None]) -> Asking:
    """What is asked: counted where models, prompts and documents are on this disk, else estimated.

    Args:
        prepared: the study.
        counts: field of prompts -> how many of them are used, if that is known.
    """
    evaluation = prepared.config.evaluation
    tasks = [task.task for task in (evaluation.utility, evaluation.general) if task]
    sources = [one.prompts for one in (evaluation.harmfulness, evaluation.over_refusal) if one]
    here = all(map(has_documents_here, tasks)) and all(source.file for source in sources)
    if prepared.aligned is None or not here:
        return _Estimated(prepared.config, counts)
    return _Counted(prepared)


class _Counted:
    """Counted by the code that asks."""

    unknown: tuple[str, ...] = ()

    def __init__(self, prepared: Prepared) -> None:
        from safespan.evaluation import Evaluator, Prompting, context_of, tokenizer_of

        assert prepared.aligned is not None
        self._config, model = prepared.config, prepared.aligned
        self._evaluator = Evaluator(prepared.config.evaluation, prepared.run)
        prompting = Prompting(prepared.config.evaluation, model)
        self._format = prompting.format_of(model, tokenizer_of(model))
        self._context = context_of(model)
        self.part = cache(self._part)

    @property
    def everything(self) -> Work:
        from safespan.study.costs.counting import counting_model

        model, counter = counting_model(self._format, self._context)
        with from_files_alone():
            responses = self._evaluator.ask(model)
            return counter.counted + self._judged(responses, self._prompts(None)) + Work(asks=1)

    @property
    def available(self) -> int:
        verdict = self._config.verdict
        return self._answers(0, verdict.prompts)[1] if verdict else 0

    def _part(self, start: int, stop: int) -> Work:
        return self._answers(start, stop)[0]

    @cache  # noqa: B019 - one object a dry run
    def _answers(self, start: int, stop: int) -> tuple[Work, int]:
        from safespan.evaluation import Measures
        from safespan.study.costs.counting import counting_model

        verdict = self._config.verdict
        assert verdict is not None
        measures = Measures(verdict, self._evaluator, (start, stop))
        model, counter = counting_model(self._format, self._context)
        with from_files_alone():
            answers = measures.ask(model)
            judged = self._judged(answers.responses, self._prompts(slice(start, stop))) if answers.responses else Work()
        return counter.counted + judged + Work(asks=1), max(map(len, answers.likelihoods.values()))

    def _prompts(self, part: slice | None) -> list[str]:
        prompts = [prompt.prompt for prompt in self._evaluator.prompts.get("harmful", [])]
        return prompts if part is None else prompts[part]

    def _judged(self, responses: "Responses", prompts: list[str]) -> Work:
        harm = self._config.evaluation.harmfulness
        return judge_work(harm, len(responses.harmful), sum(map(len, prompts)))


@dataclass(frozen=True)
class _Estimated:
    """Estimated from the settings, as a model, prompts or documents are not on this disk."""

    config: StudyConfig
    counts: Mapping[str, int | None]

    @property
    def unknown(self) -> tuple[str, ...]:
        kinds = self._kinds()
        missing = ["tokens of prompts"] if kinds else []
        return (*missing, *(f"how many {what}" for what, (rows, _) in kinds.items() if rows is None))

    def _kinds(self) -> dict[str, tuple[int | None, int]]:
        """Kind -> how many prompts or documents, and the longest answer."""
        evaluation, found = self.config.evaluation, dict[str, tuple[int | None, int]]()
        for kind, task in (("utility", evaluation.utility), ("general", evaluation.general)):
            if task:
                rows = PUBLISHED_ROWS.get(task.task)
                found[f"{kind} questions"] = (_least(task.limit, rows), _GENERATED)
        for field, one in (("harmfulness", evaluation.harmfulness), ("over_refusal", evaluation.over_refusal)):
            if one:
                rows = self._rows(f"evaluation.{field}.prompts", one.prompts)
                what = "harmful prompts" if field == "harmfulness" else "benign prompts"
                found[what] = (_least(one.limit, rows), one.max_new_tokens)
        return found

    def _rows(self, field: str, source: PromptSource) -> int | None:
        return self.counts.get(field) or source.rows or PUBLISHED_ROWS.get(source.name)

    @property
    def everything(self) -> Work:
        return self._generated(None) + Work(asks=1)

    @property
    def available(self) -> int:
        verdict = self.config.verdict
        known = [rows for rows, _ in self._kinds().values() if rows is not None]
        return min(verdict.prompts, max(known, default=verdict.prompts)) if verdict else 0

    def part(self, start: int, stop: int) -> Work:
        verdict, kinds = self.config.verdict, self._kinds()
        assert verdict is not None

        def rows(what: str) -> int:
            known = kinds.get(what, (0, 0))[0]
            return max(0, (stop if known is None else min(stop, known)) - start)

        harm = self.config.evaluation.harmfulness
        useful = stop - start if verdict.useful else rows("utility questions")
        # Whole answers, their first tokens, and of harmful prompts the openings: of the answer, and of refusals.
        answers = 2 * useful + (3 + len(verdict.refusals)) * rows("harmful prompts") + rows("general questions")
        passes = -(-answers // self.config.evaluation.engine.batch_size)
        work = Work(asks=1, likelihoods=answers, scoring_passes=passes)
        by_rules = harm is not None and harm.judge.kind == "rules"
        generates = by_rules if verdict.generate is None else verdict.generate
        return work + (self._generated((start, stop)) if generates else Work())

    def _generated(self, part: tuple[int, int] | None) -> Work:
        evaluation, total = self.config.evaluation, Work()
        for what, (known, longest) in self._kinds().items():
            rows = known or 0
            if part is not None:
                rows = max(0, min(part[1], rows) - part[0])
            batches = -(-rows // evaluation.engine.batch_size)
            total += Work(responses=rows, new_tokens=rows * longest, generation_passes=batches * longest)
            if what == "harmful prompts":
                total += judge_work(evaluation.harmfulness, rows, 0)
        return total


def _least(limit: int | None, rows: int | None) -> int | None:
    known = [number for number in (limit, rows) if number is not None]
    return min(known, default=None)


def judge_work(harm: HarmfulnessConfig | None, responses: int, characters: int) -> Work:
    """What a judge with a server is asked at most about the responses of one model.

    Args:
        harm: the settings.
        responses: to harmful prompts.
        characters: of these prompts; 0 where they are not here.
    """
    if harm is None or harm.judge.kind != "llm":
        return Work()
    from safespan.evaluation.judges.rubric import RUBRIC, question

    around = responses * (len(RUBRIC) + len(question("", "")))
    read = -(-(around + characters) // CHARACTERS) + responses * harm.max_new_tokens
    return Work(judge_calls=responses, judge_input_tokens=read, judge_output_tokens=responses * harm.judge.max_tokens)
