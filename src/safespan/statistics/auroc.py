"""Area under the ROC curve."""

import numpy as np
import scipy  # loads scipy.stats, a slow import, on first use


def auroc(positive: np.ndarray, negative: np.ndarray, axis: int = -1) -> np.ndarray:
    """Probability that a positive scores above a negative, ties counted half: Mann and Whitney's U over n⁺ n⁻.

    Args:
        positive: scores of the positives along `axis`.
        negative: scores of the negatives, the other axes as the positives'.
        axis: along which scores lie.
    """
    ranks = np.moveaxis(scipy.stats.rankdata(np.concatenate([positive, negative], axis), axis=axis), axis, -1)
    n, m = positive.shape[axis], negative.shape[axis]
    area: np.ndarray = (ranks[..., :n].sum(-1) - n * (n + 1) / 2) / (n * m)
    return area
