import json

import numpy as np
import pytest
import torch
from families import family_of, oracle_part

from oracle import SHAPES, exact
from safespan.checkpoints import Checkpoint
from safespan.projection import Family, write_projected
from safespan.settings.analysis import ProjectionGrid


@pytest.mark.parametrize("method", ["parallel", "orthogonal", "opposite"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_written_weights_agree_with_lapack(tmp_path, method, dtype):
    family = family_of(tmp_path, dtype, shards=2)
    one = Family(family.base, family.aligned, {"useful": family.finetuned["useful"]})
    grid = ProjectionGrid(subspaces=("alignment",), methods=(method,), fractions=(0.5,))
    error = write_projected(one, grid, 0, tmp_path / "out")
    written = Checkpoint(tmp_path / "out")
    parts, whole = oracle_part(family, "useful", "alignment", 0.5)
    for name in SHAPES:
        inside = {"parallel": parts[name], "orthogonal": whole[name] - parts[name], "opposite": -parts[name]}[method]
        expected = exact(family.aligned.load(name).float()) + inside
        assert written.load(name).dtype == dtype
        tolerance = 1e-5 if dtype == torch.float32 else 2**-7 * np.abs(expected).max()
        np.testing.assert_allclose(exact(written.load(name).float()), expected, atol=tolerance)
    assert 0 <= error < (1e-6 if dtype == torch.float32 else 1e-2)
    note = json.loads((tmp_path / "out" / "safespan.json").read_text())
    assert note["rounding_error"] == error
    assert note["settings"]["method"] == method
