"""What is projected, and onto what: the checkpoints of a study and the grid of projections."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from safespan.checkpoints import Checkpoint
from safespan.choices import METHODS, SUBSPACES, check_choices, check_shares
from safespan.errors import ConfigError
from safespan.subspaces import CapturedActivations, Decompose, Hypothesis, Side, WeightTensor, find_hypothesis
from safespan.updates import check_same_layout, update

FRACTIONS = (0.01, 0.25, 0.5, 0.75, 0.99)
"""The paper's f."""


_NEEDS = {
    "base": "a base model",
    "safe": "a safe model",
    "harmful": "a harmful fine-tune",
    "prompts": "useful and harmful prompts",
}


def lacking(hypothesis: Hypothesis, has: Iterable[str]) -> str:
    """What a hypothesis needs beside what there is, in words; empty if it needs no more."""
    return " and ".join(_NEEDS[need] for need in sorted(hypothesis.needs - set(has)))


class Point(NamedTuple):
    """One projection of one fine-tune."""

    finetune: str
    subspace: str
    method: str
    fraction: float

    @property
    def name(self) -> str:
        """What it is called in file names."""
        return f"{self.finetune}-{self.subspace}-{self.method}-{self.fraction:g}"


class ProjectionGrid(BaseModel):
    """Which projections are made; each fine-tune gets all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subspaces: tuple[str, ...] | None = Field(None, description=f"of {', '.join(SUBSPACES)}; unset: all there is")
    methods: tuple[str, ...] = Field(("parallel", "orthogonal"), description=f"of {', '.join(METHODS)}")
    fractions: tuple[float, ...] = Field(FRACTIONS, description="f in (0, 1]: rank k = max(1, round(f·min(m, n)))")
    side: Side = Field("output", description="project outputs (as in the paper), inputs, or both")

    def points(self, subspaces: tuple[str, ...]) -> list[tuple[str, str, float]]:
        """(subspace, method, fraction) of every point, of one fine-tune.

        Raises:
            ConfigError: a fraction outside (0, 1], or a method that does not exist.
        """
        check_shares("fraction", self.fractions)
        check_choices("method", self.methods, METHODS)
        return list(product(subspaces, self.methods, self.fractions))


@dataclass(frozen=True)
class Family:
    """The checkpoints of one study: base, aligned, the fine-tunes of aligned, and the safe model if there is one.

    Attributes:
        base: W_0.
        aligned: W_A.
        finetuned: W_FT by name (useful, harmful, contaminated, …).
        safe: W_S, needed by the safety subspace.
        captured: activations of aligned on useful and harmful prompts, which some hypotheses need.
    """

    base: Checkpoint
    aligned: Checkpoint
    finetuned: Mapping[str, Checkpoint]
    safe: Checkpoint | None = None
    captured: CapturedActivations | None = None

    def names(self) -> list[str]:
        """Tensor names, the same in every member; raises CheckpointError otherwise."""
        others = [*self.finetuned.values(), *([self.safe] if self.safe else [])]
        return check_same_layout(self.aligned, self.base, *others)

    def subspaces(self, asked: tuple[str, ...] | None) -> tuple[str, ...]:
        """The subspaces asked for, or all that this family has.

        Raises:
            ConfigError: an unknown name, a claim that is no subspace, or one that needs what this family lacks.
        """
        for name in asked or ():
            hypothesis = find_hypothesis(name)
            if hypothesis.kind != "subspace":
                raise ConfigError(f"hypothesis {name!r} edits updates and names no subspace: test it instead")
            if lacking := self.lacks(hypothesis):
                raise ConfigError(f"subspace {name!r} needs {lacking}: give it, or leave the subspace out")
        return asked or tuple(name for name in SUBSPACES if not self.lacks(find_hypothesis(name)))

    def lacks(self, hypothesis: Hypothesis) -> str:
        """What a hypothesis needs and this family does not have, in words; empty if it has all."""
        has = {"base": True, "safe": self.safe, "harmful": "harmful" in self.finetuned, "prompts": self.captured}
        return lacking(hypothesis, [need for need, there in has.items() if there])

    def tensor(
        self, name: str, side: Side, seed: int, decompose: Decompose, finetune: str | None = None
    ) -> WeightTensor:
        """One weight tensor as hypotheses see it, with Δ_T of the fine-tune named."""
        load = {
            "aligned": lambda: self.aligned.load(name).float(),
            "alignment": lambda: update(name, self.base, self.aligned),
        }
        ends = {"safety": self.safe, "harmful": self.finetuned.get("harmful")}
        ends["task"] = self.finetuned[finetune] if finetune else None
        load |= {kind: partial(update, name, self.aligned, end) for kind, end in ends.items() if end}
        return WeightTensor(name, self.aligned.shapes[name], load, side, seed, decompose, self.captured)
