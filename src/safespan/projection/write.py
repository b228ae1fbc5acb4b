"""Writing of one projected checkpoint."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from safespan.checkpoints import Checkpoint, write_checkpoint
from safespan.checkpoints.updates import check_memory, rounded, update
from safespan.linalg.kernels import squared_norm
from safespan.linalg.parallel import parallel_map
from safespan.progress import track
from safespan.projection.family import Family
from safespan.projection.tensor import applied, directions, projections
from safespan.settings.analysis import ProjectionGrid
from safespan.subspaces import Decompose, decompose


def write_projected(
    family: Family, grid: ProjectionGrid, seed: int, out: Path, decompose: Decompose = decompose
) -> float:
    """Write W_A plus the projected update of the one fine-tune at the one point of `grid`, in W_A's stored dtype.

    Args:
        family: the checkpoints, with one fine-tune.
        grid: one subspace, method and fraction.
        seed: of the random subspaces.
        out: the folder to write.
        decompose: how updates are decomposed; a cache's if it should remember.

    Returns:
        Rounding error: ‖stored − exact‖_F / ‖applied update‖_F over all tensors (NaN if nothing was applied).
    """
    names, subspaces = family.names(), family.subspaces(grid.subspaces)
    [(subspace, method, fraction)] = grid.points(subspaces)
    [(label, finetuned)] = family.finetuned.items()
    members = {"base": family.base, "aligned": family.aligned, label: finetuned}
    check_memory(family.aligned.shapes)

    def hashed(member: tuple[str, Checkpoint]) -> tuple[str, str]:
        return member[0], member[1].sha256()

    provenance: dict[str, object] = {
        "made_by": "safespan project",
        "base": family.base.name,
        "aligned": family.aligned.name,
        "finetuned": {label: finetuned.name},
        "settings": {"subspace": subspace, "method": method, "fraction": fraction, "side": grid.side, "seed": seed},
        "sha256": dict(parallel_map(hashed, members.items())),
    }
    leading = partial(decompose, fraction=fraction) if subspace in ("alignment", "safety") else decompose
    errors = {"rounding": 0.0, "applied": 0.0}
    # With an adapter, W_A is loaded in fp32, but stored in the dtype of its base, as in config.json.
    stored = Checkpoint(family.aligned.folder)

    def projected(name: str) -> tuple[torch.Tensor, float, float]:
        delta = update(name, family.aligned, finetuned)
        known = directions(family.tensor(name, grid.side, seed, leading), subspaces)
        [(_, projection)] = projections(delta, known)
        change = applied(method, delta, projection.parallel(fraction))
        exact = change + family.aligned.load(name, finite=False).to(change)
        kept = rounded(name, exact, stored.load(name, finite=False).dtype)
        return kept.cpu(), squared_norm(exact - kept), squared_norm(change)

    def stream() -> Iterator[tuple[str, torch.Tensor]]:
        results = track("tensors", parallel_map(projected, names), len(names))
        for name, (kept, error, size) in zip(names, results, strict=True):
            errors["rounding"] += error
            errors["applied"] += size
            yield name, kept
        provenance["rounding_error"] = rounding_error()

    def rounding_error() -> float:
        return (errors["rounding"] / errors["applied"]) ** 0.5 if errors["applied"] else float("nan")

    write_checkpoint(out, stream(), like=family.aligned.folder, provenance=provenance)
    return rounding_error()
