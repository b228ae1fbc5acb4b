"""Hypotheses: claims about where safety lies in the weights, each a pure function of one matrix."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float

from safespan.errors import ConfigError, HypothesisError
from safespan.linalg.kernels import finite
from safespan.linalg.stacks import matrix_names
from safespan.settings.names import TESTS, Test, check_choices
from safespan.subspaces.captured import CapturedActivations
from safespan.subspaces.sides import Basis
from safespan.subspaces.training_claims import Frozen, Penalty, check_orthonormal
from safespan.subspaces.weight_matrix import GIVEN_BY, WeightMatrix, WeightTensor

Need = Literal["base", "safe", "harmful", "prompts", "task"]
"""Inputs of a hypothesis beside the aligned model: W_0, W_S, W_H, activations on useful and harmful prompts, Δ_T.

`task` is of subspaces that are made of the very fine-tune that they are tested on; edits read Δ_T in any case.
"""

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

Removal = Literal["weights", "rows", "alignment"]
"""What the ablation test takes out of W_A along a subspace: a part of W_A itself, of its rows as unit vectors (each row
keeps its norm), or of Δ_A (METHODS §7).
"""

Line = Literal["alignment", "safety", "harmful"]

_NEEDS = {
    "base": "a base model",
    "safe": "a safe model",
    "harmful": "a harmful fine-tune",
    "prompts": "useful and harmful prompts",
    "task": "a fine-tune",
}
"""Descriptions of the needs."""


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
    def of_task(self) -> bool:
        """Whether it is made of Δ_T: an edit, or a subspace of which each fine-tune has its own."""
        return self.kind in ("layers", "addition") or "task" in self.needs

    @property
    def outside_grid(self) -> str:
        """Why it is no subspace of the projection grid, which has one for all fine-tunes; empty if it can be."""
        if self.kind != "subspace":
            return "names no subspace"
        return "is a subspace of each fine-tune's own update, which the grid does not read" if self.of_task else ""

    @property
    def reads_base(self) -> bool:
        """Whether base has to be run on the prompts: the claim needs both."""
        return {"base", "prompts"} <= self.needs

    @property
    def tests(self) -> tuple[Test, ...]:
        """The tests that the claim can be put to (METHODS §7); what is made of Δ_T has the update test alone."""
        possible = ("update",) if self.of_task else _TESTS_OF[self.kind]
        return tuple(test for test in possible if test != "ablation" or self.removes is not None)

    def needs_of(self, test: Test) -> frozenset[str]:
        """The needs of one test: those of the claim, and base or another model where the test takes its update."""
        update = {"update": self.line, "ablation": "alignment" if self.removes == "alignment" else None}.get(test)
        return self.needs | {GIVEN_BY[update] or ""} if update else self.needs

    def missing(self, present: Collection[str], test: Test = "update") -> str:
        """The needs of a test that are not present, in words; empty if none is missing.

        A fine-tune never is: there is no update test without one, and no other test of a claim that needs it.
        """
        return " and ".join(_NEEDS[need] for need in self._lacking(present, test))

    def options_for(self, present: Collection[str], test: Test = "update") -> str:
        """The options of the command line that give what is missing."""
        return " and ".join(f"--{need}" for need in self._lacking(present, test))

    def fields_for(self, present: Collection[str], test: Test = "update") -> str:
        """The fields of a study that give what is missing."""
        fields = ("activations" if need == "prompts" else f"models.{need}" for need in self._lacking(present, test))
        return " and ".join(fields)

    def _lacking(self, present: Collection[str], test: Test) -> list[str]:
        return sorted(self.needs_of(test).difference(present, {"task"}))

    def remark_on(self, captured: CapturedActivations | None) -> str:
        """How the claim departs from its paper on a model with these activations, in one line; or empty."""
        return self.remark(captured) if self.remark and captured else ""

    def evaluate(self, tensor: "WeightTensor") -> list[Claim]:
        """The validated claim about every matrix of a tensor.

        Raises:
            HypothesisError: a claim is not a basis or an edit of the matrix, or an undeclared input was read.
        """
        claims, readable = [], self.needs | {"task"} if self.of_task else self.needs
        for number, name in enumerate(matrix_names(tensor.name, tensor.shape)):
            try:
                claim = self.function(WeightMatrix(tensor, number, readable))
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
    if removes and "task" in inputs:
        raise ConfigError(f"hypothesis {name!r} needs task, and the ablation test has no fine-tune: leave removes out")
    return lambda function: Hypothesis(name, claim, paper, function, inputs, kind, removes, line, made, remark)


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
        if not finite(claim.update) or not math.isfinite(claim.score):
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
        if not finite(columns):
            raise HypothesisError(f"its {which} basis holds NaN or Inf")
        check_orthonormal(columns, f"{which} basis is")
        if order is not None and sorted(order.tolist()) != list(range(columns.shape[1])):
            raise HypothesisError(f"its {which} order is no order of its {columns.shape[1]} columns")
    if claim.left is None and claim.right is None:
        raise HypothesisError("its basis has neither a left nor a right side; return None for no subspace")
