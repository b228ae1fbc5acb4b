"""Experiments 1 and 2: task updates projected on and off a subspace (METHODS §2)."""

from safespan.projection.family import FRACTIONS, Family, Point, ProjectionGrid, lacking
from safespan.projection.points import PointWeights
from safespan.projection.sweep import sweep
from safespan.projection.trial import TrialPoint, TrialWeights, trial_finetunes, trial_points
from safespan.projection.write import write_projected

__all__ = [
    "FRACTIONS",
    "Family",
    "Point",
    "PointWeights",
    "ProjectionGrid",
    "TrialPoint",
    "TrialWeights",
    "lacking",
    "sweep",
    "trial_finetunes",
    "trial_points",
    "write_projected",
]
