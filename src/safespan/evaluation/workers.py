"""What answers for a study's models and points, in this process or in another."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safespan.checkpoints import Checkpoint
from safespan.evaluation.engines import SwitchedModel, model_of
from safespan.evaluation.outcomes import Evaluator, Said
from safespan.projection import Family, Point, PointWeights, ProjectionGrid
from safespan.subspaces import Decompose


@dataclass(frozen=True)
class Answered:
    """What a model said.

    Attributes:
        said: its answers.
        weights: a hash of a point's weights; empty for a model as it is.
        seconds: what was spent on giving it those weights (`switch`) and on its answers (`answer`).
    """

    said: Said
    weights: str
    seconds: dict[str, float]


@dataclass(frozen=True)
class Repeat:
    """The weights of this point are those of an earlier one, byte for byte: its outcomes are the same."""

    of: str


class ModelWorker:
    """Answers for models as they are."""

    def __init__(self, evaluator: Evaluator, scratch: Path) -> None:
        """Load nothing yet."""
        self._evaluator, self._scratch = evaluator, scratch

    def __call__(self, checkpoint: Checkpoint) -> Answered:
        """Open a model and ask it everything."""
        start = time.perf_counter()
        with model_of(self._evaluator.config.engine, checkpoint, self._scratch) as model:
            opened = time.perf_counter()
            said = self._evaluator.ask(model)
        return Answered(said, "", {"switch": opened - start, "answer": time.perf_counter() - opened})

    def close(self) -> None:
        """Nothing is held."""


class PointWorker:
    """Answers for points of the grid: one model, its weights switched in place.

    Args:
        evaluator: what is asked.
        family: the checkpoints.
        grid: where the points lie.
        seed: of the random subspaces.
        scratch: an existing folder for files that are removed at `close`.
        decompose: how updates are decomposed.
        known: hash of the weights -> name, of the points that were answered before.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        family: Family,
        grid: ProjectionGrid,
        seed: int,
        scratch: Path,
        decompose: Decompose,
        known: Mapping[str, str],
    ) -> None:
        """Load nothing yet."""
        self._evaluator = evaluator
        self._weights = PointWeights(family, grid, seed, scratch, decompose)
        self._model = SwitchedModel(evaluator.config.engine, family.aligned, scratch)
        self._known = dict(known)

    def __call__(self, point: Point) -> Answered | Repeat:
        """Give the model the weights of a point and ask it everything, unless it was asked with these before."""
        start = time.perf_counter()
        with self._model.given(self._weights.of(point)) as (digest, opened):
            if digest in self._known:
                return Repeat(self._known[digest])
            switched = time.perf_counter()
            said = self._evaluator.ask(opened())
        self._known[digest] = point.name
        return Answered(said, digest, {"switch": switched - start, "answer": time.perf_counter() - switched})

    def close(self) -> None:
        """Remove the files and give the model its own weights back."""
        self._weights.close()
        self._model.close()
