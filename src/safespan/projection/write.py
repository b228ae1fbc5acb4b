"""Writing of one model that a claim makes: a LoRA adapter where its update allows it, else a full checkpoint."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from safespan.checkpoints import AdaptedCheckpoint, Checkpoint, write_checkpoint
from safespan.checkpoints.adapter import Factors
from safespan.checkpoints.updates import adapts, check_memory, rounded
from safespan.checkpoints.writer import write_adapter
from safespan.linalg.kernels import squared_norm
from safespan.linalg.low_rank import low_rank
from safespan.linalg.parallel import parallel_map
from safespan.linalg.stacks import matrices
from safespan.progress import track
from safespan.projection.claimed import ClaimedChange, ClaimPoint
from safespan.projection.family import Family
from safespan.settings.analysis import ProjectionGrid
from safespan.subspaces import Decompose, decompose

_RANK = 16
"""A rank that an adapter may have in any case."""


@dataclass(frozen=True)
class Written:
    """A model that is written.

    Attributes:
        rank: of the adapter; None of a full checkpoint.
        why_full: why it is a full checkpoint and no adapter, in words; empty of an adapter.
        rounding_error: ‖stored − exact‖_F / ‖applied update‖_F over all tensors; NaN if nothing was applied. From 1 on
            the update is not larger than the rounding of its number format.
        changed: number of matrices that the claim changes, of the fine-tune, or of the aligned model by an ablation.
        matrices: number of matrices.
    """

    rank: int | None
    why_full: str
    rounding_error: float
    changed: int
    matrices: int


def write_projected(
    family: Family, grid: ProjectionGrid, seed: int, out: Path, decompose: Decompose = decompose
) -> float:
    """Write W_A plus the projected update of the one fine-tune at the one point of `grid`, as a full checkpoint.

    Args:
        family: the checkpoints, with one fine-tune.
        grid: one subspace, method and fraction.
        seed: of the random subspaces.
        out: the folder to write.
        decompose: how updates are decomposed; a cache's if it should remember.

    Returns:
        `Written.rounding_error`.
    """
    [(subspace, method, fraction)] = grid.points(family.subspaces(grid.subspaces))
    [finetune] = family.finetuned
    point = ClaimPoint(subspace, method, fraction, grid.side, seed)
    return write_claimed(family, point, finetune, out, decompose, full=True).rounding_error


def write_claimed(
    family: Family,
    point: ClaimPoint,
    finetune: str | None,
    out: Path,
    decompose: Decompose = decompose,
    full: bool = False,
    about: Mapping[str, object] | None = None,
) -> Written:
    """Write the model that a claim makes: W_A plus the changed update of a fine-tune, or W_A with an ablation.

    It is an adapter of the aligned model if the fine-tune is one, and the claim leaves an update of low rank in the
    matrices that this adapter changes. A full checkpoint is in W_A's stored dtype.

    Args:
        family: the checkpoints, with what the claim needs.
        point: of the claim.
        finetune: name of the fine-tune in `family`; None of an ablation.
        out: the folder to write.
        decompose: how updates are decomposed; a cache's if it should remember.
        full: write a full checkpoint in any case.
        about: more to be recorded in `safespan.json`.
    """
    names = family.names()
    check_memory(family.aligned.shapes)
    members: dict[str, Checkpoint | None] = {"base": family.base, "aligned": family.aligned, "safe": family.safe}
    there = {role: one for role, one in (members | dict(family.finetuned)).items() if one is not None}
    hashes = parallel_map(lambda member: member.sha256(), there.values())
    provenance: dict[str, Any] = {
        "made_by": "safespan project",
        "models": {role: one.name for role, one in there.items()},
        "finetune": finetune,
        "settings": asdict(point),
        "sha256": dict(zip(there, hashes, strict=True)),
        **(about or {}),
    }
    change = ClaimedChange(family, point, finetune, decompose)
    why = "it was asked for"
    if not full:
        made = _adapter(family, change, finetune, names)
        if isinstance(made, _Adapter):
            return made.write(out, provenance)
        why = made
    return _full(family, change, names, out, provenance, why)


@dataclass
class _Sums:
    """What is summed over the tensors: ‖stored − exact‖², ‖exact‖², and the matrices that the claim changes."""

    rounding: float = 0.0
    whole: float = 0.0
    changed: int = 0
    matrices: int = 0

    def add(self, rounding: float, whole: float, added: list[bool]) -> None:
        """Count one tensor; `added`: of each of its matrices, whether the claim changes it."""
        self.rounding, self.whole = self.rounding + rounding, self.whole + whole
        self.changed, self.matrices = self.changed + sum(added), self.matrices + len(added)

    def written(self, rank: int | None, why_full: str) -> Written:
        error = (self.rounding / self.whole) ** 0.5 if self.whole else float("nan")
        return Written(rank, why_full, error, self.changed, self.matrices)


@dataclass(frozen=True)
class _Adapter:
    """The adapter of a claim: factors of the update of each tensor that the fine-tune's adapter changes."""

    like: AdaptedCheckpoint
    factors: dict[str, Factors]
    sums: _Sums

    def write(self, out: Path, provenance: dict[str, Any]) -> Written:
        """Write it; all its factors are padded to one rank."""
        rank = max(1, *(len(right) for _, right in self.factors.values()))
        written = self.sums.written(rank, "")
        write_adapter(out, self.like, self.factors, rank, {**provenance, "rounding_error": written.rounding_error})
        return written


def _adapter(family: Family, change: ClaimedChange, finetune: str | None, names: list[str]) -> _Adapter | str:
    """The adapter of the claim, or why there is none.

    A rank of up to twice that of the fine-tune's adapter is allowed, and up to 16 where that is more, as long as the
    factors are smaller than the matrix.
    """
    if finetune is None:
        return "an ablation changes the aligned model itself"
    like = family.finetuned[finetune]
    if not isinstance(like, AdaptedCheckpoint) or not adapts(like, family.aligned):
        return "the fine-tune is no adapter of the aligned model"
    ranks = like.linear_ranks()
    if others := sorted(like.changed - ranks.keys()):
        return f"the adapter changes {others[0]} in another way than by B·A of a linear layer"

    def made(name: str) -> tuple[Factors | None, float, float, list[bool]] | str:
        added, before = change.of(name)
        touched, whole = _touched(added, before), squared_norm(added)
        if name not in ranks:
            return (None, 0.0, 0.0, touched) if not whole else f"it changes {name}, which the adapter leaves as it is"
        m, n = added.shape
        most = max(ranks[name], min(max(2 * ranks[name], _RANK), (m * n - 1) // (m + n)))
        # What float32 arithmetic leaves of the full rank is no part of the update.
        tolerance = 1e-5 * whole**0.5 + 1e-6 * squared_norm(before) ** 0.5
        found = low_rank(added, most, tolerance)
        if found is None:
            return f"the update that it leaves in {name} has a rank above {most}"
        return (found.left, found.right), found.error, whole, touched

    factors: dict[str, Factors] = {}
    sums = _Sums()
    for name, result in zip(names, track("tensors", parallel_map(made, names), len(names)), strict=True):
        if isinstance(result, str):
            return result
        if result[0] is not None:
            factors[name] = result[0]
        sums.add(*result[1:])
    return _Adapter(like, factors, sums)


def _touched(added: torch.Tensor, before: torch.Tensor) -> list[bool]:
    """Of each matrix, whether the claim changes it."""
    return [not torch.equal(*pair) for pair in zip(matrices(added), matrices(before), strict=True)]


def _full(
    family: Family, change: ClaimedChange, names: list[str], out: Path, provenance: dict[str, Any], why: str
) -> Written:
    # With an adapter, W_A is loaded in fp32, but stored in the dtype of its base, as in config.json.
    stored = Checkpoint(family.aligned.folder)
    sums = _Sums()

    def made(name: str) -> tuple[torch.Tensor, float, float, list[bool]]:
        added, before = change.of(name)
        exact = added + family.aligned.load(name, finite=False).to(added)
        kept = rounded(name, exact, stored.dtype(name))
        return kept.cpu(), squared_norm(exact - kept), squared_norm(added), _touched(added, before)

    def stream() -> Iterator[tuple[str, torch.Tensor]]:
        results = track("tensors", parallel_map(made, names), len(names))
        for name, (kept, rounding, whole, touched) in zip(names, results, strict=True):
            sums.add(rounding, whole, touched)
            yield name, kept
        provenance["rounding_error"] = sums.written(None, why).rounding_error

    provenance["full_checkpoint_because"] = why
    write_checkpoint(out, stored.whole(stream()), family.aligned.folder, provenance, adapter=family.aligned.adapter)
    return sums.written(None, why)
