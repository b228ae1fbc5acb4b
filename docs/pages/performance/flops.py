"""The work that a sweep cannot do without, counted from the shapes alone."""

from collections import Counter

from benchmarks.common.checkpoints import Shape

FORMULA = (
    "for every m × n matrix with p = min(m, n) and q = max(m, n), in float64 p²q for the Gram matrix (half of it, as "
    "it is symmetric) and 2mnp for the left vectors if m > n; in float32 2pmn for the coefficients of each fine-tune "
    "along each of two bases (random-k reorders alignment's). The m × p random bases, one a size or one a matrix if m "
    "> 8p, take 4mp² − 4p³/3 in float64 if m < 2p, else mp² in float64 and 2mp² in float32"
)
_TALL = 8
_STORED = 2
"""Bytes of a stored number: bf16."""


def products(shape: Shape, finetunes: int) -> dict[str, float]:
    """Floating-point operations of the matrix products of a sweep by dtype, as `FORMULA` says; no eigenvectors."""
    counts = {"float64": 0.0, "float32": 0.0}
    drawn: set[tuple[int, int]] = set()
    for m, n in _matrices(shape):
        p, q = min(m, n), max(m, n)
        counts["float64"] += p * p * q + (2 * m * n * p if m > n else 0)
        counts["float32"] += finetunes * 2 * (2 * p * m * n)
        if (m, p) in drawn:
            continue
        if m <= _TALL * p:
            drawn.add((m, p))
        if m < 2 * p:
            counts["float64"] += 4 * m * p * p - 4 * p**3 / 3
        else:
            counts["float64"] += m * p * p
            counts["float32"] += 2 * m * p * p
    return counts


def orders(shape: Shape) -> dict[int, int]:
    """Order of a Gram matrix -> number of matrices that have one of this order."""
    return dict(Counter(min(size) for size in _matrices(shape)))


def read_bytes(shape: Shape, finetunes: int) -> float:
    """Bytes of base, aligned model and fine-tunes, each read once."""
    return float((2 + finetunes) * shape.parameters() * _STORED)


def _matrices(shape: Shape) -> list[tuple[int, ...]]:
    return [size for size in shape.tensors().values() if len(size) == 2]
