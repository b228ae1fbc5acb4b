"""Hypotheses: claims about where safety lies in the weights, each a pure function of one matrix."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float

from safespan.checkpoints.adapter import Factors
from safespan.errors import ConfigError, HypothesisError
from safespan.linalg.stacks import matrices, matrix_names
from safespan.settings.names import TESTS, Side, Test, check_choices
from safespan.subspaces.captured import CapturedActivations, RefusalCandidate
from safespan.subspaces.sides import Basis
from safespan.subspaces.spectrum import Decompose, Spectrum, decompose
from safespan.subspaces.training_claims import Frozen, Penalty, check_orthonormal

Need = Literal["base", "safe", "harmful", "prompts"]
"""Inputs of a hypothesis beside the aligned model: W_0, W_S, W_H, activations on useful and harmful prompts."""

Kind = Literal["subspace", "layers", "addition", "blocks", "penalty"]
KINDS: tuple[Kind, ...] = ("subspace", "layers", "addition", "blocks", "penalty")

_TESTS_OF: Mapping[Kind, tuple[Test, ...]] = {
    "subspace": TESTS,
    "layers": ("update",),
    "addition": ("update",),
    "blocks": ("training",),
    "penalty": ("training",),
}
"""The tests that claims of a kind can be put to; of a subspace, ablation only if it says what is removed."""

Removal = Literal["weights", "alignment"]
"""What the ablation test takes out of W_A along a subspace: a part of W_A itself, or of Δ_A (METHODS §7)."""

Line = Literal["alignment", "safety", "harmful"]

_NEEDS = {
    "base": "a base model",
    "safe": "a safe model",
    "harmful": "a harmful fine-tune",
    "prompts": "useful and harmful prompts",
}
"""Descriptions of the needs."""

_GIVEN_BY = {"aligned": None, "task": None, "alignment": "base", "safety": "safe", "harmful": "harmful"}
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
        """Δ_T, the update that an edit changes."""
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
        self._check(_GIVEN_BY.get(update))
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
        self._check(_GIVEN_BY.get(update))
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


@dataclass(frozen=True)
class Edit:
    """The edited update of one matrix.

    Attributes:
        update: [m, n], Δ' in place of Δ_T.
        score: of the kind `layers`, how safe the matrix is by the claim; the lowest are edited first.
    """

    update: Float[torch.Tensor, "m n"]
    score: float = 0.0


Claim = Basis | Edit | Frozen | Penalty | None
"""The claim of a hypothesis about one matrix; None where it makes none."""


@dataclass(frozen=True)
class Hypothesis:
    """A claim about where safety lies.

    Attributes:
        name: in study files and tables.
        claim: the claim, in one line.
        paper: URL.
        function: a matrix -> its basis, edit, score or penalty, or None where there is no claim about this matrix.
        needs: inputs beside the aligned model.
        kind: `subspace`: the function gives a `Basis`, kept or removed up to each fraction. `layers`: an `Edit`, made
            in the given fraction of the matrices, lowest score first. `addition`: an `Edit` that adds to Δ_T; the
            fraction scales what is added. `blocks`: `Frozen`; the given fraction of the model's blocks, contiguous,
            is frozen in training; the function is asked of matrices of blocks alone. `penalty`: a `Penalty` on the
            update in training, scaled by a setting λ; there is no fraction.
        removes: of a `subspace`, what the ablation test removes along it; None: the claim has no such test.
        line: of a `subspace`, the update (`alignment`, `safety`, `harmful`) along which 1-D tensors are projected; None
            where the claim does not speak of 1-D tensors, whose part in the subspace is then zero.
        authors_tests: the tests that the authors made, of the three; empty if they made none of them.
        remark: of captured activations -> how the claim departs from its paper on this model, in one line; or empty.
    """

    name: str
    claim: str
    paper: str
    function: Callable[[WeightMatrix], Claim]
    needs: frozenset[str]
    kind: Kind
    removes: Removal | None
    line: Line | None
    authors_tests: tuple[Test, ...] = ()
    remark: Callable[[CapturedActivations], str] | None = None

    @property
    def tests(self) -> tuple[Test, ...]:
        """The tests that the claim can be put to (METHODS §7): one of the three of all but subspaces."""
        return tuple(test for test in _TESTS_OF[self.kind] if test != "ablation" or self.removes is not None)

    def needs_of(self, test: Test) -> frozenset[str]:
        """The needs of one test: those of the claim, and base or another model where the test takes its update."""
        update = {"update": self.line, "ablation": "alignment" if self.removes == "alignment" else None}.get(test)
        return self.needs | {_GIVEN_BY[update] or ""} if update else self.needs

    def missing(self, present: Collection[str], test: Test = "update") -> str:
        """The needs of a test that are not present, in words; empty if none is missing."""
        return " and ".join(_NEEDS[need] for need in sorted(self.needs_of(test).difference(present)))

    def evaluate(self, tensor: "WeightTensor") -> list[Claim]:
        """The validated claim about every matrix of a tensor.

        Raises:
            HypothesisError: a claim is not a basis or an edit of the matrix, or an undeclared input was read.
        """
        claims = []
        for number, name in enumerate(matrix_names(tensor.name, tensor.shape)):
            try:
                claim = self.function(WeightMatrix(tensor, number, self.needs))
                _check(claim, (tensor.shape[-2], tensor.shape[-1]), self.kind)
            except HypothesisError as error:
                raise HypothesisError(f"hypothesis {self.name!r}, tensor {name}: {error}") from None
            claims.append(claim)
        return claims


def hypothesis(
    name: str,
    *,
    claim: str,
    paper: str,
    needs: Iterable[Need] = (),
    kind: Kind = "subspace",
    removes: Removal | None = None,
    line: Line | None = None,
    authors_tests: Iterable[Test] = (),
    remark: Callable[[CapturedActivations], str] | None = None,
) -> Callable[[Callable[[WeightMatrix], Claim]], Hypothesis]:
    """Decorator that makes a hypothesis of a function of one matrix; for the arguments see `Hypothesis`."""
    check_choices("need", needs, tuple(_NEEDS))
    check_choices("kind", [kind], KINDS)
    check_choices("test of the authors", authors_tests, TESTS)
    if kind != "subspace" and (removes or line):
        raise ConfigError(f"hypothesis {name!r} of kind {kind} is no subspace: removes and line are of a subspace")
    inputs, made = frozenset(needs), tuple(authors_tests)
    return lambda function: Hypothesis(name, claim, paper, function, inputs, kind, removes, line, made, remark)


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


def _check(claim: object, shape: tuple[int, int], kind: Kind) -> None:
    if claim is None:
        return
    expected: type = {"subspace": Basis, "blocks": Frozen, "penalty": Penalty}.get(kind, Edit)
    if not isinstance(claim, expected):
        raise HypothesisError(f"it returned {type(claim).__name__}, expected {expected.__name__} or None")
    if isinstance(claim, Frozen | Penalty):
        claim.check(shape)
        return
    if isinstance(claim, Edit):
        if tuple(claim.update.shape) != shape:
            raise HypothesisError(f"its update has shape {list(claim.update.shape)}, expected {list(shape)}")
        if not bool(claim.update.isfinite().all()) or not math.isfinite(claim.score):
            raise HypothesisError("its update or score holds NaN or Inf")
        return
    assert isinstance(claim, Basis)
    sides = (("left", claim.left, claim.left_order, shape[0]), ("right", claim.right, claim.right_order, shape[1]))
    for which, columns, order, size in sides:
        if columns is None:
            continue
        if columns.ndim != 2 or columns.shape[0] != size or columns.shape[1] > size:
            raise HypothesisError(
                f"its {which} basis has shape {list(columns.shape)}, expected {size} rows and at most {size} columns"
            )
        if not bool(columns.isfinite().all()):
            raise HypothesisError(f"its {which} basis holds NaN or Inf")
        check_orthonormal(columns, f"{which} basis is")
        if order is not None and sorted(order.tolist()) != list(range(columns.shape[1])):
            raise HypothesisError(f"its {which} order is no order of its {columns.shape[1]} columns")
    if claim.left is None and claim.right is None:
        raise HypothesisError("its basis has neither a left nor a right side; return None for no subspace")
