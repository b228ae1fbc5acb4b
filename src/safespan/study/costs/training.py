"""The work of trainings."""

from dataclasses import dataclass
from math import ceil

from safespan.data.hub import NotCachedError, offline
from safespan.settings.training import TrainingConfig
from safespan.study.costs.prepared import Prepared
from safespan.study.costs.work import Shape, Work

_STORED = 4
"""Bytes of a trained weight on the disk."""


@dataclass(frozen=True)
class Rows:
    """The rows of one training.

    Attributes:
        number: of them; None: not known.
        tokens: of all of them.
        longest: tokens of the longest response, its end among them; 0: not known.
        counted: whether they were encoded; else each is taken for as long as `max_length` allows.
    """

    number: int | None
    tokens: int
    longest: int
    counted: bool


def rows_of(prepared: Prepared, train: TrainingConfig, seed: int) -> Rows:
    """The rows that a training would learn from."""
    from safespan.training.mixture import contaminating, mixture

    try:
        with offline(train.data), offline(train.contaminate_with or train.data):
            mixed = mixture(train, seed).examples
    except NotCachedError:
        number = train.data.rows
        if number and train.contaminate_with:  # of a pool whose size is not known
            number += contaminating(train.model_copy(update={"contaminate_with": None}), number, 0)
        return Rows(number, (number or 0) * train.max_length, 0, False)
    if prepared.aligned is None:
        return Rows(len(mixed), len(mixed) * train.max_length, 0, False)
    from safespan.evaluation import context_of, tokenizer_of
    from safespan.training.encoding import IGNORED, encode

    longest = min(train.max_length, context_of(prepared.aligned) or train.max_length)
    rows = encode(tokenizer_of(prepared.aligned), mixed, longest, train.prompt_format, train.template_date)
    longest_response = max(sum(label != IGNORED for label in row["labels"]) for row in rows)
    return Rows(len(rows), sum(len(row["input_ids"]) for row in rows), longest_response, True)


def steps_of(train: TrainingConfig, rows: int) -> int:
    """Optimizer steps, as Transformers' Trainer counts them in one process."""
    if train.max_steps:
        return train.max_steps
    return ceil(train.epochs * _steps_an_epoch(train, rows))


def _steps_an_epoch(train: TrainingConfig, rows: int) -> int:
    return max(1, ceil(ceil(rows / train.batch_size) / train.accumulation_steps))


def training_work(train: TrainingConfig, rows: Rows, shape: Shape | None) -> Work:
    """One training, and the model that it writes."""
    number = rows.number or 0
    steps = steps_of(train, number) if number or train.max_steps else 0
    epochs, rest = divmod(steps, _steps_an_epoch(train, number)) if number else (0, 0)
    seen = epochs * number + min(number, rest * train.batch_size * train.accumulation_steps)
    tokens = round(seen * rows.tokens / number) if number else 0
    return Work(
        opened=1,
        trainings=1,
        steps=steps,
        trained_tokens=tokens,
        recomputed_tokens=tokens if train.gradient_checkpointing else 0,
        held_steps=steps if train.protect else 0,
        written=_written(train, shape) if shape else 0,
    )


def _written(train: TrainingConfig, shape: Shape) -> int:
    if train.lora is None or train.lora.merge:
        return _STORED * shape.parameters
    return _STORED * train.lora.rank * sum(rows + columns for rows, columns in shape.matrices)
