"""The harmfulness direction (Zhao et al.): harmfulness is encoded where the instruction ends, refusal behind it."""

import torch

from safespan.subspaces.captured import CapturedActivations
from safespan.subspaces.hypotheses.refusal_direction import ranked, remark_on, written
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis
from safespan.subspaces.weight_matrix import WeightMatrix


def _remark(captured: CapturedActivations) -> str:
    """What departs from the paper: the layer, and where the instruction ends."""
    candidates = captured.refusal_candidates()
    remarks = [remark_on(candidates)]
    if candidates:
        layer = ranked(candidates)[0]
        ends = {kind: captured.instruction_after(kind, layer) for kind in ("useful", "harmful")}
        same = [
            rows is not None and torch.equal(rows, captured.residual_after(kind, layer)) for kind, rows in ends.items()
        ]
        if any(rows is None for rows in ends.values()):
            remarks.append("there is no direction: the chat template does not write every instruction as it is given")
        elif all(same):
            remarks.append(
                "nothing follows the instruction in the prompts, so that the tokens of harmfulness and of refusal are "
                "one: there is no chat template, or it ends with the instruction"
            )
    return "; ".join(filter(None, remarks))


@hypothesis(
    "harmfulness-direction",
    claim="harmfulness is one direction: the difference of means where the user's instruction ends, not the prompt",
    paper="https://arxiv.org/abs/2507.11878",
    needs=["prompts"],
    removes="weights",
    remark=_remark,
)
def harmfulness_direction(matrix: WeightMatrix) -> Basis | None:
    """h / ‖h‖, h = mean over harmful − mean over useful prompts, both where the user's instruction ends.

    The layer is that of `refusal-direction`, which is the same difference at the last token of the prompt.
    """
    candidates = matrix.refusal_candidates()
    if not candidates:
        return None
    layer = ranked(candidates)[0]
    harmful, useful = (matrix.instruction_after(kind, layer) for kind in ("harmful", "useful"))
    if harmful is None or useful is None:
        return None
    direction = harmful.double().mean(0) - useful.double().mean(0)
    if not bool(direction.any()):
        return None
    return written(matrix, (direction / direction.norm())[:, None].float())
