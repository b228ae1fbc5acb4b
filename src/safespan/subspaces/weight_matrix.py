"""One weight matrix, and the tensor that it stands in: the input of hypotheses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float

from safespan.checkpoints.adapter import Factors
from safespan.errors import HypothesisError
from safespan.linalg.stacks import matrices, matrix_names
from safespan.settings.names import Side
from safespan.subspaces.captured import CapturedActivations, Made, RefusalCandidate
from safespan.subspaces.spectrum import Decompose, Spectrum, decompose

GIVEN_BY = {"aligned": None, "task": "task", "alignment": "base", "safety": "safe", "harmful": "harmful"}
"""Tensor -> the need that provides it."""


class WeightMatrix:
    """One m × n weight matrix, the input of a hypothesis. Everything is read on first use.

    Attributes:
        name: of the tensor, followed by `[expert]` for a matrix of a stack.
        shape: (m, n).
        side: of the bases of singular vectors.
        seed: of random choices.
    """

    def __init__(self, tensor: "WeightTensor", number: int, needs: frozenset[str]) -> None:
        self._tensor, self._number, self._needs = tensor, number, needs
        self.name = matrix_names(tensor.name, tensor.shape)[number]
        self.shape = (tensor.shape[-2], tensor.shape[-1])
        self.side, self.seed = tensor.side, tensor.seed

    @property
    def aligned(self) -> Float[torch.Tensor, "m n"]:
        """W_A."""
        return self.read("aligned")

    @property
    def task(self) -> Float[torch.Tensor, "m n"]:
        """Δ_T, the update that an edit changes (a subspace needs task)."""
        return self.read("task")

    @property
    def alignment(self) -> Float[torch.Tensor, "m n"]:
        """Δ_A (needs base)."""
        return self.read("alignment")

    @property
    def safety(self) -> Float[torch.Tensor, "m n"]:
        """Δ_S (needs safe)."""
        return self.read("safety")

    @property
    def harmful(self) -> Float[torch.Tensor, "m n"]:
        """Δ_H (needs harmful)."""
        return self.read("harmful")

    def read(self, update: str) -> Float[torch.Tensor, "m n"]:
        """The update, or `aligned`, of that name.

        Raises:
            HypothesisError: the hypothesis did not declare this need, or there is no such update.
        """
        self._check(GIVEN_BY.get(update))
        return list(matrices(self._tensor.whole(update)))[self._number]

    def spectrum(self, update: str, side: Literal["output", "input"] = "output") -> Spectrum:
        """Singular vectors of an update, of its outputs or its inputs; decomposed once for all hypotheses."""
        matrix, key, spectra = self.read(update), (update, self._number, side), self._tensor.spectra
        if key not in spectra:
            spectra[key] = self._tensor.decompose(matrix if side == "output" else matrix.T)
        return spectra[key]

    def factors(self, update: str) -> Factors | None:
        """B [m, r] and A [r, n] with Δ = B·A, the scaling shared equally, of an update that an adapter makes.

        None for any other update, and where the adapter leaves this matrix as it is.
        """
        self._check(GIVEN_BY.get(update))
        given = self._tensor.factors.get(update)
        return given() if given and len(self._tensor.shape) == 2 else None

    def inputs(self, prompts: str) -> Float[torch.Tensor, "N n"] | None:
        """Inputs of this matrix at the last token of each `useful` or `harmful` prompt (needs prompts).

        None for an embedding, which has no inputs, and for an expert that is given none of these tokens. Of other
        experts, the inputs are those of the prompts whose last token they are given.
        """
        return self._captured.inputs(prompts, self.name)

    def residual_stream(self, prompts: str) -> dict[int, Float[torch.Tensor, "N d"]]:
        """The residual stream after each block at the last token of `useful` or `harmful` prompts (needs prompts)."""
        return self._captured.residual_stream(prompts)

    def residual_after(self, prompts: str, layer: int) -> Float[torch.Tensor, "N d"]:
        """The residual stream after block `layer` = 1 … L alone, as in `residual_stream`."""
        return self._captured.residual_after(prompts, layer)

    def instruction_after(self, prompts: str, layer: int) -> Float[torch.Tensor, "N d"] | None:
        """As `residual_after`, at the last token of the user's instruction in each prompt.

        Without a chat template it is the last token of the prompt. None where the template rewrites an instruction.
        """
        return self._captured.instruction_after(prompts, layer)

    def base_after(self, prompts: str, layer: int) -> Float[torch.Tensor, "N d"]:
        """As `residual_after`, of the base model on the same tokens (needs base and prompts)."""
        self._check("base")
        return self._captured.base_after(prompts, layer)

    @property
    def layers(self) -> int:
        """L, the number of blocks (needs prompts)."""
        return self._captured.layers

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What depends on the activations alone, under the hypothesis's name: computed once for all matrices."""
        return self._captured.once(name, make)

    def refusal_candidates(self) -> dict[int, RefusalCandidate]:
        """The difference of means of each early layer, and what it does to refusals (needs prompts)."""
        return self._captured.refusal_candidates()

    @property
    def _captured(self) -> CapturedActivations:
        self._check("prompts")
        assert self._tensor.captured is not None
        return self._tensor.captured

    def _check(self, need: str | None) -> None:
        if need is not None and need not in self._needs:
            raise HypothesisError(f"it reads what needs {need!r}, and declares {sorted(self._needs) or 'no needs'}")


@dataclass(frozen=True, eq=False)
class WeightTensor:
    """One weight tensor with its updates and decompositions, each computed once.

    Attributes:
        name: of the tensor.
        shape: of the tensor.
        load: readers of `aligned`, `task`, `alignment`, `safety` and `harmful` of this tensor.
        side: of the bases of singular vectors.
        seed: of random choices.
        decompose: how updates are decomposed.
        captured: activations on prompts, if there are any.
        factors: readers of the factors of updates that adapters can make.
        spectra: decompositions so far, by update, number of the matrix and side.
    """

    name: str
    shape: tuple[int, ...]
    load: Mapping[str, Callable[[], torch.Tensor]]
    side: Side
    seed: int
    decompose: Decompose = decompose
    captured: CapturedActivations | None = None
    factors: Mapping[str, Callable[[], Factors | None]] = field(default_factory=dict)
    _read: dict[str, torch.Tensor] = field(default_factory=dict, init=False)
    spectra: dict[tuple[str, int, str], Spectrum] = field(default_factory=dict, init=False)

    def whole(self, update: str) -> torch.Tensor:
        """The update, or `aligned`, in the shape of the tensor."""
        if update not in self.load:
            raise HypothesisError(f"it reads {update!r}, and there is {', '.join(sorted(self.load))}")
        if update not in self._read:
            self._read[update] = self.load[update]()
        return self._read[update]
