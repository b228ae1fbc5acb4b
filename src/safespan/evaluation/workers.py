"""What answers for a study's models and points, in this process or in another."""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from safespan.checkpoints import Checkpoint
from safespan.evaluation.engines import SwitchedModel, model_of
from safespan.evaluation.model import ModelUnderTest
from safespan.projection import Change
from safespan.settings.evaluation import EngineConfig

Ask = Callable[[ModelUnderTest], Any]
"""Asks a model everything, and returns its responses: `Evaluator.ask` or `Measures.ask`."""


@dataclass(frozen=True)
class Answered:
    """The responses of a model.

    Attributes:
        responses: as `Ask` returned them.
        weights: a hash of a point's weights; empty for a model as it is.
        energy: ‖·‖²_F of what a point added to the aligned model; NaN for a model as it is.
        seconds: what was spent on giving it those weights (`switch`) and on its answers (`answer`).
    """

    responses: Any
    weights: str
    energy: float
    seconds: dict[str, float]


@dataclass(frozen=True)
class Repeat:
    """The weights of this point are those of an earlier one, byte for byte: its outcomes are the same."""

    of: str


class ModelJob(NamedTuple):
    """A model as it is, by its role."""

    name: str
    checkpoint: Checkpoint


class NamedPoint(Hashable, Protocol):
    """A point of a grid."""

    @property
    def name(self) -> str:
        """What it is called in file names."""


class PointSource(Protocol):
    """Makes the weights of points: `PointWeights` or `TrialWeights`."""

    def changes(self, point: Any) -> Iterator[Change]:
        """What one point adds to every tensor of the aligned model."""

    def close(self) -> None:
        """Remove what it keeps on disk."""


class ModelWorker:
    """Answers for models as they are."""

    def __init__(self, ask: Ask, engine: EngineConfig, scratch: Path) -> None:
        """Load nothing yet."""
        self._ask, self._engine, self._scratch = ask, engine, scratch

    def __call__(self, job: ModelJob) -> Answered:
        """Open a model and ask it everything."""
        start = time.perf_counter()
        with model_of(self._engine, job.checkpoint, self._scratch) as model:
            opened = time.perf_counter()
            responses = self._ask(model)
        seconds = {"switch": opened - start, "answer": time.perf_counter() - opened}
        return Answered(responses, "", float("nan"), seconds)

    def close(self) -> None:
        """Nothing is held."""


class PointWorker:
    """Answers for points: one model, its weights switched in place.

    Args:
        ask: what is asked.
        source: opens what makes the weights.
        engine: where the model runs.
        aligned: the model that it is.
        scratch: an existing folder for files that are removed at `close`.
        known: hash of the weights -> name, of the points that were answered before.
    """

    def __init__(
        self,
        ask: Ask,
        source: Callable[[], PointSource],
        engine: EngineConfig,
        aligned: Checkpoint,
        scratch: Path,
        known: Mapping[str, str],
    ) -> None:
        """Load nothing yet."""
        self._ask, self._weights = ask, source()
        self._model = SwitchedModel(engine, aligned, scratch)
        self._known = dict(known)

    def __call__(self, point: NamedPoint) -> Answered | Repeat:
        """Give the model the weights of a point and ask it everything, unless it was asked with these before."""
        start = time.perf_counter()
        with self._model.with_weights(self._weights.changes(point)) as switched:
            if switched.sha256 in self._known:
                return Repeat(self._known[switched.sha256])
            ready = time.perf_counter()
            responses = self._ask(switched.open())
        self._known[switched.sha256] = point.name
        seconds = {"switch": ready - start, "answer": time.perf_counter() - ready}
        return Answered(responses, switched.sha256, switched.energy, seconds)

    def close(self) -> None:
        """Remove the files and give the model its own weights back."""
        self._weights.close()
        self._model.close()
