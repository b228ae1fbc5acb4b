"""The change of the aligned weights that a claim makes, tensor by tensor: that of its update or its ablation test."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import torch

from safespan.errors import ConfigError
from safespan.projection.ablation import taken_out
from safespan.projection.edits import Edits
from safespan.projection.family import Family
from safespan.projection.tensor import TensorProjection, applied, directions
from safespan.settings.names import ABLATION, EDIT, Side, Test
from safespan.subspaces import Decompose, Hypothesis, find_hypothesis

_QUARTER = 0.25


@dataclass(frozen=True)
class ClaimPoint:
    """One model that a claim makes.

    Attributes:
        hypothesis: its name.
        method: `parallel`, `orthogonal` or `opposite` of a subspace; `edit` of a claim that edits updates; `ablation`:
            what the claim names is removed from the aligned model.
        fraction: f: the share of the directions, or of the matrices that are edited; of an addition, its factor.
        side: of bases of singular vectors.
        seed: of random subspaces.
    """

    hypothesis: str
    method: str
    fraction: float
    side: Side = "output"
    seed: int = 0


def claim_point(
    name: str,
    method: str | None,
    fraction: float | None,
    side: Side,
    seed: int,
    present: Collection[str],
    finetuned: bool,
) -> ClaimPoint:
    """The point that is asked for, with what is left open filled in.

    Args:
        name: of the claim.
        method: None: `edit` of a claim that edits updates; of a subspace `orthogonal` with a fine-tune, and `ablation`
            without one.
        fraction: None: 1 of an addition, which is the strength of its paper; 0.25 of others.
        side: of bases of singular vectors.
        seed: of random subspaces.
        present: the inputs that are given, of `base`, `safe`, `harmful` and `prompts`.
        finetuned: whether there is a fine-tune.

    Raises:
        ConfigError: the claim writes no weights, has no such method, or lacks an input.
    """
    claim = find_hypothesis(name)
    if claim.tests == ("training",):
        raise ConfigError(
            f"hypothesis {name!r} has the training test alone and changes no finished model: protect it in a training "
            f"(safespan train, --set protect.hypothesis={name})"
        )
    edits = claim.kind != "subspace"
    if method is None:
        method = EDIT if edits else "orthogonal" if finetuned or claim.removes is None else ABLATION
    _check_method(claim, method, finetuned)
    test: Test = "ablation" if method == ABLATION else "update"
    if missing := claim.missing(present, test):
        raise ConfigError(
            f"hypothesis {name!r} with the method {method} needs {missing}: give {claim.options_for(present, test)}"
        )
    if fraction is None:
        fraction = 1.0 if claim.kind == "addition" else _QUARTER
    return ClaimPoint(name, method, fraction, side, seed)


def _check_method(claim: Hypothesis, method: str, finetuned: bool) -> None:
    name = claim.name
    if claim.kind != "subspace" and method != EDIT:
        raise ConfigError(f"hypothesis {name!r} edits the update of a fine-tune: its only method is {EDIT}")
    if claim.kind == "subspace" and method == EDIT:
        raise ConfigError(
            f"hypothesis {name!r} is a subspace: its methods are parallel, orthogonal and opposite, and {ABLATION}"
        )
    if method == ABLATION and claim.removes is None:
        raise ConfigError(f"hypothesis {name!r} has no ablation test: give a fine-tune and another method")
    if method == ABLATION and finetuned:
        raise ConfigError(f"the method {ABLATION} changes the aligned model: leave the fine-tune out")
    if method != ABLATION and not finetuned:
        raise ConfigError(f"hypothesis {name!r} with the method {method} changes a fine-tune: give --finetuned")


class ClaimedChange:
    """Computes the change of W_A at one point, in any order of tensors and in several threads.

    Args:
        family: the checkpoints, with what the claim needs.
        point: of the claim.
        finetune: name of the fine-tune in `family`; None of an ablation.
        decompose: how updates are decomposed.
    """

    def __init__(self, family: Family, point: ClaimPoint, finetune: str | None, decompose: Decompose) -> None:
        self._family, self._point, self._finetune = family, point, finetune
        self._claim = find_hypothesis(point.hypothesis)
        whole_prefix = point.hypothesis in ("alignment", "safety")  # a part of their singular vectors is enough
        self._decompose = partial(decompose, fraction=point.fraction) if whole_prefix else decompose
        self._edits = Edits(family, point.side, point.seed, decompose)
        if finetune is not None and self._claim.kind == "layers":
            self._edits.chosen(self._claim, finetune, point.fraction)  # before several threads ask

    def of(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """What is added to one tensor of W_A, and what would be without the claim: Δ_T, or nothing of an ablation."""
        point = self._point
        if self._finetune is None:
            change = self._ablated(name)
            return change, torch.zeros_like(change)
        delta = self._family.task_update(name, self._finetune)
        if point.method == EDIT:
            return self._edits.edited(name, self._claim, self._finetune, point.fraction), delta
        if not bool(delta.any()):  # no part of it is in any subspace
            return delta, delta
        return applied(point.method, delta, self._inside(name, delta)), delta

    def _ablated(self, name: str) -> torch.Tensor:
        removes = self._claim.removes
        assert removes is not None
        whole = self._family.removable(name, removes)
        part = torch.zeros_like(whole) if whole.ndim < 2 else self._inside(name, whole)
        return taken_out(self._family, name, removes, part)

    def _inside(self, name: str, whole: torch.Tensor) -> torch.Tensor:
        point, of_task = self._point, self._finetune if self._claim.of_task else None
        tensor = self._family.tensor(name, point.side, point.seed, self._decompose, of_task)
        return TensorProjection(whole, directions(tensor, point.hypothesis)).parallel(point.fraction)
