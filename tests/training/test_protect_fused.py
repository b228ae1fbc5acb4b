"""Protected training of weights that Transformers renames or fuses in memory."""

from pathlib import Path

import numpy as np
import pytest

from conformance.architectures import make
from oracle import exact
from safespan.checkpoints import Checkpoint
from safespan.projection import Family
from safespan.projection.protected_file import ProtectedBases
from safespan.projection.protection import Protection, write_protection
from safespan.settings.training import TrainingConfig
from safespan.training.sft import fine_tune

SEED = 4


@pytest.mark.parametrize("kind", ["gpt_neox", "mixtral", "gpt_oss"])
def test_weights_that_are_renamed_or_fused_in_memory_are_projected_as_files_hold_them(
    tmp_path: Path, config: TrainingConfig, kind: str
) -> None:
    _, base, start, _ = make(kind, tmp_path)
    family = Family(Checkpoint(base), Checkpoint(start), {})
    path = write_protection(family, "alignment", 0.5, "output", SEED, tmp_path / "bases").path
    fine_tune(start, tmp_path / "out", config, SEED, protection=Protection(path))
    before, after = Checkpoint(start), Checkpoint(tmp_path / "out")
    bases, moved = ProtectedBases(path), 0
    for name in bases.tensors:
        change = exact(after.load(name)) - exact(before.load(name))
        matrices = [change] if change.ndim == 2 else list(change)
        for matrix, basis in zip(matrices, bases.claims(name), strict=True):
            assert basis.left is not None
            assert np.abs(exact(basis.left).T @ matrix).max() < 1e-6
        moved += bool(np.abs(change).max() > 1e-3)
    assert moved > 0.7 * len(bases.tensors)
    assert len(bases.tensors) >= 10
