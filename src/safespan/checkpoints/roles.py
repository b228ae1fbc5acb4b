"""Whether models stand in the roles that they are given: what the norms of their updates say, before longer work."""

import logging
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from safespan.checkpoints.reader import Checkpoint
from safespan.checkpoints.updates import adapts, check_memory, check_same_layout, update
from safespan.errors import ConfigError
from safespan.linalg.kernels import squared_norm
from safespan.linalg.parallel import ParallelMap, parallel_map
from safespan.progress import track

_log = logging.getLogger(__name__)


class _Norms(NamedTuple):
    """Squared norms of one model over some tensors.

    Attributes:
        to_aligned: ‖end − aligned‖².
        to_base: ‖end − base‖²; 0 without a base.
        beneath: ‖model beneath its adapter − aligned‖²; 0 without an adapter.
    """

    to_aligned: float = 0.0
    to_base: float = 0.0
    beneath: float = 0.0


def check_roles(
    base: Checkpoint | None,
    aligned: Checkpoint,
    finetuned: Mapping[str, Checkpoint],
    needed: Collection[str],
    mapper: ParallelMap = parallel_map,
) -> list[str]:
    """Warn of models that are one and the same, or nearer to base than to aligned, or adapters on another model.

    Every model is read once, tensor by tensor; none is decomposed. A fine-tune of aligned keeps the alignment update:
    ‖end − base‖² ≈ ‖end − aligned‖² + ‖aligned − base‖². Where base and aligned are swapped, or the fine-tune was made
    of base, the first of these norms is smaller than the second.

    Args:
        base: W_0, if there is one.
        aligned: W_A.
        finetuned: the other models, each thought to be tuned from aligned, by name.
        needed: `base`, and names of other models, whose difference from aligned must not be zero.
        mapper: the map over tensors.

    Returns:
        The warnings, which are logged too.

    Raises:
        CheckpointError: the checkpoints do not match, or a tensor does not fit into memory.
        ConfigError: a model that is needed has the weights of aligned.
    """
    names = check_same_layout(aligned, *([base] if base else []), *finetuned.values())
    check_memory(aligned.shapes)
    compared = {label: end for label, end in finetuned.items() if not adapts(end, aligned)}  # the others stand on it
    if base is None and not compared:
        return []
    alignment, sums = 0.0, dict.fromkeys(compared, _Norms())
    beneath = {label: Checkpoint(end.folder) for label, end in compared.items() if end.adapter}
    measured = partial(_squared_norms, base=base, aligned=aligned, finetuned=compared, beneath=beneath)
    for of_alignment, of_ends in track("tensors", mapper(measured, names), len(names)):
        alignment += of_alignment
        sums = {label: _Norms(*map(sum, zip(norms, of_ends[label], strict=True))) for label, norms in sums.items()}
    remarks = []
    if base and not alignment:
        same = f"base ({base.name}) and aligned ({aligned.name}) have the same weights, ‖aligned − base‖ = 0"
        if "base" in needed:
            raise ConfigError(f"{same}: there is no alignment update; give as base the model before its alignment")
        remarks.append(f"{same}: there is no alignment update")
    for label, end in compared.items():
        if label in needed and not sums[label].to_aligned:
            raise ConfigError(f"{_unchanged(label, end)}; give as {label} a model that was tuned from aligned")
        remarks += _remarks(label, end, base, aligned, alignment**0.5, _Norms(*(norm**0.5 for norm in sums[label])))
    for remark in remarks:
        _log.warning(remark)
    return remarks


def _unchanged(label: str, end: Checkpoint) -> str:
    return f"{label} ({end.name}) and aligned have the same weights, ‖{label} − aligned‖ = 0: there is no update"


def _squared_norms(
    name: str,
    base: Checkpoint | None,
    aligned: Checkpoint,
    finetuned: Mapping[str, Checkpoint],
    beneath: Mapping[str, Checkpoint],
) -> tuple[float, dict[str, _Norms]]:
    """Of one tensor ‖aligned − base‖², 0 without a base, and the norms of every other model."""
    alignment = update(name, base, aligned) if base else None
    ends = {}
    for label, end in finetuned.items():
        delta = update(name, aligned, end)
        to_aligned = squared_norm(delta)
        to_base = 0.0 if alignment is None else squared_norm(delta.add_(alignment))
        apart = squared_norm(update(name, aligned, beneath[label])) if label in beneath else 0.0
        ends[label] = _Norms(to_aligned, to_base, apart)
    return 0.0 if alignment is None else squared_norm(alignment), ends


def _remarks(
    label: str, end: Checkpoint, base: Checkpoint | None, aligned: Checkpoint, alignment: float, norms: _Norms
) -> Iterator[str]:
    """What the norms, none of them squared, say against the role of one model."""
    far = f"‖{label} − aligned‖ = {norms.to_aligned:.3g}"
    advice = "base and aligned may be swapped, or it was tuned from base"
    if norms.beneath:
        beneath = f"its adapter is put on {end.folder}, which is not aligned, ‖{end.folder} − aligned‖ ="
        advice = f"{beneath} {norms.beneath:.3g}; if it was trained on aligned, give {aligned.name}+{end.adapter}"
    if not norms.to_aligned:
        yield _unchanged(label, end)
    elif base and norms.to_base < norms.to_aligned:
        # From the three sides of the triangle.
        cosine = (norms.to_base**2 - norms.to_aligned**2 - alignment**2) / (2 * norms.to_aligned * alignment)
        yield (
            f"{label} ({end.name}) is nearer to base than to aligned, ‖{label} − base‖ = {norms.to_base:.3g} and "
            f"{far}, the cosine of its update with the alignment update is {cosine:.3f}: {advice}"
        )
    elif norms.beneath:
        yield f"{label} ({end.name}), {far}: {advice}"
