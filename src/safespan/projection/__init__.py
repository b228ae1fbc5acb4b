"""Experiments 1 and 2: task updates projected on and off a subspace (METHODS §2)."""

from safespan.projection.family import Family
from safespan.projection.points import Change, PointWeights
from safespan.projection.sweep import sweep
from safespan.projection.trial import TrialWeights, trial_points
from safespan.projection.write import write_projected
