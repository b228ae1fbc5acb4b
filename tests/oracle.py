"""Independent float64 LAPACK statements of METHODS §2 and §3, and checkpoints of odd shapes to hold them against."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

SHAPES = {
    "model.embed_tokens.weight": (50, 12),
    "model.layers.0.mlp.up_proj.weight": (40, 12),
    "model.layers.0.mlp.down_proj.weight": (12, 40),
    "model.layers.0.self_attn.q_proj.weight": (12, 12),
    "model.layers.10.mlp.experts.gate_up_proj": (3, 16, 9),
    "model.layers.2.input_layernorm.weight": (12,),
    "model.norm.weight": (12,),
}


def odd_weights(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}


def save_checkpoint(folder: Path, weights: dict[str, torch.Tensor], shards: int = 1, tied: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"tie_word_embeddings": tied}))
    (folder / "tokenizer.json").write_text("{}")
    if tied:
        weights = weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}
    if shards == 1:
        save_file(weights, folder / "model.safetensors")
        return folder
    names = list(weights)
    weight_map = {name: f"model-{number % shards + 1:05d}.safetensors" for number, name in enumerate(names)}
    for shard in set(weight_map.values()):
        save_file({name: weights[name] for name in names if weight_map[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def exact(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().numpy()


def project(delta: np.ndarray, reference: np.ndarray, fraction: float, side: str = "output") -> np.ndarray:
    """The parallel part of one tensor's update in the top-k subspace of the reference update."""
    if delta.ndim == 1:
        norm = float(reference @ reference)
        return reference * (float(delta @ reference) / norm) if norm else np.zeros_like(delta)
    if delta.ndim == 3:
        return np.stack([project(d, r, fraction, side) for d, r in zip(delta, reference, strict=True)])
    k = max(1, round(fraction * min(delta.shape)))
    left, _, right = np.linalg.svd(reference, full_matrices=False)
    if side in ("output", "both"):
        delta = left[:, :k] @ left[:, :k].T @ delta
    if side in ("input", "both"):
        delta = delta @ right[:k].T @ right[:k]
    return delta


def mso(x: np.ndarray, y: np.ndarray, energy: float) -> float:
    bases = []
    for matrix in (x, y):
        left, values, _ = np.linalg.svd(matrix, full_matrices=False)
        share = np.cumsum(values**2) / np.sum(values**2)
        bases.append(left[:, : int(np.searchsorted(share, energy * (1 - 1e-12))) + 1])
    return float(np.linalg.norm(bases[0].T @ bases[1]) ** 2 / min(basis.shape[1] for basis in bases))


def spectrum_shape(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Singular values, cumulative shares of energy, effective rank and stable rank."""
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = values / values.sum()
    entropy = -sum(share * np.log(share) for share in shares if share)
    stable = np.linalg.norm(matrix) ** 2 / np.linalg.norm(matrix, 2) ** 2
    return values, np.cumsum(values**2) / np.sum(values**2), float(np.exp(entropy)), float(stable)
