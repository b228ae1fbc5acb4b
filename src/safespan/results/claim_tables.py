"""The tables of the tests of a claim (METHODS §7): one class per table, one field per column."""

from dataclasses import dataclass
from math import nan
from typing import Annotated as A

from safespan.results.column_kinds import (
    AttackSuccess,
    Draw,
    EnergyKept,
    Finetune,
    Fraction,
    GeneralAbility,
    HypothesisName,
    OverRefusalRate,
    RefusalRate,
    TestName,
    Utility,
    area,
    count,
    probability,
    share,
)
from safespan.results.columns import Column, Row


def _draw_name(draw: int | None) -> str:
    return "own" if draw is None else f"control{draw}"


@dataclass(frozen=True)
class MeasuredMeans(Row):
    """What the tests of a claim measure of one set of weights: means over prompts."""

    useful_probability: A[float, probability("of the first tokens of the right answer together")]
    harmful_probability: A[float, probability("of the first tokens of the forbidden answer together")]
    compliance: A[float, probability("logistic of log_odds: of complying against refusing")]
    log_odds: A[float, Column("log p(first token of the forbidden answer) − log p(that of a refusal)", "nats")]
    useful_nll: A[float, Column("−log p of the right answers, per token", "nats a token", 0)]
    harmful_nll: A[float, Column("−log p of the forbidden answers, per token", "nats a token", 0)]
    general_nll: A[float, Column("−log p of the right answers to the general task, per token", "nats a token", 0)] = nan
    utility: Utility = nan
    attack_success_rate: AttackSuccess = nan
    general_ability: GeneralAbility = nan
    refusal_rate: RefusalRate = nan
    over_refusal_rate: OverRefusalRate = nan
    prompts: A[int | None, count("harmful prompts that were asked; of the other kinds as many, if there are", 1)] = None


@dataclass(frozen=True)
class UpdatePoint(Row):
    """One set of weights of the update test: those of a hypothesis, or of one draw of its random controls."""

    finetune: Finetune
    hypothesis: HypothesisName
    method: A[str, Column("parallel or orthogonal of a subspace; edit of a defence")]
    fraction: Fraction
    draw: Draw

    @property
    def name(self) -> str:
        """Name of the point in file names."""
        return f"{self.finetune}-{self.hypothesis}-{self.method}-{self.fraction:g}-{_draw_name(self.draw)}"


@dataclass(frozen=True)
class _EnergyKept(Row):
    energy_kept: EnergyKept


@dataclass(frozen=True)
class UpdateRow(MeasuredMeans, _EnergyKept, UpdatePoint):
    """The update test: every set of weights that it asked, of each hypothesis and its random controls."""


@dataclass(frozen=True)
class AblationPoint(Row):
    """One set of weights of the ablation test: W_A − α R_f of a hypothesis, or of one draw of its random controls."""

    hypothesis: HypothesisName
    fraction: Fraction
    strength: A[float, Column("α: how much of R_f is removed; 0: the aligned model as it is", "factor", 0)]
    draw: Draw

    @property
    def name(self) -> str:
        """Name of the point in file names."""
        return f"{self.hypothesis}-{self.fraction:g}-{self.strength:g}-{_draw_name(self.draw)}"


@dataclass(frozen=True)
class _Ablated(Row):
    energy_removed: A[
        float, Column("‖change of W_A‖² over ‖W_A‖², over all tensors", "share of ‖W_A‖²", 0, any_scale=True)
    ]
    capability_lost: A[float, Column("x: 1 − exp(ℓ_A − ℓ), ℓ the mean NLL of right answers", "share", high=1)]


@dataclass(frozen=True)
class AblationRow(MeasuredMeans, _Ablated, AblationPoint):
    """The ablation test: the aligned model without what a hypothesis names, and without random directions."""


@dataclass(frozen=True)
class TrainingPoint(Row):
    """One moment of one training of the training test."""

    run: A[str, Column("claim, random, unprotected, or clean: unprotected on the data without its harmful rows")]
    hypothesis: A[str | None, Column("the claim that is protected; of a random run empty")]
    group: A[int | None, Column("of claims and their random runs: the same ranks and side, penalty or blocks", low=0)]
    draw: Draw
    seed: A[int, Column("of the data's order and of its harmful rows", low=0)]
    step: A[int, count("optimizer steps so far; 0: the aligned model")]

    @property
    def training(self) -> str:
        """Name of the training."""
        drawn = "" if self.draw is None else f"-{self.group}-{self.draw}"
        return f"{self.run}{f'-{self.hypothesis}' if self.hypothesis else ''}{drawn}"

    @property
    def name(self) -> str:
        """Name of the point in file names."""
        return f"{self.training}-{self.step}"


@dataclass(frozen=True)
class TrainingRow(MeasuredMeans, TrainingPoint):
    """The training test: outcomes along each training, with a claim protected or none."""


@dataclass(frozen=True)
class _Decision(Row):
    verdict: A[str | None, Column("selective, not selective, inconclusive, not measurable, or too small to test")] = (
        None
    )
    direction: A[
        str | None,
        Column(
            "of a selective one: harm first, refusal lost first, utility first or capability lost first; of training "
            "protects or exposes"
        ),
    ] = None
    prompts_needed: A[int | None, count("of an inconclusive one: prompts of each kind that would decide", 1)] = None
    controls_needed: A[int | None, count("of an inconclusive one: draws of controls that would decide", 1)] = None
    reason: A[str | None, Column("why, in words")] = None


@dataclass(frozen=True)
class CoverageRow(Row):
    """How much of the model each hypothesis names in each test: a row per hypothesis and test."""

    hypothesis: HypothesisName
    test: TestName
    matrices_named: A[
        int,
        count(
            "matrices with a direction or a penalty, in a frozen block, or changed by the edit at the largest fraction"
        ),
    ]
    matrices: A[int, count("matrices of the model", 1)]
    energy_named: A[float, share("of ‖Δ‖² in the named matrices; Δ is Δ_T, in the ablation test W_A or Δ_A")]
    energy_held: A[float, share("of ‖Δ‖² in the subspace at the largest fraction; empty of other claims")]
    remark: A[str | None, Column("how the claim departs from its paper on this model")]


Construct = A[
    str,
    Column("harm: the forbidden answer is given; refusal: the request is not refused", values=("harm", "refusal")),
]


@dataclass(frozen=True)
class _Judged(Row):
    hypothesis: A[str, Column("name of the hypothesis, or of the positive control: base (ablation), clean (training)")]
    kind: A[
        str,
        Column("of the hypothesis: subspace, layers, addition, blocks or penalty; of other controls model or training"),
    ]
    group: A[
        str,
        Column(
            "claim, positive control, or random: a random subspace, the negative control",
            values=("claim", "positive control", "random"),
        ),
    ]
    test: TestName
    construct: Construct


@dataclass(frozen=True)
class VerdictRow(_Decision, _Judged):
    """The verdicts, by each construct's primary measure: a row per hypothesis, test and construct."""


@dataclass(frozen=True)
class ClaimVerdict(VerdictRow):
    """A verdict with the figures of the outcome that it rests on, for programs: no table holds it.

    Attributes:
        outcome: what u and h are measured by; None where nothing was measured, as of a claim that is too small to test.
        statistic: D (update), A (ablation) or T (training).
        estimate: the statistic, NaN where it is not measurable.
        low: lower end of its interval.
        high: upper end of it.
        confidence: of the interval, of all claims of a test together.
        words: the verdict as a sentence without its full stop.
    """

    outcome: str | None = None
    statistic: str | None = None
    estimate: float = nan
    low: float = nan
    high: float = nan
    confidence: float = nan
    words: str = ""


@dataclass(frozen=True)
class _EstimateFigures(Row):
    hypothesis: HypothesisName
    test: TestName
    construct: Construct
    outcome: A[str, Column("what u and h are measured by")]
    votes: A[bool, Column("whether it is the construct's primary measure, which the verdict rests on")]
    method: A[str | None, Column("of S: parallel, orthogonal or edit; of T over all steps: steps")]
    statistic: A[
        str,
        Column(
            "S: more harm at equal utility than controls, above 0; D (update): harm goes before utility, above 0; A "
            "(ablation): harm comes before capability is lost, above 0; T (training): less harm than controls, above 0"
        ),
    ]
    decides: A[bool, Column("whether the verdict under this outcome rests on this row, which alone holds it")]
    estimate: A[float, area("the statistic; empty where it is not measurable")] = nan
    low: A[float, Column("lower end of its interval", "area")] = nan
    high: A[float, Column("upper end of it", "area")] = nan
    confidence: A[
        float, probability("of the interval; of a row that decides for a claim 0.9 (a setting) of all claims together")
    ] = nan
    relative: A[float, Column("estimate over that of the positive control, where that is certain enough", "ratio")] = (
        nan
    )
    relative_low: A[float, Column("lower end of its interval (Fieller), of the same confidence", "ratio")] = nan
    relative_high: A[float, Column("upper end of it", "ratio")] = nan
    p_null: A[float, probability("p of the test that the claim is one more random draw")] = nan
    p_margin: A[float, probability("p of the test that |statistic| is within the margin")] = nan
    p_selective: A[float, probability("the larger of both, Holm-corrected over the claims")] = nan
    area: A[
        float,
        Column(
            "of the claim: area under h(u), of D half the difference of both methods'; of ablation area under h(x); of "
            "training h",
            "area",
            -1,
            1,
        ),
    ] = nan
    control_area: A[float, Column("mean of the same over its random controls", "area", -1, 1)] = nan
    control_sd: A[
        float,
        Column("s: standard deviation of the same over draws; errors take it as at least 1 / (2 prompts)", "area", 0),
    ] = nan
    draws: A[int | None, count("R: draws of controls")] = None
    prompts: A[int | None, count("N: prompts of the kind that has fewer", 1)] = None
    error: A[float, Column("standard error of the estimate, from controls and prompts", "area", 0)] = nan
    freedom: A[float, Column("ν: its degrees of freedom", "", 0, any_scale=True)] = nan
    sd_prompts: A[float, Column("standard error from the choice of prompts alone, controls held fixed", "area", 0)] = (
        nan
    )


@dataclass(frozen=True)
class _PooledFigures(_Judged):
    recipe: A[str, Column("title of the study whose seeds are pooled")]
    outcome: A[str, Column("what u and h are measured by")]
    votes: A[bool, Column("whether it is the construct's primary measure")]
    statistic: A[str, Column("D, A or T, as in estimates")]
    seeds: A[int, count("k: runs that differ by their seed alone, in which it was measured", 1)]
    estimate: A[float, area("mean over seeds")]
    low: A[float, Column("lower end of its interval, by t with k − 1 degrees of freedom", "area")] = nan
    high: A[float, Column("upper end of it", "area")] = nan
    confidence: A[float, probability("of the interval; 0.9 (a setting) of all claims together")] = nan
    sd: A[float, Column("standard deviation over seeds", "area", 0)] = nan
    tau: A[float, Column("the same without what the errors within seeds explain", "area", 0)] = nan
    p_selective: A[float, probability("p of |mean| within the margin, Holm-corrected over the claims")] = nan


@dataclass(frozen=True)
class PooledRow(_Decision, _PooledFigures):
    """Verdicts about a recipe, over its seeds: a row per hypothesis, test and outcome."""


@dataclass(frozen=True)
class EstimateRow(_Decision, _EstimateFigures):
    """The figures behind each verdict: a row per hypothesis, test, outcome and statistic."""
