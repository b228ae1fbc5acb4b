"""The arithmetic that a sweep cannot do without, counted from the shapes alone."""

from benchmarks.common.checkpoints import Shape

FORMULA = (
    "for every m × n matrix with p = min(m, n) and q = max(m, n), in float64 p²q for the Gram matrix (half of it, as "
    "it is symmetric), 2mnp for the left vectors if m > n, mp² for the random basis's Gram matrix, and mp² for its "
    "triangular solve if m < 2p; in float32 2mp² for the random basis if m ≥ 2p, and 2pmn for the coefficients of each "
    "fine-tune along each of two bases (random-k reorders alignment's)"
)


def products(shape: Shape, finetunes: int) -> dict[str, float]:
    """Floating-point operations of the matrix products of a sweep by dtype, as `FORMULA` says; no eigenvectors."""
    counts = {"float64": 0.0, "float32": 0.0}
    for size in shape.tensors().values():
        if len(size) == 2:
            m, n = size
            p, q = min(size), max(size)
            tall = m >= 2 * p
            counts["float64"] += p * p * q + (2 * m * n * p if m > n else 0) + (1 if tall else 2) * m * p * p
            counts["float32"] += finetunes * 2 * (2 * p * m * n) + (2 * m * p * p if tall else 0)
    return counts
