"""Linear separation of two classes of prompts, beside the overlap of their subspaces (METHODS §4)."""

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from safespan.results.tables import Separation
from safespan.statistics.auroc import auroc

_FOLDS = 5
_BOOTSTRAPS = 500


def separation(useful: Float[torch.Tensor, "N d"], harmful: Float[torch.Tensor, "M d"], seed: int = 0) -> Separation:
    """How well one direction of the activations separates useful and harmful prompts, on held-out prompts.

    Two classifiers in five-fold cross-validation (stratified by class; equal activations are in the same fold): a
    logistic regression on standardised coordinates with scikit-learn's default penalty, and the difference of the class
    means, from the midpoint between them in units of their distance. AUROC is the probability that a harmful prompt
    scores above a useful one, over the held-out scores of all folds together.

    Args:
        useful: N × d, a row per useful prompt.
        harmful: M × d, a row per harmful prompt.
        seed: of the folds and the bootstrap.

    Returns:
        AUROCs and distances. With fewer than two different prompts in a class there is no cross-validation: the AUROCs
        are NaN and folds is 0.
    """
    x = torch.cat([useful, harmful]).double().numpy()
    is_harmful = np.arange(len(x)) >= len(useful)
    _, first, which = np.unique(x, axis=0, return_index=True, return_inverse=True)
    same = first[which]  # in the order of the prompts, so that all layers and models have the same folds
    folds = min(_FOLDS, *(len(np.unique(same[is_harmful == label])) for label in (False, True)))
    intervals = np.full((2, 3), np.nan)
    if folds > 1:
        scores = np.full((2, len(x)), np.nan)
        for train, test in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(x, is_harmful, same):
            probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x[train], is_harmful[train])
            scores[0, test] = probe.decision_function(x[test])
            scores[1, test] = _direction(x[train], is_harmful[train], x[test])
        intervals = np.stack([_interval(values[is_harmful], values[~is_harmful], seed) for values in scores])
    return Separation(
        len(useful),
        len(harmful),
        folds if folds > 1 else 0,
        *map(float, [*intervals.flat, _ratio(x[~is_harmful], x[is_harmful])]),
    )


def _direction(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Scores on the line through the class means: −½ at the useful one, ½ at the harmful one."""
    useful, harmful = train[~labels].mean(0), train[labels].mean(0)
    apart = harmful - useful
    # Each fold's own origin and unit, so that scores of different folds can be ranked together.
    scores: np.ndarray = (test - (useful + harmful) / 2) @ apart / max(apart @ apart, np.finfo(float).tiny)
    return scores


def _interval(positive: np.ndarray, negative: np.ndarray, seed: int) -> np.ndarray:
    """AUROC with the ends of its interval."""
    area = auroc(positive, negative)
    if min(len(positive), len(negative)) < 2:
        return np.array([area, np.nan, np.nan])
    drawn = stats.bootstrap(
        (positive, negative), auroc, n_resamples=_BOOTSTRAPS, batch=100, vectorized=True, method="percentile", rng=seed
    ).confidence_interval
    return np.array([area, drawn.low, drawn.high])


def _ratio(useful: np.ndarray, harmful: np.ndarray) -> float:
    within = [((rows - rows.mean(0)) ** 2).sum() for rows in (useful, harmful)]
    spread = np.sqrt(sum(within) / (len(useful) + len(harmful)))
    apart = np.linalg.norm(harmful.mean(0) - useful.mean(0))
    return float(apart / spread) if spread > 0 else float("nan")
