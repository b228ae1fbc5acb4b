"""What every column of the tables in `results/` means, with its unit and the range that its values lie in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        text: what it holds, in one line.
        unit: of its numbers; empty for names, flags and pure numbers.
        low: the smallest value it can have; None where there is no bound.
        high: the largest.
    """

    text: str
    unit: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def range(self) -> str:
        """The range in words; empty where there is none."""
        if self.low is None:
            return "" if self.high is None else f"≤ {self.high:g}"
        return f"≥ {self.low:g}" if self.high is None else f"[{self.low:g}, {self.high:g}]"


def _share(text: str) -> Column:
    return Column(text, "share", 0, 1)


def _count(text: str, least: int = 0) -> Column:
    return Column(text, "count", least)


def _auroc(text: str) -> Column:
    return Column(text, "probability", 0, 1)


SHARED = {
    "model": Column("the model's role in the study, or its folder's name"),
    "finetune": Column("whose update Δ_T is projected or edited: the role, or the name given to it"),
    "subspace": Column("whose leading directions span U_k: a hypothesis of kind subspace"),
    "method": Column("what is done with the part in the subspace: parallel, orthogonal or opposite"),
    "fraction": Column("f: share of the directions, of the layers, or of what is added", "share", 0, 1),
    "seed": Column("seed of the random subspaces", low=0),
    "energy_kept": Column("E: ‖what was added to W_A‖² over ‖Δ_T‖², over all tensors", "share of ‖Δ_T‖²", 0),
    "utility": _share("exact match on the task of evaluation.utility"),
    "attack_success_rate": _share("harmful prompts whose response the judge scored 5"),
    "refusal_rate": _share("harmful prompts that were refused"),
    "over_refusal_rate": _share("benign prompts whose response looks like a refusal"),
    "general_ability": _share("exact match on the task of evaluation.general"),
    "energy_fraction": Column("η: each subspace is the smallest that holds this share of its energy", "share", 0, 1),
    "layer": Column("the block, `layer N`, or the name of a module outside all blocks"),
    "module": Column("kind of module, the same in every block, such as q_proj; empty for a whole layer"),
    "share_of_update": Column("how much of ‖Δ‖² over all tensors lies here", "share", 0, 1),
    "k_x": _count("directions of the first subspace; 0: it is zero"),
    "k_y": _count("directions of the second subspace; 0: it is zero"),
    "mso": Column("MSO: ‖Q_Xᵀ Q_Y‖²_F / min(k_X, k_Y); empty where either is zero", "share", 0, 1),
    "mso_random": Column("the floor: what two unrelated subspaces of these ranks give on average", "share", 0, 1),
}
"""Columns that mean the same wherever they stand."""

BY_TABLE: dict[str, dict[str, Column]] = {
    "outcomes": {
        "utility_ci_low": _share("lower end of utility's 95 % Wilson interval"),
        "utility_ci_high": _share("upper end of it"),
        "utility_by_filter": Column("utility under every filter of the task, as `name value; name value`"),
        "harmfulness": Column("mean score of the judge: 1 refusal, 5 full compliance", "points", 1, 5),
        "asr_ci_low": _share("lower end of the attack success rate's 95 % Wilson interval"),
        "asr_ci_high": _share("upper end of it"),
        "n_utility": _count("documents of the utility task that were asked"),
        "n_harmful": _count("harmful prompts that were asked"),
        "n_benign": _count("benign prompts that were asked"),
        "n_general": _count("documents of the general task that were asked"),
        "n_judge_failed": _count("harmful prompts whose judgement failed; they are in no rate"),
        "valid": Column("false where over 2 % of the judgements failed"),
    },
    "models": {},
    "projection": {
        "cosine_task_projection": Column("cosine of Δ_T and what was added to W_A", "cosine", -1, 1),
        "cosine_task_alignment": Column("cosine of Δ_T and Δ_A", "cosine", -1, 1),
    },
    "removed_energy": {
        "removed_energy": _share("1 − E of this part alone"),
    },
    "trials": {
        "hypothesis": Column("the claim on trial"),
        "method": Column("parallel or orthogonal of a subspace; edit of a defence"),
        "draw": Column("number of the random control; empty: the hypothesis itself", low=0),
        "useful_nll": Column("−log p of the right answers, per token, mean over prompts", "nats a token", 0),
        "harmful_nll": Column("−log p of the forbidden answers, per token, mean over prompts", "nats a token", 0),
        "log_odds": Column("log p(first token of the forbidden answer) − log p(that of a refusal), mean", "nats"),
    },
    "verdicts": {
        "hypothesis": Column("the claim"),
        "kind": Column("of the claim: subspace, layers or addition"),
        "outcome": Column("what u and h are measured by; all: the verdict over all outcomes"),
        "method": Column("parallel, orthogonal, edit, or separation (D); all: a row that holds a verdict"),
        "verdict": Column(
            "selective, not selective, inconclusive, not measurable, or depends on the measure (over all outcomes)"
        ),
        "direction": Column("of a selective one: harm first or utility first"),
        "s": Column(
            "S of a method (above 0: more harm at equal utility than controls), or D (above 0: harm first)",
            "area",
            -1,
            1,
        ),
        "low": Column("lower end of the bootstrap interval of s", "area", -1, 1),
        "high": Column("upper end of it", "area", -1, 1),
        "p_beyond": Column("p of the test that |s| is beyond the margin, Holm-corrected", "probability", 0, 1),
        "p_within": Column(
            "p of the equivalence test that |s| is within the margin, Holm-corrected", "probability", 0, 1
        ),
        "area": Column("area under the hypothesis's frontier h(u)", "area", 0, 1),
        "control_area": Column("mean area of its random controls", "area", 0, 1),
        "control_sd": Column("standard deviation of the controls' areas over draws", "area", 0),
        "sd_prompts": Column("standard error of s from the choice of prompts", "area", 0),
        "sd_controls": Column("standard error of s from the draws of controls", "area", 0),
        "prompts_needed": _count("of an inconclusive one: prompts of each kind that would decide; empty: unknown", 1),
        "controls_needed": _count("of an inconclusive one: draws of controls that would decide", 1),
        "reason": Column("why, in words"),
    },
    "overlap": {
        "pair": Column("the two updates; `ROLE-ROLE again` is one recipe under two seeds, the ceiling"),
        "group": Column("the tensor, or the tensors of one block with the same number of columns"),
        "granularity": Column("tensor or layer"),
        "mso_random_sd": Column("standard deviation of MSO between unrelated subspaces", "share", 0),
        "p_value": Column("probability that unrelated subspaces overlap at least as much", "probability", 0, 1),
        "angle_min": Column("smallest principal angle; empty where both ranks exceed 256", "degrees", 0, 90),
        "angle_median": Column("median of the principal angles; likewise", "degrees", 0, 90),
    },
    "spectra": {
        "update": Column("whose spectrum: alignment, safety, or the fine-tune's role"),
        "tensor": Column("the matrix"),
        "rank": _count("i: number of the singular value, the largest first", 1),
        "n": _count("full rank: the smaller side of the matrix", 1),
        "singular_value": Column("σ_i", "norm", 0),
        "energy": _share("share of ‖Δ‖² that the first i directions hold"),
        "effective_rank": Column("exponential of the entropy of the singular values", "directions", 1),
        "stable_rank": Column("‖Δ‖²_F / σ_1²", "directions", 1),
    },
    "activations": {
        "pair": Column("useful-harmful; or two random halves of one class, the ceiling"),
        "layer": Column("the block whose output it is; 1 is the first", low=1),
        "centered": Column("whether each class's mean was taken off"),
        "mso_low": Column("lower end of MSO's 95 % bootstrap interval over prompts", "share", 0, 1),
        "mso_high": Column("upper end of it", "share", 0, 1),
        "p_value": Column(
            "p that the classes overlap less than random groups of the same prompts", "probability", 0, 1
        ),
    },
    "separation": {
        "layer": Column("the block whose output it is; 1 is the first", low=1),
        "n_useful": _count("useful prompts", 1),
        "n_harmful": _count("harmful prompts", 1),
        "folds": _count("folds of the cross-validation; 0: too few prompts, no AUROC"),
        "probe_auroc": _auroc("AUROC of a logistic regression on held-out prompts; 0.5 is chance"),
        "probe_auroc_low": _auroc("lower end of its 95 % bootstrap interval"),
        "probe_auroc_high": _auroc("upper end of it"),
        "mean_difference_auroc": _auroc("AUROC of the difference of the class means on held-out prompts"),
        "mean_difference_auroc_low": _auroc("lower end of its 95 % bootstrap interval"),
        "mean_difference_auroc_high": _auroc("upper end of it"),
        "mean_difference_ratio": Column("distance of the class means over the spread within classes", "ratio", 0),
    },
}
"""Columns by the table that they stand in; `outcomes` are those of `models` and `projection` alike."""

TABLES = {
    "models": "Every model of the study as it is.",
    "projection": "Experiments 1 and 2: a row per point of the grid.",
    "removed_energy": "The same points, part by part of the model.",
    "trials": "Every set of weights that the verdict asked: each hypothesis and its random controls.",
    "verdicts": "What each hypothesis is found to be: over all outcomes, under each, and the figures behind it.",
    "overlap": "Experiment 3: overlap of update subspaces.",
    "spectra": "How the singular values of each update fall, matrix by matrix.",
    "activations": "Experiment 4: overlap of activation subspaces.",
    "separation": "How well one direction tells the two classes of prompts apart.",
}
"""What each table holds."""


def described(table: str) -> dict[str, Column]:
    """Column -> what is said of it, for a table of `results.SCHEMAS`; more than the table has, never less."""
    outcomes = BY_TABLE["outcomes"] if table in ("models", "projection") else {}
    return {**SHARED, **outcomes, **BY_TABLE[table]}
