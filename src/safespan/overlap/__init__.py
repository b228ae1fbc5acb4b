"""Experiment 3: mode subspace overlap (METHODS §3)."""

from safespan.overlap.curve import overlap_curve, random_overlap
from safespan.overlap.updates import update_overlap
