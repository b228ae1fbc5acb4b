"""The checkpoints of a study."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

from safespan.checkpoints import Checkpoint
from safespan.checkpoints.updates import check_same_layout, update, update_factors
from safespan.errors import ConfigError
from safespan.linalg.device import device
from safespan.linalg.stacks import unit_rows
from safespan.models.folders import protected_claim
from safespan.settings.names import PLANTED, SUBSPACES, Side
from safespan.subspaces import CapturedActivations, Decompose, Hypothesis, WeightTensor, find_hypothesis


@dataclass(frozen=True)
class Family:
    """The checkpoints of one study: base and the safe model if any, aligned, and the fine-tunes of aligned.

    Attributes:
        base: W_0, needed by Δ_A and by what is claimed of it.
        aligned: W_A.
        finetuned: W_FT by name (useful, harmful, contaminated, …).
        safe: W_S, needed by the safety subspace.
        captured: activations of aligned on useful and harmful prompts, which some hypotheses need.
    """

    base: Checkpoint | None
    aligned: Checkpoint
    finetuned: Mapping[str, Checkpoint]
    safe: Checkpoint | None = None
    captured: CapturedActivations | None = None

    def names(self) -> list[str]:
        """Tensor names, the same in every member; raises CheckpointError otherwise."""
        others = [self.base, *self.finetuned.values(), self.safe]
        return check_same_layout(self.aligned, *(other for other in others if other is not None))

    @property
    def present(self) -> set[str]:
        """The needs of hypotheses that this family meets."""
        inputs = {
            "base": self.base,
            "safe": self.safe,
            "harmful": self.finetuned.get("harmful"),
            "prompts": self.captured,
        }
        return {need for need, value in inputs.items() if value is not None}

    def subspaces(self, requested: tuple[str, ...] | None) -> tuple[str, ...]:
        """The requested subspaces, or all whose needs this family meets.

        Raises:
            ConfigError: an unknown name, a hypothesis of another kind, or one whose needs this family does not meet.
        """
        present = self.present
        for name in requested or ():
            hypothesis = find_hypothesis(name)
            if why := hypothesis.outside_grid:
                raise ConfigError(f"hypothesis {name!r} {why}: test it instead")
            if missing := hypothesis.missing(present):
                options = hypothesis.options_for(present)
                raise ConfigError(f"subspace {name!r} needs {missing}: give {options}, or leave the subspace out")
        return requested or tuple(name for name in SUBSPACES if not find_hypothesis(name).missing(present))

    def remark_on(self, claim: Hypothesis) -> str:
        """How a claim departs from its paper on these models, in one line; or empty."""
        tuned = self.finetuned.values()
        if claim.name == PLANTED and PLANTED not in [protected_claim(end.adapter or end.folder) for end in tuned]:
            return (
                "nothing was planted in these models: the claim is true only of models that safespan trained inside of "
                "it (studies/planted.yaml), here it is a random subspace"
            )
        return claim.remark_on(self.captured)

    def task_update(self, name: str, finetune: str) -> torch.Tensor:
        """Δ_T of one tensor, as `update`."""
        return update(name, self.aligned, self.finetuned[finetune])

    def removable(self, name: str, removal: str) -> torch.Tensor:
        """What an ablation takes a part of, float32: the `weights` W_A of one tensor, or its `alignment` update Δ_A.

        Of `rows`, it is W_A with each row of a matrix at length one.
        """
        if removal != "alignment":
            weights = self.aligned.load(name).to(device(), torch.float32, copy=True)
            return unit_rows(weights) if removal == "rows" else weights
        assert self.base is not None
        return update(name, self.base, self.aligned)

    def tensor(
        self, name: str, side: Side, seed: int, decompose: Decompose, finetune: str | None = None
    ) -> WeightTensor:
        """One weight tensor, the input of hypotheses, with Δ_T of the given fine-tune."""
        load = {"aligned": lambda: self.aligned.load(name).to(device(), torch.float32)}
        if self.base is not None:
            load["alignment"] = partial(update, name, self.base, self.aligned)
        ends = {"safety": self.safe, "harmful": self.finetuned.get("harmful")}
        ends["task"] = self.finetuned[finetune] if finetune else None
        there = {kind: end for kind, end in ends.items() if end is not None}
        load |= {kind: partial(update, name, self.aligned, end) for kind, end in there.items()}
        factors = {kind: partial(update_factors, name, self.aligned, end) for kind, end in there.items()}
        return WeightTensor(name, self.aligned.shapes[name], load, side, seed, decompose, self.captured, factors)
