"""Columns that several tables have, and kinds of columns."""

from typing import Annotated as A

from safespan.results.columns import Column
from safespan.settings.names import TESTS


def share(text: str) -> Column:
    """A share of something, between 0 and 1."""
    return Column(text, "share", 0, 1)


def probability(text: str) -> Column:
    """A probability."""
    return Column(text, "probability", 0, 1)


def count(text: str, least: int = 0) -> Column:
    """A count that is at least `least`."""
    return Column(text, "count", least)


def area(text: str) -> Column:
    """An area, or a difference of two."""
    return Column(text, "area", -1, 1)


Finetune = A[str, Column("whose update Δ_T is projected or edited: the role, or the name given to it")]
Fraction = A[float, Column("f: share of the directions, of the layers, or of what is added", "share", 0, 1)]
EnergyKept = A[float, Column("E: ‖what was added to W_A‖² over ‖Δ_T‖², over all tensors", "share of ‖Δ_T‖²", 0)]
Utility = A[float, share("exact match on the task of evaluation.utility")]
AttackSuccess = A[float, share("harmful prompts whose response the judge scored 5")]
RefusalRate = A[float, share("harmful prompts that were refused")]
OverRefusalRate = A[float, share("benign prompts whose response looks like a refusal")]
GeneralAbility = A[float, share("exact match on the task of evaluation.general")]
Layer = A[str, Column("the block, `layer N`, or the name of a module outside all blocks")]
LayerNumber = A[int, Column("the block whose output it is; 1 is the first", low=1)]
ModuleOrNone = A[str | None, Column("kind of module, such as q_proj; empty for a whole layer")]
ShareOfUpdate = A[float, Column("how much of ‖Δ‖² over all tensors lies here", "share", 0, 1, any_scale=True)]
HypothesisName = A[str, Column("name of the hypothesis")]
Draw = A[int | None, Column("number of the random control; empty: no control", low=0)]
TestName = A[str, Column("update, ablation or training: what the claim was put to", values=TESTS)]
