"""Writing of one projected checkpoint."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from safespan.checkpoints import Checkpoint, write_checkpoint
from safespan.checkpoints.updates import check_memory, rounded
from safespan.linalg.kernels import squared_norm
from safespan.linalg.parallel import parallel_map
from safespan.progress import track
from safespan.projection.family import Family
from safespan.projection.tensor import TensorProjection, applied, directions
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
    assert family.base is not None  # the grid's subspaces are of Δ_A
    members = {"base": family.base, "aligned": family.aligned, label: finetuned}
    check_memory(family.aligned.shapes)

    hashes = parallel_map(lambda member: member.sha256(), members.values())
    provenance: dict[str, Any] = {
        "made_by": "safespan project",
        "base": family.base.name,
        "aligned": family.aligned.name,
        "finetuned": {label: finetuned.name},
        "settings": {"subspace": subspace, "method": method, "fraction": fraction, "side": grid.side, "seed": seed},
        "sha256": dict(zip(members, hashes, strict=True)),
    }
    leading = partial(decompose, fraction=fraction) if subspace in ("alignment", "safety") else decompose
    # With an adapter, W_A is loaded in fp32, but stored in the dtype of its base, as in config.json.
    stored = Checkpoint(family.aligned.folder)

    def projected(name: str) -> tuple[torch.Tensor, float, float]:
        delta = family.task_update(name, label)
        projection = TensorProjection(delta, directions(family.tensor(name, grid.side, seed, leading), subspace))
        change = applied(method, delta, projection.parallel(fraction))
        exact = change + family.aligned.load(name, finite=False).to(change)
        kept = rounded(name, exact, stored.dtype(name))
        return kept.cpu(), squared_norm(exact - kept), squared_norm(change)

    def stream() -> Iterator[tuple[str, torch.Tensor]]:
        results = track("tensors", parallel_map(projected, names), len(names))
        rounding = whole = 0.0
        for name, (kept, error, size) in zip(names, results, strict=True):
            rounding, whole = rounding + error, whole + size
            yield name, kept
        provenance["rounding_error"] = (rounding / whole) ** 0.5 if whole else float("nan")

    write_checkpoint(out, stored.whole(stream()), family.aligned.folder, provenance, adapter=family.aligned.adapter)
    return float(provenance["rounding_error"])
