"""Weights with a part in a subspace kept or removed: experiments 1 and 2, and the tests of a claim (METHODS §2, §7)."""

from safespan.projection.ablation import AblationWeights, ablation_points
from safespan.projection.claimed import ClaimPoint, claim_point
from safespan.projection.coverage import Coverage, coverage
from safespan.projection.family import Family
from safespan.projection.points import Change, PointWeights
from safespan.projection.sweep import sweep
from safespan.projection.update_weights import UpdateWeights, update_points
from safespan.projection.write import Written, write_claimed, write_projected
