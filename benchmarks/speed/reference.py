"""The reference procedure: a plain statement of METHODS §2 and §3 with none of the savings of §5.

For every point of the grid the models are loaded whole, every update is decomposed by a full float32 SVD, and a whole
checkpoint is written; for every share of energy the models are loaded and both updates are decomposed afresh.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def point(
    folder: str, finetune: str, subspace: str, method: str, fraction: float, out: str
) -> Callable[[], dict[str, float]]:
    """A side: one point of the grid, energies and cosines, checkpoint written."""
    return partial(_point, Path(folder), finetune, subspace, method, fraction, Path(out))


def overlap(folder: str, x: str, y: str, energy: float) -> Callable[[], dict[str, float]]:
    """A side: MSO of two updates in every matrix at one share of energy."""
    return partial(_overlap, Path(folder), x, y, energy)


def difference(aligned: str, x: str, y: str) -> Callable[[], float]:
    """A side: ‖X − Y‖ of two written checkpoints over the norm of X's update of the aligned weights."""
    return partial(_difference, *(Path(folder) for folder in (aligned, x, y)))


def _load(folder: Path) -> dict[str, torch.Tensor]:
    return {name: w for file in sorted(folder.glob("*.safetensors")) for name, w in load_file(file).items()}


def _point(folder: Path, finetune: str, subspace: str, method: str, fraction: float, out: Path) -> dict[str, float]:
    base, aligned, tuned = (_load(folder / role) for role in ("base", "aligned", finetune))
    torch.manual_seed(0)
    sums = dict.fromkeys(("task", "alignment", "applied", "task_applied", "task_alignment"), 0.0)
    written = {}
    for name, start in aligned.items():
        alignment, task = start.float() - base[name].float(), tuned[name].float() - start.float()
        inside = _inside(task, alignment, subspace, fraction)
        applied = inside if method == "parallel" else task - inside
        for key, (a, b) in {
            "task": (task, task),
            "alignment": (alignment, alignment),
            "applied": (applied, applied),
            "task_applied": (task, applied),
            "task_alignment": (task, alignment),
        }.items():
            sums[key] += float((a * b).sum())
        written[name] = (start.float() + applied).to(start.dtype)
    out.mkdir(parents=True)
    shutil.copy2(folder / "aligned" / "config.json", out / "config.json")
    save_file(written, out / "model.safetensors", metadata={"format": "pt"})
    return {
        "energy_kept": sums["applied"] / sums["task"],
        "cosine_task_projection": sums["task_applied"] / (sums["task"] * sums["applied"]) ** 0.5,
        "cosine_task_alignment": sums["task_alignment"] / (sums["task"] * sums["alignment"]) ** 0.5,
    }


def _inside(task: torch.Tensor, alignment: torch.Tensor, subspace: str, fraction: float) -> torch.Tensor:
    """P_k Δ_T of one tensor."""
    if task.ndim == 1:
        norm = float((alignment * alignment).sum())
        return alignment * (float((task * alignment).sum()) / norm if norm else 0.0)
    source = torch.randn(alignment.shape) if subspace == "random" else alignment
    left = torch.linalg.svd(source, full_matrices=False).U
    if subspace == "random-k":
        left = left[:, torch.randperm(left.shape[1])]
    left = left[:, : max(1, round(fraction * min(task.shape)))]
    return left @ (left.T @ task)


def _overlap(folder: Path, x: str, y: str, energy: float) -> dict[str, float]:
    aligned, first, second = (_load(folder / role) for role in ("aligned", x, y))
    overlaps = {}
    for name, start in aligned.items():
        if start.ndim == 2:
            q_x, q_y = (_leading(end[name].float() - start.float(), energy) for end in (first, second))
            overlaps[name] = float((q_x.T @ q_y).pow(2).sum()) / min(q_x.shape[1], q_y.shape[1])
    return overlaps


def _leading(delta: torch.Tensor, energy: float) -> torch.Tensor:
    left, values, _ = torch.linalg.svd(delta, full_matrices=False)
    shares = values.double().pow(2).cumsum(0)
    return left[:, : int((shares < energy * shares[-1]).sum()) + 1]


def _difference(aligned: Path, x: Path, y: Path) -> float:
    start, first, second = _load(aligned), _load(x), _load(y)
    apart = sum(float((first[n].float() - second[n].float()).pow(2).sum()) for n in start)
    update = sum(float((first[n].float() - start[n].float()).pow(2).sum()) for n in start)
    return (apart / update) ** 0.5
