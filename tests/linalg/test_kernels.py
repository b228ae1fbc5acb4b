import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safespan.linalg.kernels import eigh, gram, inner_product, product, squared_norm

SIZES = st.integers(1, 40)


def gaussian(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@settings(max_examples=30)
@given(SIZES, SIZES, SIZES, st.integers(0, 9), st.sampled_from([torch.float32, torch.float64]))
def test_products_agree_with_torchs_in_float64(m, k, n, seed, dtype):
    x, y = gaussian(m, k, seed=seed, dtype=dtype), gaussian(k, n, seed=seed + 1, dtype=dtype)
    torch.testing.assert_close(product(x, y).double(), x.double() @ y.double(), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(product(y.T, x.T).double(), y.double().T @ x.double().T, atol=1e-4, rtol=1e-5)
    squares = gram(x)
    assert squares.dtype == dtype
    assert torch.equal(squares, squares.T)
    torch.testing.assert_close(squares.double(), x.double().T @ x.double(), atol=1e-4, rtol=1e-5)


def test_eigenvectors_by_falling_eigenvalue():
    matrix = gram(gaussian(30, 12, dtype=torch.float64))
    values, vectors = eigh(matrix.clone())
    np.testing.assert_allclose(values.numpy(), np.linalg.eigvalsh(matrix.numpy())[::-1], rtol=1e-10)
    torch.testing.assert_close(matrix @ vectors, vectors * values)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (200, 300)])
def test_norms_are_summed_without_loss(shape):
    x, y = gaussian(*shape), gaussian(*shape, seed=1)
    assert inner_product(x, y) == pytest.approx(float((x.double() * y.double()).sum()), rel=1e-6, abs=1e-3)
    assert squared_norm(x) == pytest.approx(float((x.double() ** 2).sum()), rel=2e-7)
    assert not np.isfinite(squared_norm(torch.cat([x.reshape(-1), torch.tensor([torch.nan])])))
    assert squared_norm(torch.zeros(0, 4)) == 0
