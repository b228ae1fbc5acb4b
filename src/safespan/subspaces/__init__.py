"""Ordered orthonormal bases: of an update's singular vectors, and of random controls."""

from safespan.subspaces.bases import random_basis, random_order
from safespan.subspaces.cache import SpectrumCache
from safespan.subspaces.sides import Basis, Side, Spectra, random_bases, reordered, spectra, spectral_bases
from safespan.subspaces.spectrum import Decompose, Spectrum, decompose, rank_of_fraction

__all__ = [
    "Basis",
    "Decompose",
    "Side",
    "Spectra",
    "Spectrum",
    "SpectrumCache",
    "decompose",
    "random_bases",
    "random_basis",
    "random_order",
    "rank_of_fraction",
    "reordered",
    "spectra",
    "spectral_bases",
]
