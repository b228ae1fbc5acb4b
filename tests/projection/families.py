"""Checkpoints of every role, and float64 LAPACK's parts of their updates."""

import torch

from oracle import exact, odd_weights, project, save_checkpoint
from safespan.checkpoints import Checkpoint
from safespan.projection import Family


def family_of(tmp_path, dtype=torch.float32, shards=1, tied=False, safe=True):
    roles = ["base", "aligned", "useful", "harmful", "safe"]
    folders = {
        role: save_checkpoint(tmp_path / role, odd_weights(seed, dtype), shards if seed % 2 else 1, tied)
        for seed, role in enumerate(roles)
    }
    finetuned = {role: Checkpoint(folders[role]) for role in ("useful", "harmful")}
    base, aligned = Checkpoint(folders["base"]), Checkpoint(folders["aligned"])
    return Family(base, aligned, finetuned, Checkpoint(folders["safe"]) if safe else None)


def difference(start, end, name):
    return exact(end.load(name).float()) - exact(start.load(name).float())


def oracle_part(family, label, subspace, fraction, side="output"):
    """Parallel part of every tensor in float64, and the whole update."""
    parts, whole = {}, {}
    for name in family.names():
        task = difference(family.aligned, family.finetuned[label], name)
        reference = difference(family.base, family.aligned, name)
        if subspace == "safety":
            reference = difference(family.aligned, family.safe, name)
        parts[name], whole[name] = project(task, reference, fraction, side), task
    return parts, whole


def energy(tensors):
    return sum(float((tensor**2).sum()) for tensor in tensors.values())
