"""Pieces of work on models: opening, training, generation, likelihoods."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safespan.projection.protection import Protection, write_protection
from safespan.settings import StudyConfig, TrainingConfig
from safespan.settings.evaluation import EvaluationConfig
from safespan.study.costs.counting import counting_model
from safespan.study.costs.prepared import Prepared
from safespan.study.costs.samples import Group, Piece
from safespan.study.costs.training import rows_of, training_work
from safespan.study.costs.work import Work

if TYPE_CHECKING:
    from safespan.evaluation import ModelUnderTest

_STEPS = ((2, 40), (2, 8))
"""Optimizer steps of two trainings, of the smaller and of the larger model."""

_PROMPTS = ((4, 100), (4, 32))
"""Prompts of each kind that the two models are asked."""

_LARGE_BATCH, _SMALL_BATCH = 512, 20


def model_pieces(study: StudyConfig, groups: Sequence[Group], folder: Path) -> Iterator[Piece]:
    """Pieces on each size of models; the first of a kind is done twice, as its imports are no part of it."""
    for number, group in enumerate(groups):
        yield from _openings(study, group)
        yield from _trainings(study, group, _STEPS[number], folder)
        yield from _questions(study, group, _PROMPTS[number], folder)


def _openings(study: StudyConfig, group: Group) -> Iterator[Piece]:
    from safespan.evaluation import Prompting, load_model

    prompting, aligned = Prompting(study.evaluation, group.family.aligned), group.family.aligned
    load_model(aligned, prompting)
    yield Piece(Work(opened=4), group.shape, lambda: [load_model(aligned, prompting) for _ in range(4)])


def _trainings(study: StudyConfig, group: Group, steps: tuple[int, int], folder: Path) -> Iterator[Piece]:
    from safespan.training.sft import fine_tune

    aligned, config = group.family.aligned, study.models["useful"].train
    assert config is not None
    bases = folder / f"protected-{group.shape.width}.safetensors"
    write_protection(group.family, "alignment", 0.5, "output", 0, bases)
    place = Prepared(study, folder, aligned, group.shape)

    def training(number: int, protection: Protection | None = None) -> Piece:
        short: TrainingConfig = config.model_copy(update={"max_steps": number})
        rows = rows_of(place, short, 0)
        work = training_work(short, rows, group.shape)
        held = Work(held_steps=number) if protection else Work()
        name = str(aligned.folder)
        return Piece(work + held, group.shape, lambda: fine_tune(name, None, short, 0, protection=protection))

    training(1).do()
    for number in steps:
        yield training(number)
    yield training(steps[1], Protection(bases))


def _questions(study: StudyConfig, group: Group, prompts: tuple[int, int], folder: Path) -> Iterator[Piece]:
    """The same prompts generated for, and the likelihoods of their answers: few, many, and many in small batches."""
    for number, batch in ((prompts[0], _LARGE_BATCH), (prompts[1], _LARGE_BATCH), (prompts[1], _SMALL_BATCH)):
        engine = study.evaluation.engine.model_copy(update={"batch_size": batch})
        yield from _asked(study, study.evaluation.model_copy(update={"engine": engine}), group, number, folder)


def _asked(
    study: StudyConfig, evaluation: EvaluationConfig, group: Group, number: int, folder: Path
) -> Iterator[Piece]:
    from safespan.evaluation import Evaluator, Measures, Prompting, context_of, load_model

    model = load_model(group.family.aligned, Prompting(evaluation, group.family.aligned))
    assert study.verdict is not None
    whole = Evaluator(evaluation, folder)
    part = whole.part((0, number))
    measures = Measures(study.verdict.model_copy(update={"generate": False}), whole, (0, number))

    def piece(ask: "Callable[[ModelUnderTest], object]", do: Callable[[], object]) -> Piece:
        do()
        counting, counter = counting_model(model.chat_format, context_of(group.family.aligned))
        ask(counting)
        return Piece(counter.counted + Work(asks=1), group.shape, do)

    yield piece(part.ask, lambda: part.score(part.ask(model)))
    yield piece(measures.ask, lambda: measures.ask(model))
