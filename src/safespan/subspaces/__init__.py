"""Spectra, ordered orthonormal bases, hypotheses about where safety lies, and random controls."""

from safespan.subspaces.bases import random_basis, random_order
from safespan.subspaces.cache import SpectrumCache
from safespan.subspaces.captured import CapturedActivations
from safespan.subspaces.hypothesis import Edit, Hypothesis, hypothesis
from safespan.subspaces.registry import find_hypothesis
from safespan.subspaces.rotation import RandomRotation, random_part
from safespan.subspaces.shape import effective_rank, spectrum_points, stable_rank
from safespan.subspaces.sides import Basis
from safespan.subspaces.spectrum import Decompose, Spectrum, decompose, rank_of_fraction
from safespan.subspaces.training_claims import Frozen, Penalty
from safespan.subspaces.weight_matrix import WeightMatrix, WeightTensor
