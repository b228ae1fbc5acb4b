"""Workers that generate the responses of models and points, in any process."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from safespan.checkpoints import Checkpoint
from safespan.evaluation.engines import SwitchedModel, model_of
from safespan.evaluation.model import ModelUnderTest
from safespan.evaluation.prompting import Prompting
from safespan.projection import Change
from safespan.results.claim_tables import AblationPoint, UpdatePoint
from safespan.results.tables import GridPoint

Ask = Callable[[ModelUnderTest], Any]
"""Generates the responses of a model: `Evaluator.ask` or `Measures.ask`."""


@dataclass(frozen=True)
class Answered:
    """The responses of a model.

    Attributes:
        weights: hash of the weights of a point; empty for a model.
        energy: ‖·‖²_F of the change of the aligned model at a point; NaN for a model.
        seconds: time for the weights (`switch`) and for the responses (`answer`).
    """

    responses: Any
    weights: str
    energy: float
    seconds: dict[str, float]


@dataclass(frozen=True)
class Repeat:
    """The weights of this point equal those of an earlier one, so that its outcomes are the same."""

    of: str


class ModelJob(NamedTuple):
    """A model, by its role."""

    name: str
    checkpoint: Checkpoint


class PointSource(Protocol):
    """Computes the weights of points: `PointWeights` or `UpdateWeights`."""

    def changes(self, point: Any) -> Iterator[Change]:
        """The changes of all tensors of the aligned model at one point."""

    def close(self) -> None:
        """Remove its files."""


class ModelWorker:
    """Generates the responses of models."""

    def __init__(self, ask: Ask, prompting: Prompting, scratch: Path) -> None:
        self._ask, self._prompting, self._scratch = ask, prompting, scratch

    def __call__(self, job: ModelJob) -> Answered:
        """Open a model and generate its responses."""
        start = time.perf_counter()
        with model_of(self._prompting, job.checkpoint, self._scratch) as model:
            opened = time.perf_counter()
            responses = self._ask(model)
        seconds = {"switch": opened - start, "answer": time.perf_counter() - opened}
        return Answered(responses, "", float("nan"), seconds)

    def close(self) -> None:
        """Nothing to close."""


class PointWorker:
    """Generates the responses of points, by switching the weights of one model in place.

    Args:
        source: opens the source of weights.
        aligned: the model.
        scratch: an existing folder for files that are removed at `close`.
        known: hash of the weights -> name, of the points that were answered before.
    """

    def __init__(
        self,
        ask: Ask,
        source: Callable[[], PointSource],
        prompting: Prompting,
        aligned: Checkpoint,
        scratch: Path,
        known: Mapping[str, str],
    ) -> None:
        self._ask, self._weights = ask, source()
        self._model = SwitchedModel(prompting, aligned, scratch)
        self._known = dict(known)

    def __call__(self, point: GridPoint | UpdatePoint | AblationPoint) -> Answered | Repeat:
        """Switch to the weights of a point and generate its responses, unless the weights are known."""
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
        """Remove the files and restore the model's own weights."""
        self._weights.close()
        self._model.close()
