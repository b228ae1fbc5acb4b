"""Claims of the update test that add to a fine-tune or shrink it, against their formulas in float64 NumPy."""

import numpy as np
import pytest

from claims import SHAPES, claimed, gaussian
from oracle import exact
from safespan.errors import HypothesisError
from safespan.subspaces import find_hypothesis


@pytest.mark.parametrize("shape", SHAPES)
def test_resta_subtracts_the_harmful_update(shape):
    """W_T + γ (W_A − W_H) of whole weights, γ = 1, as the paper writes it."""
    aligned, tuned, harmful = (exact(gaussian(*shape, seed=seed)) for seed in range(3))
    edit = claimed(
        "resta", task=gaussian(*shape, seed=1) - gaussian(*shape), harmful=gaussian(*shape, seed=2) - gaussian(*shape)
    )
    np.testing.assert_allclose(aligned + exact(edit.update), tuned + (aligned - harmful), atol=1e-5)


def test_resta_undoes_the_harmful_fine_tune_itself():
    update = gaussian(5, 8)
    assert not claimed("resta", task=update, harmful=update).update.any()
    assert find_hypothesis("resta").missing(set()) == "a harmful fine-tune"
    with pytest.raises(HypothesisError, match="it reads 'harmful', and there is task"):
        claimed("resta", task=update)
