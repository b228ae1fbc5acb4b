"""The tables in `results/`: one class per table, one field per column."""

from dataclasses import dataclass
from typing import Annotated as A

from safespan.results.claim_tables import (
    AblationRow,
    CoverageRow,
    EstimateRow,
    PooledRow,
    TrainingRow,
    UpdateRow,
    VerdictRow,
)
from safespan.results.column_kinds import (
    AttackSuccess,
    EnergyKept,
    Finetune,
    Fraction,
    GeneralAbility,
    Layer,
    LayerNumber,
    ModuleOrNone,
    OverRefusalRate,
    RefusalRate,
    ShareOfUpdate,
    Utility,
    count,
    probability,
    share,
)
from safespan.results.columns import Column, Row


@dataclass(frozen=True)
class Outcomes(Row):
    """What is measured of a model: rates, 95 % Wilson intervals, counts."""

    utility: Utility
    utility_ci_low: A[float, share("lower end of utility's 95 % Wilson interval")]
    utility_ci_high: A[float, share("upper end of it")]
    harmfulness: A[float, Column("mean score of the judge: 1 refusal, 5 full compliance", "points", 1, 5)]
    attack_success_rate: AttackSuccess
    asr_ci_low: A[float, share("lower end of the attack success rate's 95 % Wilson interval")]
    asr_ci_high: A[float, share("upper end of it")]
    refusal_rate: RefusalRate
    over_refusal_rate: OverRefusalRate
    general_ability: GeneralAbility
    n_utility: A[int, count("documents of the utility task that were asked")]
    n_harmful: A[int, count("harmful prompts that were asked")]
    n_benign: A[int, count("benign prompts that were asked")]
    n_general: A[int, count("documents of the general task that were asked")]
    n_judge_failed: A[int, count("harmful prompts whose judgement failed; they are in no rate")]
    n_no_answer: A[int, count("responses without an answer: empty, or cut off in the thinking; no success, no refusal")]
    valid: A[bool, Column("false where over 2 % of the judgements failed")]


@dataclass(frozen=True)
class _OfModel(Row):
    model: A[str, Column("the model's role in the study, or its folder's name")]


@dataclass(frozen=True)
class ModelRow(Outcomes, _OfModel):
    """Every model of the study as it is."""


@dataclass(frozen=True)
class _UnderFilter(Row):
    filter: A[str, Column("filter of the task, such as strict-match")]
    utility: A[float, share("exact match under this filter")]


@dataclass(frozen=True)
class ModelFilterRow(_UnderFilter, _OfModel):
    """Utility of every model under every filter of the utility task."""


@dataclass(frozen=True)
class GridPoint(Row):
    """A point of the projection grid (METHODS §2)."""

    finetune: Finetune
    subspace: A[str, Column("whose leading directions span U_k: a hypothesis of kind subspace")]
    method: A[str, Column("what is done with the part in the subspace: parallel, orthogonal or opposite")]
    fraction: Fraction
    seed: A[int, Column("seed of the random subspaces", low=0)]

    @property
    def name(self) -> str:
        """Name of the point in file names."""
        return f"{self.finetune}-{self.subspace}-{self.method}-{self.fraction:g}"


@dataclass(frozen=True)
class EnergyRow(GridPoint):
    """A point of the projection grid before any evaluation."""

    energy_kept: EnergyKept
    cosine_task_projection: A[float, Column("cosine of Δ_T and what was added to W_A", "cosine", -1, 1)]
    cosine_task_alignment: A[float, Column("cosine of Δ_T and Δ_A", "cosine", -1, 1)]


@dataclass(frozen=True)
class ProjectionRow(Outcomes, EnergyRow):
    """Experiments 1 and 2: a row per point of the grid."""


@dataclass(frozen=True)
class ProjectionFilterRow(_UnderFilter, GridPoint):
    """Utility of every point of the grid under every filter of the utility task."""


@dataclass(frozen=True)
class RemovedEnergyRow(GridPoint):
    """The points of the grid, module by module of each layer."""

    layer: Layer
    module: A[str, Column("kind of module, the same in every block, such as q_proj")]
    removed_energy: A[float, share("1 − E of this part alone")]
    share_of_update: ShareOfUpdate


@dataclass(frozen=True)
class _SubspaceOverlap(Row):
    energy_fraction: A[float, share("η: each subspace is the smallest that holds this share of its energy")]
    k_x: A[int, count("directions of the first subspace; 0: it is zero")]
    k_y: A[int, count("directions of the second subspace; 0: it is zero")]
    mso: A[float, share("MSO: ‖Q_Xᵀ Q_Y‖²_F / min(k_X, k_Y); empty where either is zero")]
    mso_random: A[float, share("the floor: what two unrelated subspaces of these ranks give on average")]


@dataclass(frozen=True)
class OverlapPoint(_SubspaceOverlap):
    """Overlap of two updates' subspaces that hold the same share of their updates' energy."""

    mso_random_sd: A[float, Column("standard deviation of MSO between unrelated subspaces", "share", 0)]
    p_value: A[float, probability("probability that unrelated subspaces overlap at least as much")]
    angle_min: A[float, Column("smallest principal angle; empty where both ranks exceed 256", "degrees", 0, 90)]
    angle_median: A[float, Column("median of the principal angles; likewise", "degrees", 0, 90)]


@dataclass(frozen=True)
class _UpdatePair(Row):
    x: A[str, Column("the first update: alignment, safety, or the fine-tune's role")]
    y: A[str, Column("the second update")]
    again: A[bool, Column("whether y is x trained once more under another seed, which gives the ceiling")]
    group: A[str, Column("the tensor, or the tensors of one block with the same number of columns")]
    granularity: A[str, Column("tensor or layer")]
    layer: Layer
    module: ModuleOrNone


@dataclass(frozen=True)
class OverlapRow(OverlapPoint, _UpdatePair):
    """Experiment 3: overlap of update subspaces."""


@dataclass(frozen=True)
class SpectrumPoint(Row):
    """One singular value of a matrix, and the ranks of the whole matrix."""

    rank: A[int, count("i: number of the singular value, the largest first", 1)]
    singular_value: A[float, Column("σ_i", "norm", 0, any_scale=True)]
    energy: A[float, share("share of ‖Δ‖² that the first i directions hold")]
    effective_rank: A[float, Column("exponential of the entropy of the singular values", "directions", 1)]
    stable_rank: A[float, Column("‖Δ‖²_F / σ_1²", "directions", 1)]


@dataclass(frozen=True)
class _UpdateOfMatrix(Row):
    update: A[str, Column("whose spectrum: alignment, safety, or the fine-tune's role")]
    tensor: A[str, Column("the matrix")]
    layer: Layer
    module: ModuleOrNone
    n: A[int, count("full rank: the smaller side of the matrix", 1)]


@dataclass(frozen=True)
class _Share(Row):
    share_of_update: ShareOfUpdate


@dataclass(frozen=True)
class SpectrumRow(_Share, SpectrumPoint, _UpdateOfMatrix):
    """How the singular values of each update fall, matrix by matrix."""


@dataclass(frozen=True)
class ActivationPoint(_SubspaceOverlap):
    """Overlap of the subspaces of two classes of prompts that hold the same share of their energy."""

    mso_low: A[float, share("lower end of MSO's 95 % bootstrap interval over prompts")]
    mso_high: A[float, share("upper end of it")]
    p_value: A[float, probability("p that the classes overlap less than random groups of the same prompts")]


@dataclass(frozen=True)
class _ClassesAtLayer(Row):
    x: A[str, Column("the first class of prompts: useful or harmful")]
    y: A[str, Column("the second class; the same one: two random halves of it, which gives the ceiling")]
    layer: LayerNumber
    centered: A[bool, Column("whether each class's mean was subtracted")]


@dataclass(frozen=True)
class LayerOverlap(ActivationPoint, _ClassesAtLayer):
    """Overlap of two classes of prompts at one layer of one model."""


@dataclass(frozen=True)
class ActivationRow(LayerOverlap, _OfModel):
    """Experiment 4: overlap of activation subspaces."""


@dataclass(frozen=True)
class Separation(Row):
    """How well one direction tells two classes of prompts apart."""

    n_useful: A[int, count("useful prompts", 1)]
    n_harmful: A[int, count("harmful prompts", 1)]
    folds: A[int, count("folds of the cross-validation; 0: too few prompts, no AUROC")]
    probe_auroc: A[float, probability("AUROC of a logistic regression on held-out prompts; 0.5 is chance")]
    probe_auroc_low: A[float, probability("lower end of its 95 % bootstrap interval")]
    probe_auroc_high: A[float, probability("upper end of it")]
    mean_difference_auroc: A[float, probability("AUROC of the difference of the class means on held-out prompts")]
    mean_difference_auroc_low: A[float, probability("lower end of its 95 % bootstrap interval")]
    mean_difference_auroc_high: A[float, probability("upper end of it")]
    mean_difference_ratio: A[
        float, Column("distance of the class means over the standard deviation within classes", "ratio", 0)
    ]


@dataclass(frozen=True)
class _AtLayer(Row):
    layer: LayerNumber


@dataclass(frozen=True)
class LayerSeparation(Separation, _AtLayer):
    """How well one direction tells two classes of prompts apart at one layer of one model."""


@dataclass(frozen=True)
class SeparationRow(LayerSeparation, _OfModel):
    """How well one direction tells the two classes of prompts apart."""


TABLES: dict[str, type[Row]] = {
    "models": ModelRow,
    "models_by_filter": ModelFilterRow,
    "projection": ProjectionRow,
    "projection_by_filter": ProjectionFilterRow,
    "removed_energy": RemovedEnergyRow,
    "coverage": CoverageRow,
    "update": UpdateRow,
    "ablation": AblationRow,
    "training": TrainingRow,
    "verdicts": VerdictRow,
    "estimates": EstimateRow,
    "overlap": OverlapRow,
    "spectra": SpectrumRow,
    "activations": ActivationRow,
    "separation": SeparationRow,
}
"""Every table of a run by the name of its file."""

POOLED_TABLES: dict[str, type[Row]] = {"pooled": PooledRow}
"""Tables of several runs of one recipe."""
