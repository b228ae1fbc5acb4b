"""safespan's side: the sweep of the grid and the overlap of updates, with and without spectra at hand."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from safespan import Checkpoint, Family, ProjectionGrid, SpectrumCache, update_overlap
from safespan import sweep as safespan_sweep


def sweep(
    folder: str, finetunes: Sequence[str], fractions: Sequence[float], cache: str | None = None
) -> Callable[[], list[dict[str, Any]]]:
    """A side: energies and cosines of the grid of three subspaces and two methods."""
    return partial(_sweep, Path(folder), finetunes, tuple(fractions), _cached(cache))


def overlap(
    folder: str, x: str, y: str, energies: Sequence[float], cache: str | None = None
) -> Callable[[], list[dict[str, Any]]]:
    """A side: MSO of two updates in every matrix at every share of energy."""
    return partial(_overlap, Path(folder), x, y, tuple(energies), _cached(cache))


def _cached(folder: str | None) -> dict[str, Any]:
    """The argument that makes an analysis keep its spectra in that folder; nothing without a folder."""
    return {} if folder is None else {"decompose": SpectrumCache(Path(folder)).decompose}


def _sweep(
    folder: Path, finetunes: Sequence[str], fractions: tuple[float, ...], cached: dict[str, Any]
) -> list[dict[str, Any]]:
    tuned = {role: Checkpoint(folder / role) for role in finetunes}
    family = Family(Checkpoint(folder / "base"), Checkpoint(folder / "aligned"), tuned)
    rows, _ = safespan_sweep(family, ProjectionGrid(fractions=fractions), seed=0, **cached)
    return [asdict(row) for row in rows]


def _overlap(folder: Path, x: str, y: str, energies: tuple[float, ...], cached: dict[str, Any]) -> list[dict[str, Any]]:
    aligned = Checkpoint(folder / "aligned")
    updates = {role: (aligned, Checkpoint(folder / role)) for role in (x, y)}
    rows, _ = update_overlap(updates, "tensor", energies, **cached)
    return [asdict(row) for row in rows]
