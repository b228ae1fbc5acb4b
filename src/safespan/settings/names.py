"""The values that options can have, and checks of them."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from safespan.errors import ConfigError

FINETUNES = ("useful", "harmful", "contaminated", "finetuned")
"""Roles of the fine-tunes whose updates are projected; finetuned: any other, such as a user's own."""

ROLES = ("base", "aligned", *FINETUNES, "safe")
"""All roles of a study's models."""

SUBSPACES = ("alignment", "safety", "random-k", "random")
"""Leading singular vectors of Δ_A, of Δ_S, those of Δ_A in random order, Haar-random ones (METHODS §2)."""

HYPOTHESES = (
    *SUBSPACES,
    "harmful-update",
    "safelora",
    "safelora-projector",
    "lox",
    "safemerge",
    "safemerge-factors",
    "refusal-direction",
    "refusal-directions",
    "actsvd",
    "actsvd-orthogonal",
    "activation-null",
)
"""The hypotheses of this package (`subspaces/hypotheses/`) that are tested where a study names none."""

PLANTED = "planted"
"""The hypothesis that is true of a planted family by construction."""

NAMED_ONLY: tuple[str, ...] = (
    PLANTED,
    "resta",
    "lssf",
    "lssf-update",
    "csulora",
    "task-update",
    "refusal-direction-orthogonal",
    "refusal-direction-norms",
    "refusal-direction-orthogonal-norms",
    "harmfulness-direction",
    "safety-neurons",
    "set-difference-neurons",
    "fine-grained-neurons",
    "safety-residual",
    "refusal-som",
    "guardspace",
    "safety-layers",
    "asft",
)
"""Hypotheses that are tested only where a study names them: each takes as long as one of the others."""

SYMBOLS = (
    "Δ_A: alignment update, aligned − base. Δ_T: update of the fine-tune that is tested. Δ_H, Δ_S: updates of the "
    "harmful fine-tune and of the safety-tuned model. All but Δ_A are differences to the aligned model."
)
"""What the symbols in the claims of hypotheses mean."""

METHODS = ("parallel", "orthogonal", "opposite")
"""The change that is added to the aligned weights: P, Δ_T − P, −P (METHODS §2)."""

EDIT, ABLATION = "edit", "ablation"
"""The change of a claim that edits updates, and of one whose directions are removed from the aligned model."""

SIDES = ("output", "input", "both")
"""Side of the bases: outputs of a matrix, its inputs, or both."""

SIDE_MEANING = (
    "side of each matrix that singular vectors are taken from: output (as in arXiv 2505.14185), input or both"
)

Side = Literal["output", "input", "both"]

Keep = Literal["outside", "inside"]
"""Where a training keeps its update, of a protected subspace."""

Vocabulary = Literal["shared", "refuse"]
VOCABULARIES = ("shared", "refuse")
"""What is done with models that have other numbers of tokens: the rows that all have are compared, or it is refused."""

Test = Literal["update", "ablation", "training"]

TESTS: tuple[Test, ...] = ("update", "ablation", "training")
"""The tests of a claim (METHODS §7): project a finished update, ablate the aligned model, protect it in training."""

GRANULARITIES = ("tensor", "layer")
"""Units whose updates are compared (METHODS §3)."""

ENGINES = ("local", "ray")
"""Execution in this process, or on a Ray cluster."""


@cache
def foreign_hypotheses() -> dict[str, EntryPoint]:
    """Hypotheses of other packages, by name, from the entry points `safespan.hypotheses`; ours count first."""
    entries = {entry.name: entry for entry in entry_points(group="safespan.hypotheses")}
    return {name: entry for name, entry in entries.items() if name not in (*HYPOTHESES, *NAMED_ONLY)}


def hypothesis_names() -> tuple[str, ...]:
    """Names of all hypotheses."""
    return (*HYPOTHESES, *sorted(foreign_hypotheses()), *NAMED_ONLY)


def grid_subspaces() -> tuple[str, ...]:
    """The subspaces that need no prompts, and all claims of other packages, whose kind is not known here."""
    return (*SUBSPACES, "harmful-update", *sorted(foreign_hypotheses()), PLANTED)


def tested_by_default() -> tuple[str, ...]:
    """The hypotheses that are tested when a study names none."""
    return tuple(name for name in hypothesis_names() if name not in NAMED_ONLY)


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """A message about a name that does not exist: the nearest one that does, or all of them if none is near."""
    near = get_close_matches(name, known, 1)
    to_do = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
    return f"unknown {kind} {name!r}: {to_do}"


def repeated(values: Sequence[object]) -> str:
    """A message about the first value that is given more than once; empty if there is none.

    Each value stands for work with one record, so that two of them would be one too many.
    """
    twice = next((value for number, value in enumerate(values) if value in values[:number]), None)
    return "" if twice is None else f"{twice!r} is given twice: leave one of them out"


def check_once(kind: str, values: Sequence[object]) -> None:
    """Raise ConfigError if a value is given more than once."""
    if problem := repeated(values):
        raise ConfigError(f"{kind}: {problem}")


def check_choices(kind: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Raise ConfigError unless every name is known."""
    for name in names:
        if name not in known:
            raise ConfigError(unknown(kind, name, known))


def check_shares(kind: str, shares: Iterable[float]) -> None:
    """Raise ConfigError unless every share is in (0, 1]."""
    for share in shares:
        if not 0 < share <= 1:
            raise ConfigError(f"{kind} {share} is outside (0, 1]")
