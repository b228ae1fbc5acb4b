"""The names that options choose from, and their checks."""

from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from safespan.errors import ConfigError

FINETUNES = ("useful", "harmful", "contaminated")
"""Roles of the fine-tunes whose updates are projected."""

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
    "refusal-direction",
    "refusal-directions",
    "actsvd",
    "actsvd-orthogonal",
    "activation-null",
)
"""The claims that come with safespan (`subspaces/hypotheses/`)."""

PLANTED = "planted"
"""The claim that holds in a planted family by construction: tested where it is named, and nowhere else."""

METHODS = ("parallel", "orthogonal", "opposite")
"""What is added to the aligned weights: P, Δ_T − P, −P (METHODS §2)."""

SIDES = ("output", "input", "both")
"""Where bases lie: outputs of a matrix (as in the paper), its inputs, or both."""

Side = Literal["output", "input", "both"]

GRANULARITIES = ("tensor", "layer")
"""What update overlap is measured of (METHODS §3)."""

ENGINES = ("local", "ray")
"""Where work runs: in this process, or on a Ray cluster."""


def foreign_hypotheses() -> dict[str, EntryPoint]:
    """Hypotheses of other packages, by name, from the entry points `safespan.hypotheses`; ours count first."""
    entries = {entry.name: entry for entry in entry_points(group="safespan.hypotheses")}
    return {name: entry for name, entry in entries.items() if name not in (*HYPOTHESES, PLANTED)}


def hypothesis_names() -> tuple[str, ...]:
    """All hypotheses there are."""
    return (*HYPOTHESES, *sorted(foreign_hypotheses()), PLANTED)


def tested_by_default() -> tuple[str, ...]:
    """What a study tests that names none."""
    return tuple(name for name in hypothesis_names() if name != PLANTED)


def check_choices(kind: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise ConfigError unless every name given is known."""
    for name in given:
        if name not in known:
            raise ConfigError(f"unknown {kind} {name!r}: expected one of {', '.join(known)}")


def check_shares(kind: str, given: Iterable[float]) -> None:
    """Raise ConfigError unless every share given is in (0, 1]."""
    for share in given:
        if not 0 < share <= 1:
            raise ConfigError(f"{kind} {share} is outside (0, 1]")
