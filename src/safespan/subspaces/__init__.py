"""Ordered orthonormal bases: of an update's singular vectors, and of random controls."""

from safespan.subspaces.bases import SUBSPACES, rank_of_fraction, subspace_basis
from safespan.subspaces.sides import Basis, Side, Spectra, bases, spectra
from safespan.subspaces.spectrum import Spectrum, decompose

__all__ = [
    "SUBSPACES",
    "Basis",
    "Side",
    "Spectra",
    "Spectrum",
    "bases",
    "decompose",
    "rank_of_fraction",
    "spectra",
    "subspace_basis",
]
