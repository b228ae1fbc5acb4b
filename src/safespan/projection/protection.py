"""What a claim protects in training, made once and kept in a file, and random controls of the same (METHODS §7)."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from safespan.checkpoints.updates import check_memory
from safespan.errors import ConfigError
from safespan.linalg.parallel import parallel_map
from safespan.progress import note, track
from safespan.projection.family import Family
from safespan.projection.frozen import claimed_blocks, leading_run, random_run
from safespan.projection.protected_file import About, ProtectedBases, padded_values, write_file
from safespan.settings.names import Keep, Side
from safespan.settings.training import PENALTY
from safespan.subspaces import (
    Basis,
    Decompose,
    Hypothesis,
    Penalty,
    decompose,
    find_hypothesis,
    random_basis,
    rank_of_fraction,
)


@dataclass(frozen=True)
class Protection:
    """What a training is held to. Vectors (norms, biases) are frozen, whatever the bases.

    Attributes:
        bases: a file of `write_protection` or `write_random_protection`; None: vectors are frozen, and that is all.
        keep: where the update of each matrix is kept, of the subspace; `outside` of frozen blocks and penalties.
    """

    bases: Path | None
    keep: Keep = "outside"


def check_protectable(name: str, present: Collection[str]) -> Hypothesis:
    """The hypothesis of that name, if it can be protected in training with the inputs that are present.

    Raises:
        ConfigError: it names no subspace, or needs what is not present.
    """
    hypothesis = find_hypothesis(name)
    if "training" not in hypothesis.tests:
        raise ConfigError(
            f"hypothesis {name!r} names no subspace that training could be kept outside of: it has the test "
            f"{' and '.join(hypothesis.tests)} alone; name a hypothesis that has the training test"
        )
    if missing := hypothesis.missing(present, "training"):
        fields = hypothesis.options_for(present, "training").replace("--", "protect.")
        raise ConfigError(
            f"protecting {name!r} needs {missing}: give that (safespan train: --set {fields}), or another hypothesis"
        )
    return hypothesis


def check_fields(claim: Hypothesis, fraction: float | None, penalty: float | None, keep: Keep) -> None:
    """Check that a claim is asked for what its kind has.

    Raises:
        ConfigError: a fraction of a penalty, none of another kind, a λ of no penalty, or an inside of no subspace.
    """
    name, is_penalty = claim.name, claim.kind == "penalty"
    if is_penalty and fraction is not None:
        raise ConfigError(f"fraction: {name!r} is a penalty, which has none: leave it out; λ is the field penalty")
    if not is_penalty and fraction is None:
        of = "blocks" if claim.kind == "blocks" else "directions"
        raise ConfigError(f"fraction: protecting {name!r} needs the share of the {of}, above 0 and at most 1: give it")
    if not is_penalty and penalty is not None:
        raise ConfigError(f"penalty: {name!r} is of kind {claim.kind}, and λ is of the kind penalty: leave it out")
    if claim.kind != "subspace" and keep == "inside":
        raise ConfigError(f"keep: {name!r} is of kind {claim.kind}, which has no inside: leave keep out")


def write_protection(
    family: Family,
    hypothesis: str,
    fraction: float | None,
    side: Side,
    seed: int,
    out: Path,
    decompose: Decompose = decompose,
    penalty: float | None = None,
) -> ProtectedBases:
    """Make what a claim protects in all matrices of a family, and write it to one safetensors file.

    Args:
        family: the aligned model, which training starts from, and what the claim needs.
        hypothesis: its name.
        fraction: f: the first k = max(1, round(f · min(m, n))) directions of each m × n matrix, if so many, or the
            share of the blocks; None of a penalty.
        side: of bases of singular vectors.
        seed: of the claim's random choices.
        out: the file; an existing one is replaced.
        decompose: how updates are decomposed; a cache's if it should remember.
        penalty: λ of a penalty; None: 1.

    Raises:
        ConfigError: the claim has no training test, lacks an input, or names no matrix, block or direction, or all.
        CheckpointError: the checkpoints do not match, or a tensor does not fit into memory.
    """
    claim = check_protectable(hypothesis, family.present)
    check_fields(claim, fraction, penalty, "outside")
    check_memory(family.aligned.shapes)
    about = About(hypothesis, fraction, side, seed)
    if claim.kind == "blocks":
        return _write_blocks(family, claim, about, out, decompose)
    names = [name for name in family.names() if len(family.aligned.shapes[name]) > 1]

    def of_tensor(name: str) -> tuple[list[Basis | None], torch.Tensor | None]:
        shape = family.aligned.shapes[name]
        claims = claim.evaluate(family.tensor(name, side, seed, decompose))
        if fraction is None:
            return _penalties([one if isinstance(one, Penalty) else None for one in claims], len(shape) == 3)
        k = rank_of_fraction(fraction, (shape[-2], shape[-1]))
        return [_leading(basis, k) if isinstance(basis, Basis) else None for basis in claims], None

    made = dict(zip(names, track("bases", parallel_map(of_tensor, names), len(names)), strict=True))
    claims = {name: bases for name, (bases, _) in made.items()}
    stacks = {name for name in names if len(family.aligned.shapes[name]) == 3}
    if claim.kind == "penalty":
        _check_any(hypothesis, family, any(basis for of_matrix in claims.values() for basis in of_matrix))
        values = {name: own for name, (_, own) in made.items() if own is not None}
        return write_file(out, replace(about, penalty=PENALTY if penalty is None else penalty), claims, stacks, values)
    _check_subspace(hypothesis, fraction or 0.0, family, claims)
    return write_file(out, about, claims, stacks)


def _write_blocks(family: Family, claim: Hypothesis, about: About, out: Path, decompose: Decompose) -> ProtectedBases:
    """The file of a claim of kind `blocks`."""
    assert about.fraction is not None
    found = claimed_blocks(family, claim, about.side, about.seed, decompose)
    frozen = leading_run(found.scores, about.fraction)
    _check_any(claim.name, family, bool(frozen))
    if len(frozen) == len(found.tensors):
        raise ConfigError(
            f"{claim.name!r} at fraction {about.fraction:g} freezes every block of {family.aligned.name} "
            f"({len(frozen)}): no block could be trained, and no other be drawn beside it; lower the fraction"
        )
    note(f"{claim.name}: blocks {frozen[0]} to {frozen[-1]} are frozen, of blocks 0 to {len(found.tensors) - 1}")
    blocks = {str(number): tensors for number, tensors in found.tensors.items()}
    return write_file(out, replace(about, blocks=blocks, frozen=[str(number) for number in frozen]), {}, set())


def write_random_protection(like: Path, seed: int, out: Path) -> ProtectedBases:
    """Write the random control of another file.

    Of bases: Haar-random ones of the same matrices, sides and ranks. Matrices that have the same basis there, as the
    refusal direction has in the whole residual stream, get the same random basis; all others get independent ones. Of a
    penalty: C turned by such a rotation, with the same eigenvalues. Of frozen blocks: as many others.

    Args:
        like: a file of `write_protection`.
        seed: of the draw.
        out: the file; an existing one is replaced.
    """
    known = ProtectedBases(like)
    if known.about.frozen:
        numbers, frozen = [int(block) for block in known.about.blocks], [int(block) for block in known.about.frozen]
        others = [str(number) for number in random_run(numbers, frozen, seed)]
        return write_file(out, replace(known.about, hypothesis="random", seed=seed, frozen=others), {}, set())
    drawn: dict[bytes, torch.Tensor] = {}

    def draw(columns: torch.Tensor | None, name: str) -> torch.Tensor | None:
        if columns is None or not columns.shape[1]:
            return columns
        key = hashlib.sha256(columns.numpy().tobytes() + str(tuple(columns.shape)).encode()).digest()
        if key not in drawn:
            drawn[key] = random_basis((columns.shape[0], columns.shape[1]), seed, f"protection/{name}")
        return drawn[key]

    claims, stacks = {}, set()
    for tensor in track("bases", known.tensors, len(known.tensors)):
        labels = known.labels(tensor)
        if labels != [tensor]:
            stacks.add(tensor)
        claims[tensor] = [
            None if basis is None else Basis(draw(basis.left, f"{label}/output"), draw(basis.right, f"{label}/input"))
            for label, basis in zip(labels, known.claims(tensor), strict=True)
        ]
    about, values = replace(known.about, hypothesis="random", seed=seed), None
    if about.penalty is not None:
        values = {tensor: known.values(tensor) for tensor in known.tensors}
    return write_file(out, about, claims, stacks, values)


def check_free_memory(needed: int, device: torch.device) -> None:
    """Check that what a protected training holds beside the model fits into memory.

    Raises:
        ConfigError: fewer bytes are free.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise ConfigError(
            f"protect: the bases, and a copy of the start of what is trained whole, need {needed / 1e9:.3g} GB beside "
            f"the model, and {free / 1e9:.3g} GB are free ({device.type}): lower the fraction, train with lora, or use "
            "a machine with more memory"
        )


def _leading(basis: Basis, k: int) -> Basis:
    """The first k directions, in their order, on the CPU."""

    def first(columns: torch.Tensor | None, order: torch.Tensor | None) -> torch.Tensor | None:
        if columns is None:
            return None
        chosen = columns[:, :k] if order is None else columns[:, order[:k].to(columns.device)]
        return chosen.float().cpu().clone(memory_format=torch.contiguous_format)

    return Basis(first(basis.left, basis.left_order), first(basis.right, basis.right_order))


def _penalties(penalties: Sequence[Penalty | None], stacked: bool) -> tuple[list[Basis | None], torch.Tensor | None]:
    """U of every matrix of a tensor, on the CPU, and c of all of them; None where there is no claim."""
    if not any(penalties):
        return [None] * len(penalties), None
    columns = [None if one is None else Basis(one.columns.float().cpu().contiguous(), None) for one in penalties]
    return columns, padded_values([None if one is None else one.values for one in penalties], stacked)


def _check_any(name: str, family: Family, there: bool) -> None:
    """Refuse a claim about no matrix."""
    if not there:
        raise ConfigError(
            f"{name!r} is not measurable: it names no matrix of {family.aligned.name}; name another claim"
        )


def _check_subspace(name: str, fraction: float, family: Family, claims: Mapping[str, Sequence[Basis | None]]) -> None:
    """Refuse a subspace in no matrix, one without a direction, and one that leaves nothing outside."""
    every = [basis for of_tensor in claims.values() for basis in of_tensor]
    sides = [
        [side for side in (basis.left, basis.right) if side is not None] if basis else [torch.empty(1, 0)]
        for basis in every
    ]
    _check_any(name, family, any(every))
    if not any(columns.numel() for matrix in sides for columns in matrix):
        raise ConfigError(
            f"{name!r} has no direction in any matrix of {family.aligned.name}: the update that it is made from is zero"
        )
    if all(columns.shape[0] == columns.shape[1] for matrix in sides for columns in matrix):
        raise ConfigError(
            f"{name!r} at fraction {fraction:g} spans every matrix of {family.aligned.name}: outside it nothing could "
            "be trained, and inside it everything; lower the fraction"
        )
