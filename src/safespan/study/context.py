"""A study in its run folder, and what its stages share."""

import math
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from safespan.checkpoints import Checkpoint, open_checkpoint, pair_up
from safespan.execution import execution
from safespan.execution.local import Execution
from safespan.files.content import content_hash
from safespan.projection import Family
from safespan.results import RunFolder
from safespan.settings import StudyConfig
from safespan.study.keys import input_hashes
from safespan.subspaces import CapturedActivations, Decompose, SpectrumCache, decompose

if TYPE_CHECKING:
    from safespan.evaluation import Evaluator, Prompting

READS = " tokenizer and configuration"
"""Behind a role: of the files that say how its model reads a text."""


class Study:
    """A study that runs in a folder. Everything is opened when it is first needed: a model after it was trained.

    Attributes:
        config: the study as its file says it.
        resolved: the same with `{run}` replaced by the run folder.
        run: the run folder.
    """

    def __init__(self, config: StudyConfig, out: Path) -> None:
        self.config, self.resolved, self.run = config, config.resolved(out), RunFolder(out)
        self._checkpoints: dict[tuple[str, bool], Checkpoint] = {}
        self._hashes: dict[tuple[str, bool], str] = {}

    def trained_folder(self, role: str, again: bool = False) -> Path:
        """Where the training of a role writes its model; `again`: the one under the next seed."""
        return self.run.checkpoint(f"{role}-again" if again else role)

    def model_name(self, role: str, again: bool = False) -> str:
        """How the model of a role is opened: as the study names it, or where its training wrote it."""
        source = self.resolved.models[role]
        if source.model is not None:
            return source.model
        written = str(self.trained_folder(role, again))
        adapter = source.train is not None and source.train.lora is not None and not source.train.lora.merge
        return f"{self.model_name(str(source.start))}+{written}" if adapter else written

    def checkpoint(self, role: str, again: bool = False) -> Checkpoint:
        """The model of a role."""
        if (role, again) not in self._checkpoints:
            self._checkpoints[role, again] = open_checkpoint(self.model_name(role, again))
            if aligned := self._checkpoints.get(("aligned", False)):
                others = (one for one in self._checkpoints.values() if one is not aligned)
                pair_up(aligned, *others, vocabulary=self.config.vocabulary)
        return self._checkpoints[role, again]

    def weights_hash(self, role: str, again: bool = False) -> str:
        """SHA-256 of the weights of a role's model."""
        if (role, again) not in self._hashes:
            self._hashes[role, again] = self.checkpoint(role, again).sha256()
        return self._hashes[role, again]

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """Role -> model, of all roles."""
        return {role: self.checkpoint(role) for role in self.config.models}

    @property
    def weights_hashes(self) -> dict[str, str]:
        """Role -> SHA-256 of its model's weights."""
        return {role: self.weights_hash(role) for role in self.config.models}

    def model_hashes(self, roles: Iterable[str]) -> dict[str, str]:
        """What the outcomes of models depend on: weights, by role, and what says how they read a text."""
        weights = {role: self.weights_hash(role) for role in roles}
        return weights | {f"{role}{READS}": self.checkpoint(role).text_hash() for role in weights}

    def evaluation_inputs(self) -> dict[str, str]:
        """What outcomes depend on beside settings: the models, and the files that the evaluation names."""
        return self.model_hashes(self.config.models) | input_hashes(self.resolved.evaluation)

    @cached_property
    def captured_hash(self) -> str | None:
        """SHA-256 of the captured activations, which claims are made of; None where there are none."""
        return content_hash(self.run.captured)

    @cached_property
    def family(self) -> Family:
        """The models of the study, with the activations that were captured for hypotheses, if any."""
        models = self.checkpoints
        finetuned = {role: models[role] for role in self.config.finetunes}
        captured = CapturedActivations(self.run.captured) if self.config.verdict and self.config.activations else None
        return Family(models.get("base"), models["aligned"], finetuned, models.get("safe"), captured)

    @cached_property
    def prompting(self) -> "Prompting":
        """How all models are prompted: as the aligned model is."""
        from safespan.evaluation import Prompting

        return Prompting(self.resolved.evaluation, self.checkpoint("aligned"))

    @cached_property
    def departures(self) -> list[str]:
        """What is done otherwise than the folder of a model says."""
        found = {role: self.prompting.departures(model) for role, model in self.checkpoints.items()}
        return [f"{role}: {line}" for role, lines in found.items() for line in lines]

    @cached_property
    def evaluator(self) -> "Evaluator":
        """What asks models, and judges their responses."""
        from safespan.evaluation import Evaluator

        return Evaluator(self.resolved.evaluation, self.run.root)

    @cached_property
    def execution(self) -> Execution:
        """Where work runs."""
        return execution(self.config.execution, self._model_bytes)

    def _model_bytes(self) -> int:
        """Bytes of the aligned model's weights in float32."""
        return sum(4 * math.prod(shape) for shape in self.checkpoint("aligned").shapes.values())

    @cached_property
    def decompose(self) -> Decompose:
        """How updates are decomposed."""
        return SpectrumCache().decompose if self.config.execution.cache else decompose
