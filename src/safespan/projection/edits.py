"""Updates that a claim edits: Δ' in place of Δ_T, tensor by tensor."""

from collections.abc import Mapping

import torch

from safespan.linalg.parallel import parallel_map
from safespan.linalg.stacks import matrices, matrix_names
from safespan.projection.family import Family
from safespan.settings.names import Side
from safespan.subspaces import Decompose, Edit, Hypothesis


def lowest(scores: Mapping[str, float], fraction: float) -> frozenset[str]:
    """The fraction of the matrices that has the lowest scores: those that a claim of kind `layers` edits."""
    ranked = sorted(scores, key=lambda label: scores[label])
    return frozenset(ranked[: round(fraction * len(ranked))])


def edited_matrix(hypothesis: Hypothesis, matrix: torch.Tensor, edit: Edit, fraction: float) -> torch.Tensor:
    """Δ' of one matrix of Δ_T that is edited; the fraction is that of an addition."""
    return matrix + fraction * (edit.update - matrix) if hypothesis.kind == "addition" else edit.update


class Edits:
    """Computes Δ' of the kinds `layers` and `addition`; scores are computed once for each claim and fine-tune.

    Args:
        family: the checkpoints.
        side: of the bases of singular vectors.
        seed: of the random choices.
        decompose: how updates are decomposed.
    """

    def __init__(self, family: Family, side: Side, seed: int, decompose: Decompose) -> None:
        self._family, self._side, self._seed, self._decompose = family, side, seed, decompose
        self._names = family.names()
        self._scores: dict[tuple[str, str], dict[str, float]] = {}

    def edited(self, name: str, hypothesis: Hypothesis, finetune: str, fraction: float) -> torch.Tensor:
        """Δ' of one tensor: in the fraction of matrices with the lowest scores, or that fraction of an addition."""
        chosen = self.chosen(hypothesis, finetune, fraction) if hypothesis.kind == "layers" else frozenset[str]()
        delta = self._family.task_update(name, finetune)
        labels = matrix_names(name, tuple(delta.shape))
        touched = hypothesis.kind == "addition" or not chosen.isdisjoint(labels)
        edits = self._of(hypothesis, name, finetune) if touched else [None] * len(labels)
        for label, matrix, edit in zip(labels, matrices(delta), edits, strict=True):
            if edit and (hypothesis.kind == "addition" or label in chosen):
                matrix.copy_(edited_matrix(hypothesis, matrix, edit, fraction))
        return delta

    def chosen(self, hypothesis: Hypothesis, finetune: str, fraction: float) -> frozenset[str]:
        """Names of the matrices that are edited at this fraction. Called once before `edited` is used in threads."""
        key = (finetune, hypothesis.name)
        if key not in self._scores:

            def scores(name: str) -> list[tuple[str, float]]:
                edits = self._of(hypothesis, name, finetune)
                labels = matrix_names(name, self._family.aligned.shapes[name])
                return [(label, edit.score) for label, edit in zip(labels, edits, strict=True) if edit]

            self._scores[key] = dict(pair for pairs in parallel_map(scores, self._names) for pair in pairs)
        return lowest(self._scores[key], fraction)

    def _of(self, hypothesis: Hypothesis, name: str, finetune: str) -> list[Edit | None]:
        tensor = self._family.tensor(name, self._side, self._seed, self._decompose, finetune)
        return [edit if isinstance(edit, Edit) else None for edit in hypothesis.evaluate(tensor)]
