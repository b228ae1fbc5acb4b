"""Verdicts on every claim in every test, and the estimates behind them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import nan

from safespan.errors import DataError
from safespan.results.claim_tables import EstimateRow, VerdictRow
from safespan.settings import VerdictConfig
from safespan.settings.names import Test
from safespan.settings.verdict import Look
from safespan.statistics.effects import DECIDING, Effect, relative
from safespan.statistics.verdicts import (
    CLAIM,
    INCONCLUSIVE,
    NOT_MEASURABLE,
    POSITIVE,
    RANDOM,
    Judged,
    Verdict,
    judge_family,
)
from safespan.study.evidence import OUTCOMES, Evidence, outcomes_of

EvidenceOf = Callable[[str, str], Evidence]
"""(hypothesis, outcome) -> what there is."""


@dataclass(frozen=True)
class ClaimInTest:
    """A hypothesis, or a control of the test, in one test.

    Attributes:
        hypothesis: its name.
        kind: of the hypothesis; of a positive control that is none `model` or `training`.
        group: claim, positive control or random.
        untested: the verdict on it if it was not put to the test, with its reason; else None.
        remark: how the claim departs from its paper on this model; may be empty.
    """

    hypothesis: str
    kind: str
    group: str
    untested: Verdict | None = None
    remark: str = ""


def group_of(hypothesis: str, test: Test) -> str:
    """The group of a hypothesis in one test: the oracle is the positive control of the update test alone."""
    if hypothesis == "random":
        return RANDOM
    return POSITIVE if (hypothesis, test) == ("harmful-update", "update") else CLAIM


LEAST_CHANCE = 0.25
"""A claim whose chance to be decided by the last look is less is asked no more: it lies too near the margin."""


@dataclass(frozen=True)
class _Result:
    """What one look gave of one claim under one outcome.

    Attributes:
        evidence: what there was.
        judged: None where there is no verdict.
        chance: that the last look decides it; 0 where it is decided, or this is the last look.
    """

    evidence: Evidence
    judged: Judged | None
    chance: float

    @property
    def is_open(self) -> bool:
        """Whether another look is worth its cost."""
        return self.chance >= LEAST_CHANCE

    @property
    def is_given_up(self) -> bool:
        """Whether a look that there is was not worth its cost."""
        return 0 < self.chance < LEAST_CHANCE


class Judgement:
    """Judges the claims of one test, look by look; a verdict that is reached stands.

    Args:
        settings: of the verdict.
        test: the test.
        claims: all that are in the test, controls among them.
        looks: all that there can be.
    """

    def __init__(
        self, settings: VerdictConfig, test: Test, claims: Sequence[ClaimInTest], looks: Sequence[Look]
    ) -> None:
        self.test, self._settings, self._claims, self._looks = test, settings, claims, looks
        self._level = settings.level / len(looks)
        self._results: dict[tuple[str, str], _Result] = {}
        self._open = [one for one in claims if one.untested is None]

    @property
    def open(self) -> list[str]:
        """The hypotheses that are worth another look: of which a construct has no verdict yet."""
        return [one.hypothesis for one in self._open]

    def look(self, number: int, evidence: EvidenceOf) -> None:
        """Judge what is open by what there is at a look."""
        for outcome in outcomes_of(self.test):
            self._judge(outcome, evidence, self._looks[number])
        voting = [name for name, outcome in outcomes_of(self.test).items() if outcome.votes]
        self._open = [one for one in self._open if any(self._results[one.hypothesis, name].is_open for name in voting)]

    def _judge(self, outcome: str, evidence: EvidenceOf, look: Look) -> None:
        """Claims are one family; each control of the test stands outside, by itself."""
        chosen = OUTCOMES[outcome]

        def undecided(one: ClaimInTest) -> bool:
            """An outcome that does not vote is judged at every look of its claim."""
            known = self._results.get((one.hypothesis, outcome))
            is_decided = known and (known.judged is None or known.judged.verdict.verdict != INCONCLUSIVE)
            return not (is_decided and chosen.votes)

        asked = {one.hypothesis: one for one in self._open if undecided(one)}
        found = {name: evidence(name, outcome) for name in asked}
        measured = {name: one.effects for name, one in found.items() if not one.reason}
        of_claims = {name: effects for name, effects in measured.items() if asked[name].group == CLAIM}
        families = [of_claims, *({name: measured[name]} for name in measured if name not in of_claims)]
        judged: dict[str, Judged] = {}
        for number, family in enumerate(families):
            decided = self._decided(outcome, of_claims) if number == 0 else {}
            judged |= judge_family(family, chosen.construct, self._settings.margin, self._level, decided)
        for name in asked:
            chance = self._chance(found[name], judged.get(name), look)
            self._results[name, outcome] = _Result(found[name], judged.get(name), chance)

    def _chance(self, evidence: Evidence, judged: Judged | None, look: Look) -> float:
        """That the last look decides what this one does not."""
        last = self._looks[-1]
        if judged is None or judged.verdict.verdict != INCONCLUSIVE or look == last:
            return 0.0
        deciding = evidence.effects[-1]
        prompts = round(deciding.prompts * last.prompts / look.prompts)
        return deciding.chance_to_decide(self._settings.margin, judged.level, last.controls, prompts)

    def _decided(self, outcome: str, family: Mapping[str, object]) -> dict[str, str]:
        """The verdicts on claims from looks before."""
        return {
            one.hypothesis: known.judged.verdict.verdict
            for one in self._claims
            if one.group == CLAIM and one.hypothesis not in family
            if (known := self._results.get((one.hypothesis, outcome))) and known.judged
        }

    def verdicts(self) -> Iterator[VerdictRow]:
        """A row for each claim and construct."""
        for one in self._claims:
            for name, outcome in outcomes_of(self.test).items():
                if outcome.votes:
                    row = (one.hypothesis, one.kind, one.group, self.test, outcome.construct)
                    verdict = self._verdict(one, name)
                    reason = "; ".join(filter(None, (verdict.reason, one.remark)))
                    yield VerdictRow(*row, **asdict(replace(verdict, reason=reason)))

    def estimates(self) -> Iterator[EstimateRow]:
        """A row for each claim, outcome and effect; one without figures where there is none."""
        for one in self._claims:
            for outcome in outcomes_of(self.test) if one.untested is None else ():
                result = self._results[one.hypothesis, outcome]
                *others, deciding = result.evidence.effects or (None,)
                yield from (self._row(one, outcome, other, self._level) for other in others)
                level = result.judged.level if result.judged else self._level
                decided = {"decides": True, **asdict(self._verdict(one, outcome))}
                decided["p_selective"] = result.judged.p if result.judged else nan
                if deciding and (positive := self._positive(outcome)) and one.group == CLAIM:
                    beside = relative(deciding, positive, level) or (nan,) * 3
                    decided |= dict(zip(("relative", "relative_low", "relative_high"), beside, strict=True))
                yield replace(self._row(one, outcome, deciding, level), **decided)

    def _verdict(self, one: ClaimInTest, outcome: str) -> Verdict:
        if one.untested is not None:
            verdict, note = one.untested, ""
        else:
            result = self._results[one.hypothesis, outcome]
            verdict, note = Verdict(NOT_MEASURABLE, result.evidence.reason), ""
            if result.judged:
                verdict, note = result.judged.verdict, result.evidence.note
            if result.is_given_up:
                last = self._looks[-1]
                given_up = f"no more was asked, as the most that this study asks ({last.prompts} prompts of each kind"
                given_up += f" and {last.controls} controls) would hardly decide it"
                note = "; ".join(filter(None, (note, given_up)))
        return replace(verdict, reason="; ".join(filter(None, (verdict.reason, note))))

    def _positive(self, outcome: str) -> Effect | None:
        """The effect of the positive control."""
        names = [one.hypothesis for one in self._claims if one.group == POSITIVE and one.untested is None]
        results = [self._results[name, outcome] for name in names]
        return results[0].evidence.effects[-1] if results and results[0].judged else None

    def _row(self, one: ClaimInTest, outcome: str, effect: Effect | None, level: float) -> EstimateRow:
        row = EstimateRow(
            hypothesis=one.hypothesis,
            test=self.test,
            construct=OUTCOMES[outcome].construct,
            outcome=outcome,
            votes=OUTCOMES[outcome].votes,
            method=effect.method or None if effect else None,
            statistic=effect.statistic if effect else DECIDING[self.test],
            decides=False,
        )
        if effect is None:
            return row
        half = effect.half_width(level)
        return replace(
            row,
            estimate=effect.value,
            low=effect.value - half,
            high=effect.value + half,
            confidence=1 - 2 * level,
            p_null=effect.p_null(),
            p_margin=effect.p_margin(self._settings.margin),
            area=effect.own,
            control_area=effect.control_mean if len(effect.controls) else nan,
            control_sd=effect.control_sd,
            draws=len(effect.controls),
            prompts=effect.prompts,
            error=effect.error,
            freedom=effect.freedom,
            sd_prompts=effect.sd_prompts,
        )


def judged_by_looks(
    settings: VerdictConfig,
    test: Test,
    claims: Sequence[ClaimInTest],
    looks: Sequence[Look],
    evidence_at: Callable[[Sequence[str], Look], EvidenceOf | None],
) -> Judgement:
    """Look after look, until all claims are decided.

    Args:
        settings: of the verdict.
        test: the test.
        claims: all that are in the test.
        looks: at the test.
        evidence_at: gives what there is of some hypotheses at a look; None where it is not known, which ends the looks.

    Raises:
        DataError: nothing is known at the first look.
    """
    judgement = Judgement(settings, test, claims, looks)
    for number, look in enumerate(looks):
        evidence = evidence_at(judgement.open, look) if judgement.open else None
        if evidence is None:
            if number == 0 and judgement.open:
                raise DataError(
                    f"records of the {test} test are missing, or not of this study as it stands: run the study again"
                )
            break
        judgement.look(number, evidence)
    return judgement
